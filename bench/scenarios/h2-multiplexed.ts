/** Small requests and calls of gRPC in HTTP/2, many at once on each connection. */

import { startCalls, startFiles } from '../backends/h2.ts';
import { runH2load } from '../harness/h2load.ts';
import { measureLoad } from '../harness/load.ts';
import type { Case, OpenScenario, Scenario, Workshop } from '../harness/model.ts';

const MICROSECONDS = 1e6;
/**
 * Whoever compiles while it runs has done so after some 40,000 requests, once per process: 0.5 s of CPU time that must be neither
 * in the cost of a request nor forgotten (README, measurements).
 */
const WARM_UP_SECONDS = 4;

/** What is asked for: a file of 100 bytes, the same with another query each time, or a unary call of gRPC with messages of 200. */
type Asked = 'get' | 'varied' | 'unary';

/** More than anybody keeps in a table or a cache of heads. */
const QUERIES = 5000;

const WORDS: Readonly<Record<Asked, string>> = {
  get: 'GET, answers of 100 bytes',
  varied: `GET, answers of 100 bytes, ${QUERIES} queries in turn`,
  unary: 'unary gRPC calls, messages of 200 bytes each way',
};

/** Closed loops of `streams` on each of `connections` kept connections; `atMost` of the best rival's CPU time, where that is aimed at. */
export function h2Case(asked: Asked, connections: number, streams: number, atMost?: number): Case {
  return {
    name: `${asked}-c${connections}-m${streams}`,
    description: `${WORDS[asked]}; ${connections} kept connections with ${streams} streams at once, closed loop`,
    metric: 'CPU per request',
    unit: 'µs',
    throughputUnit: 'req/s',
    target: atMost === undefined ? undefined : { kind: 'ratio', atMost },
  };
}

/** Opens the scenario; what is between client and backend makes no difference to it. */
export async function openH2({ folder }: Workshop): Promise<OpenScenario> {
  const get = await startFiles(folder);
  const varied = { ...get, load: { ...get.load, queries: QUERIES } };
  const services = { get, varied, unary: await startCalls(folder) };
  return {
    backendPort: get.port,
    async measure(name, turn) {
      const [asked, connections, streams] = name.split(/-[cm]/);
      const service = services[asked as Asked];
      const load = { ...service.load, connections: Number(connections), streams: Number(streams) };
      return measureLoad(turn, {
        scale: MICROSECONDS,
        backendPorts: [service.port],
        exchange: (port) => service.verify(port),
        verify: ({ port }) => service.verify(port),
        async warmUp({ port }) {
          await runH2load(port, WARM_UP_SECONDS, load);
        },
        load: ({ port }) => runH2load(port, turn.seconds, load),
      });
    },
  };
}

export const scenario: Scenario = {
  name: 'h2-multiplexed',
  description:
    'HTTP/2 on both sides, many streams on each connection: CPU microseconds of the proxy per request',
  programs: ['h2load', 'nghttpd'],
  layout: 'h2',
  hasControl: true,
  cases: [h2Case('get', 8, 32, 0.5), h2Case('varied', 8, 32), h2Case('unary', 8, 32, 0.5)],
  open: openH2,
};
