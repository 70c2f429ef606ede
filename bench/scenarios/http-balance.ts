/** One replica of three is 20 times slower than the others: how much of that do clients see? */

import { verifyHttp } from '../backends/http.ts';
import { startReplicas } from '../backends/replicas.ts';
import { runClient } from '../harness/client.ts';
import type { Measurement, Scenario, Turn } from '../harness/model.ts';

/** Long against the cost of a request, so that the tail is the choice of replicas and not the machine. */
const FAST_MS = 2;
const SLOW_MS = 20 * FAST_MS;
/** A few requests at a time in the fast replicas, as in a service that is not busy. */
const PER_SECOND = 1000;
/** More than are busy even when a third of all requests goes to the slow replica. */
const CONNECTIONS = 128;
/** The first requests find out which replica is slow. */
const WARM_UP_SECONDS = 2;

export const scenario: Scenario = {
  name: 'http-balance',
  description: `one replica of three 20 times slower (${FAST_MS} and ${SLOW_MS} ms): p99 against that of the fast ones alone`,
  programs: ['g++'],
  layout: 'balance',
  hasControl: false,
  cases: [
    {
      name: 'slow-replica',
      description: `${PER_SECOND} requests per second, open loop; through the same proxy with three replicas and with the two fast ones`,
      metric: 'p99 with all replicas / with the fast ones',
      unit: 'times',
      throughputUnit: 'req/s',
      target: { kind: 'absolute', atMost: 2 },
    },
  ],
  async open(workshop) {
    const tool = await workshop.tool('client');
    const ports = await startReplicas([FAST_MS, FAST_MS, SLOW_MS]);
    const backend = { backendPort: ports[0], backendPorts: ports };
    return { ...backend, measure: (_name, turn) => measureBalance(turn, tool, ports) };
  },
};

async function measureBalance(turn: Turn, tool: string, ports: readonly number[]): Promise<Measurement> {
  const fast = await load(turn, tool, ports.slice(0, 2));
  const all = await load(turn, tool, ports);
  return { ...all, value: all.latencyMs!.p99 / fast.latencyMs!.p99 };
}

/** Loads a proxy of its own for these replicas. */
async function load(turn: Turn, tool: string, ports: readonly number[]): Promise<Measurement> {
  const proxy = await turn.startProxy(ports);
  const numbers = [proxy.port, CONNECTIONS, PER_SECOND];
  await verifyHttp(proxy.port);
  await runClient(tool, 'rate', numbers, WARM_UP_SECONDS);
  const { units, seconds, latencyMs } = await runClient(tool, 'rate', numbers, turn.seconds);
  await verifyHttp(proxy.port);
  proxy.check();
  return {
    value: undefined,
    cpuSeconds: undefined,
    throughput: units / seconds,
    latencyMs,
    memoryKb: proxy.memory(),
  };
}
