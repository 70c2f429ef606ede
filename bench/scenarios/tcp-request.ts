/** Short requests and answers over kept connections. The proxies see opaque TCP. */

import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, Scenario } from '../harness/model.ts';
import { runWrk } from '../harness/wrk.ts';

const MICROSECONDS = 1e6;
const WARM_UP_SECONDS = 1;

function requestCase(connections: number): Case {
  return {
    name: `c${connections}`,
    description: `${connections} kept connections, 12-byte answers, closed loop`,
    metric: 'CPU per request',
    unit: 'µs',
    throughputUnit: 'req/s',
    target: { kind: 'ratio', atMost: 1.1 },
  };
}

export const scenario: Scenario = {
  name: 'tcp-request',
  description: 'short request and response over kept connections: CPU microseconds of the proxy per exchange',
  programs: ['nginx', 'wrk'],
  hasControl: true,
  cases: [requestCase(32), requestCase(2)],
  async open({ folder }) {
    const backend = await startHttpBackend(folder);
    return {
      backendPort: backend.port,
      async measure(name, turn) {
        const connections = Number(name.slice(1));
        return measureLoad(turn, {
          scale: MICROSECONDS,
          verify: ({ port }) => verifyHttp(port),
          async warmUp({ port }) {
            await runWrk(port, connections, WARM_UP_SECONDS);
          },
          load: ({ port }) => runWrk(port, connections, turn.seconds),
        });
      },
    };
  },
};
