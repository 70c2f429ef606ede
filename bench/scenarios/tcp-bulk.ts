/** One connection that moves as much as it can. */

import { startBulkBackend, transfer, type Way } from '../backends/bulk.ts';
import { type LoadResult, measureLoad } from '../harness/load.ts';
import type { Case, Scenario } from '../harness/model.ts';

const GB = 1e9;
/** Several times all buffers on the way, and a moment's work when every byte is compared. */
const VERIFY_BYTES = 256e6;
/** About a second at the speed of these proxies; says how much to move in the measured time. */
const WARM_UP_BYTES = 2 * GB;

function bulkCase(name: Way, direction: string): Case {
  return {
    name,
    description: `one connection, bytes flow ${direction}`,
    metric: 'CPU per GB',
    unit: 's',
    throughputUnit: 'GB/s',
    target: { kind: 'ratio', atMost: 0.85 },
  };
}

export const scenario: Scenario = {
  name: 'tcp-bulk',
  description: 'bulk transfer over one connection: CPU seconds of the proxy per gigabyte',
  programs: ['g++'],
  hasControl: true,
  cases: [bulkCase('download', 'from server to client'), bulkCase('upload', 'from client to server')],
  async open(workshop) {
    const tool = await workshop.tool('bulk');
    const backendPort = await startBulkBackend(tool);
    return {
      backendPort,
      async measure(name, turn) {
        const way = name as Way;
        let bytesPerSecond = 0;
        return measureLoad(turn, {
          scale: 1,
          async verify({ port }) {
            await transfer(tool, port, way, VERIFY_BYTES, true);
          },
          async warmUp({ port }) {
            const { bytes, seconds } = await transfer(tool, port, way, WARM_UP_BYTES, false);
            bytesPerSecond = bytes / seconds;
          },
          async load({ port }): Promise<LoadResult> {
            const amount = Math.ceil(bytesPerSecond * turn.seconds);
            const { bytes, seconds } = await transfer(tool, port, way, amount, false);
            return { units: bytes / GB, seconds, latencyMs: undefined };
          },
        });
      },
    };
  },
};
