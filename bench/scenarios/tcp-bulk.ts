/** One connection that moves as much as it can. */

import { startBulkBackend, transfer, type Way } from '../backends/bulk.ts';
import { type LoadResult, measureLoad } from '../harness/load.ts';
import type { Case, Measurement, OpenScenario, Scenario, Turn, Workshop } from '../harness/model.ts';

export const GB = 1e9;
/** Several times all buffers on the way, and a moment's work when every byte is compared. */
const VERIFY_BYTES = 256e6;
/** Enough for a full exchange, and nothing that takes time. */
const EXCHANGE_BYTES = 1000;

/** Both ways over one connection; `atMost` of the best rival's CPU time. */
export function bulkCases(atMost: number): Case[] {
  return (['download', 'upload'] satisfies Way[]).map((name) => ({
    name,
    description: `one connection, bytes flow from ${name === 'download' ? 'server to client' : 'client to server'}`,
    metric: 'CPU per GB',
    unit: 's',
    throughputUnit: 'GB/s',
    target: { kind: 'ratio', atMost },
  }));
}

/**
 * Opens the scenario; what is between client and backend makes no difference to it.
 * @param warmUpBytes about a second at the speed of the proxies; says how much to move in the measured time
 */
export async function openBulk(workshop: Workshop, warmUpBytes: number): Promise<OpenScenario> {
  const tool = await workshop.tool('bulk');
  const backendPort = await startBulkBackend(tool);
  return { backendPort, measure: (name, turn) => measureBulk({ tool, warmUpBytes }, name as Way, turn) };
}

async function measureBulk(
  { tool, warmUpBytes }: { readonly tool: string; readonly warmUpBytes: number },
  way: Way,
  turn: Turn,
): Promise<Measurement> {
  let bytesPerSecond = 0;
  return measureLoad(turn, {
    scale: 1,
    async exchange(port) {
      await transfer(tool, port, way, EXCHANGE_BYTES, true);
    },
    async verify({ port }) {
      await transfer(tool, port, way, VERIFY_BYTES, true);
    },
    async warmUp({ port }) {
      const { bytes, seconds } = await transfer(tool, port, way, warmUpBytes, false);
      bytesPerSecond = bytes / seconds;
    },
    async load({ port }): Promise<LoadResult> {
      const amount = Math.ceil(bytesPerSecond * turn.seconds);
      const { bytes, seconds } = await transfer(tool, port, way, amount, false);
      return { units: bytes / GB, seconds, latencyMs: undefined };
    },
  });
}

export const scenario: Scenario = {
  name: 'tcp-bulk',
  description: 'bulk transfer over one connection: CPU seconds of the proxy per gigabyte',
  programs: ['g++'],
  layout: 'one',
  hasControl: true,
  cases: bulkCases(0.85),
  open: (workshop) => openBulk(workshop, 2 * GB),
};
