/** Short requests and answers over kept connections. The proxies see opaque TCP. */

import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Workshop } from '../harness/model.ts';
import { runWrk } from '../harness/wrk.ts';

const MICROSECONDS = 1e6;
const WARM_UP_SECONDS = 1;

/** Closed loops over `connections` kept connections; `atMost` of the best rival's CPU time. */
export function requestCase(connections: number, atMost: number): Case {
  return {
    name: `c${connections}`,
    description: `${connections} kept connections, 12-byte answers, closed loop`,
    metric: 'CPU per request',
    unit: 'µs',
    throughputUnit: 'req/s',
    target: { kind: 'ratio', atMost },
  };
}

/** Opens the scenario; what is between client and backend makes no difference to it. */
export async function openRequest({ folder }: Workshop): Promise<OpenScenario> {
  const backend = await startHttpBackend(folder);
  return {
    backendPort: backend.port,
    async measure(name, turn) {
      const connections = Number(name.slice(1));
      return measureLoad(turn, {
        scale: MICROSECONDS,
        exchange: verifyHttp,
        verify: ({ port }) => verifyHttp(port),
        async warmUp({ port }) {
          await runWrk(port, connections, WARM_UP_SECONDS);
        },
        load: ({ port }) => runWrk(port, connections, turn.seconds),
      });
    },
  };
}

export const scenario: Scenario = {
  name: 'tcp-request',
  description: 'short request and response over kept connections: CPU microseconds of the proxy per exchange',
  programs: ['nginx', 'wrk'],
  layout: 'one',
  hasControl: true,
  cases: [requestCase(32, 1.1), requestCase(2, 1.1)],
  open: openRequest,
};
