/** One stream on one connection that brings as much as it can. */

import { download, startStreamBackend } from '../backends/h2-stream.ts';
import { measureLoad } from '../harness/load.ts';
import type { OpenScenario, Scenario, Workshop } from '../harness/model.ts';
import { GB } from './tcp-bulk.ts';

/** Several times all windows and buffers on the way, and a moment's work when every byte is compared. */
const VERIFY_BYTES = 128e6;
/** About a second; says how much to move in the measured time. */
const WARM_UP_BYTES = GB / 2;
/** More than a frame. */
const EXCHANGE_BYTES = 20_000;

async function open(workshop: Workshop): Promise<OpenScenario> {
  const tool = await workshop.tool('h2-stream');
  return {
    backendPort: await startStreamBackend(tool),
    measure(_name, turn) {
      let bytesPerSecond = 0;
      return measureLoad(turn, {
        scale: 1,
        exchange: async (port) => void (await download(tool, port, EXCHANGE_BYTES, true)),
        verify: async ({ port }) => void (await download(tool, port, VERIFY_BYTES, true)),
        async warmUp({ port }) {
          const { bytes, seconds } = await download(tool, port, WARM_UP_BYTES, false);
          bytesPerSecond = bytes / seconds;
        },
        async load({ port }) {
          const amount = Math.ceil(bytesPerSecond * turn.seconds);
          const { bytes, seconds } = await download(tool, port, amount, false);
          return { units: bytes / GB, seconds, latencyMs: undefined };
        },
      });
    },
  };
}

export const scenario: Scenario = {
  name: 'h2-download',
  description: 'bulk download over one stream of HTTP/2: CPU seconds of the proxy per gigabyte',
  programs: ['g++'],
  layout: 'h2',
  hasControl: true,
  cases: [
    {
      name: 'download',
      description: 'one connection, one stream, bytes flow from server to client',
      metric: 'CPU per GB',
      unit: 's',
      throughputUnit: 'GB/s',
      target: { kind: 'ratio', atMost: 1 },
    },
  ],
  open,
};
