/** Bidirectional streams of gRPC that stay open: messages go to the server and come back. */

import { chat, startStreamBackend } from '../backends/h2-stream.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Workshop } from '../harness/model.ts';

const MICROSECONDS = 1e6;
/** As long as in h2-multiplexed: whoever compiles while it runs does so in it. */
const WARM_UP_SECONDS = 4;
const MESSAGE_BYTES = 100;
/** A message comes back before the next one is sent: each counts. */
const MESSAGES_PER_EXCHANGE = 2;

function chatCase(connections: number, streams: number): Case {
  return {
    name: `c${connections}-s${streams}`,
    description: `${connections} connections with ${streams} streams each, a message of ${MESSAGE_BYTES} bytes under way on every one`,
    metric: 'CPU per message',
    unit: 'µs',
    throughputUnit: 'messages/s',
    target: { kind: 'ratio', atMost: 1 },
  };
}

async function open(workshop: Workshop): Promise<OpenScenario> {
  const tool = await workshop.tool('h2-stream');
  const backendPort = await startStreamBackend(tool);
  const shortest = { connections: 1, streams: 1, bytes: MESSAGE_BYTES };
  const exchange = async (port: number) => {
    await chat(tool, port, shortest, 0);
  };
  return {
    backendPort,
    measure: (name, turn) => {
      const [connections, streams] = name.slice(1).split('-s').map(Number);
      const load = { connections, streams, bytes: MESSAGE_BYTES };
      return measureLoad(turn, {
        scale: MICROSECONDS,
        exchange,
        // Of more than a frame and a window, to see that nothing is lost or changed where they end.
        verify: async ({ port }) => void (await chat(tool, port, { ...shortest, bytes: 300_000 }, 0)),
        warmUp: async ({ port }) => void (await chat(tool, port, load, WARM_UP_SECONDS)),
        async load({ port }) {
          const result = await chat(tool, port, load, turn.seconds);
          return { ...result, units: result.units * MESSAGES_PER_EXCHANGE };
        },
      });
    },
  };
}

export const scenario: Scenario = {
  name: 'h2-stream',
  description: 'bidirectional gRPC streams that stay open: CPU microseconds of the proxy per message',
  programs: ['g++'],
  layout: 'h2',
  hasControl: true,
  cases: [chatCase(8, 32), chatCase(8, 1)],
  open,
};
