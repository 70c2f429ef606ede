/** Requests over kept connections, with answers of several sizes. The proxies understand HTTP/1. */

import { FILE_BYTES, startHttpBackend, verifyFile, verifyFileInH2 } from '../backends/http.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Workshop } from '../harness/model.ts';
import { runWrk } from '../harness/wrk.ts';

const MICROSECONDS = 1e6;
/**
 * Whoever compiles while it runs spends 0.3 s of CPU time on it once per process, which must be neither in the cost of a request nor
 * forgotten (README, measurements). Most of it passes with the first 40,000 requests; the second load is for what is done when connections
 * begin and end.
 */
const WARM_UPS = 2;
const WARM_UP_SECONDS = 3;

/** Closed loops over `connections` kept connections; `atMost` of the best rival's CPU time. */
export function httpCase(connections: number, bytes: (typeof FILE_BYTES)[number], atMost: number): Case {
  return {
    name: `c${connections}-${bytes}`,
    description: `${connections} kept connections, bodies of ${bytes.toLocaleString('en-US')} bytes, closed loop`,
    metric: 'CPU per request',
    unit: 'µs',
    throughputUnit: 'req/s',
    target: { kind: 'ratio', atMost },
  };
}

/** Opens the scenario; what is between client and backend makes no difference to it. */
export async function openHttp({ folder }: Workshop): Promise<OpenScenario> {
  const backend = await startHttpBackend(folder);
  return {
    backendPort: backend.port,
    async measure(name, turn) {
      const [connections, bytes] = name.slice(1).split('-').map(Number);
      const body = { path: `/files/${bytes}`, bytes };
      return measureLoad(turn, {
        scale: MICROSECONDS,
        exchange: (port) => verifyFile(port, bytes),
        inside: { exchange: (port) => verifyFileInH2(port, bytes), backendPort: backend.h2Port },
        verify: ({ port }) => verifyFile(port, bytes),
        async warmUp({ port }) {
          for (let n = 0; n < WARM_UPS; n++) await runWrk(port, connections, WARM_UP_SECONDS, body);
        },
        load: ({ port }) => runWrk(port, connections, turn.seconds, body),
      });
    },
  };
}

export const scenario: Scenario = {
  name: 'http-request',
  description: 'HTTP/1 requests over kept connections: CPU microseconds of the proxy per request',
  programs: ['nginx', 'wrk'],
  layout: 'http',
  hasControl: true,
  // A thousand answers of a megabyte at once show how much the kernel's buffers hold, and take seconds each.
  cases: [
    ...FILE_BYTES.map((bytes) => httpCase(32, bytes, 0.95)),
    httpCase(1000, 100, 0.95),
    httpCase(1000, 10_000, 0.95),
  ],
  open: openHttp,
};
