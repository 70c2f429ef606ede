/** Exchanges that are due at fixed times whatever the proxy does, well below what any of them can carry. */

import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import { runClient } from '../harness/client.ts';
import { measureLoad } from '../harness/load.ts';
import type { Scenario } from '../harness/model.ts';

const WARM_UP_SECONDS = 1;
const CONNECTIONS = 32;
/** About a third of what one core carries here: the tail shows the proxy and not a queue. */
const PER_SECOND = 10_000;

export const scenario: Scenario = {
  name: 'tcp-latency',
  description: `open loop, ${PER_SECOND} exchanges per second on a fixed schedule: 99th percentile`,
  programs: ['nginx', 'g++'],
  layout: 'one',
  hasControl: true,
  cases: [
    {
      name: 'r10000',
      description: `${CONNECTIONS} kept connections, ${PER_SECOND} exchanges per second, open loop`,
      metric: 'p99',
      unit: 'ms',
      throughputUnit: 'req/s',
      target: undefined,
    },
  ],
  async open(workshop) {
    const tool = await workshop.tool('client');
    const backend = await startHttpBackend(workshop.folder);
    return {
      backendPort: backend.port,
      async measure(_name, turn) {
        const measured = await measureLoad(turn, {
          scale: 1,
          exchange: verifyHttp,
          verify: ({ port }) => verifyHttp(port),
          async warmUp({ port }) {
            await runClient(tool, 'rate', [port, CONNECTIONS, PER_SECOND], WARM_UP_SECONDS);
          },
          load: ({ port }) => runClient(tool, 'rate', [port, CONNECTIONS, PER_SECOND], turn.seconds),
        });
        return { ...measured, value: measured.latencyMs?.p99 };
      },
    };
  },
};
