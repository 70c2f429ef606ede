/** Exchanges that are due at fixed times whatever the proxy does, well below what any of them can carry. */

import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import { runClient } from '../harness/client.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Target, Workshop } from '../harness/model.ts';

/** Node.js compiles what is hot while the first 40,000 requests pass, on the core that the load needs. */
const WARM_UP_EXCHANGES = 40_000;
const CONNECTIONS = 32;
/** About a third of what one core carries here: the tail shows the proxy and not a queue. */
const PER_SECOND = 10_000;

/** So many exchanges per second on a fixed schedule. */
export function latencyCase(perSecond: number, target: Target | undefined): Case {
  return {
    name: `r${perSecond}`,
    description: `${CONNECTIONS} kept connections, ${perSecond} exchanges per second, open loop`,
    metric: 'p99',
    unit: 'ms',
    throughputUnit: 'req/s',
    target,
  };
}

/** Opens the scenario; what is between client and backend makes no difference to it. */
export async function openLatency(workshop: Workshop): Promise<OpenScenario> {
  const tool = await workshop.tool('client');
  const backend = await startHttpBackend(workshop.folder);
  return {
    backendPort: backend.port,
    async measure(name, turn) {
      const perSecond = Number(name.slice(1));
      const measured = await measureLoad(turn, {
        scale: 1,
        exchange: verifyHttp,
        verify: ({ port }) => verifyHttp(port),
        async warmUp({ port }) {
          const seconds = Math.ceil(WARM_UP_EXCHANGES / perSecond);
          await runClient(tool, 'rate', [port, CONNECTIONS, perSecond], seconds);
        },
        load: ({ port }) => runClient(tool, 'rate', [port, CONNECTIONS, perSecond], turn.seconds),
      });
      return { ...measured, value: measured.latencyMs?.p99 };
    },
  };
}

export const scenario: Scenario = {
  name: 'tcp-latency',
  description: `open loop, ${PER_SECOND} exchanges per second on a fixed schedule: 99th percentile`,
  programs: ['nginx', 'g++'],
  layout: 'one',
  hasControl: true,
  cases: [latencyCase(PER_SECOND, undefined)],
  open: openLatency,
};
