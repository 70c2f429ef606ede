/** Unary gRPC calls that are due at fixed times whatever the proxy does. */

import { type Calls, callAtRate, startStreamBackend } from '../backends/h2-stream.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Workshop } from '../harness/model.ts';

/** As long as in h2-multiplexed: whoever compiles while it runs does so in it. */
const WARM_UP_SECONDS = 4;
const CONNECTIONS = 8;
const MESSAGE_BYTES = 200;
/**
 * The last two are near half of the most that HAProxy and nghttpx answer on two fast cores with the load and the backend beside them: 65,000 to
 * 80,000, and 180,000. At the last one HAProxy falls behind, and fails where that is by more than the client waits for.
 */
const RATES = [10_000, 30_000, 90_000];

function latencyCase(perSecond: number): Case {
  return {
    name: `r${perSecond}`,
    description: `${CONNECTIONS} connections, ${perSecond} calls per second, messages of ${MESSAGE_BYTES} bytes, open loop`,
    metric: 'p99',
    unit: 'ms',
    throughputUnit: 'calls/s',
    target: { kind: 'spread' },
  };
}

async function open(workshop: Workshop): Promise<OpenScenario> {
  const tool = await workshop.tool('h2-stream');
  const slow: Calls = { connections: 1, bytes: MESSAGE_BYTES, perSecond: 1000 };
  const exchange = async (port: number) => void (await callAtRate(tool, port, slow, 0.01));
  return {
    backendPort: await startStreamBackend(tool),
    async measure(name, turn) {
      const load: Calls = {
        connections: CONNECTIONS,
        bytes: MESSAGE_BYTES,
        perSecond: Number(name.slice(1)),
      };
      const measured = await measureLoad(turn, {
        scale: 1,
        exchange,
        verify: ({ port }) => exchange(port),
        warmUp: async ({ port }) => void (await callAtRate(tool, port, load, WARM_UP_SECONDS)),
        load: ({ port }) => callAtRate(tool, port, load, turn.seconds),
      });
      return { ...measured, value: measured.latencyMs?.p99 };
    },
  };
}

export const scenario: Scenario = {
  name: 'h2-latency',
  description: 'open loop, unary gRPC calls on a fixed schedule: 99th percentile',
  programs: ['g++'],
  layout: 'h2',
  hasControl: true,
  cases: RATES.map(latencyCase),
  open,
};
