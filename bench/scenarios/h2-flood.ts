/** Calls of gRPC on a fixed schedule while others flood the proxy: what is left of it for those who mean well? */

import { join } from 'node:path';
import { type Calls, callAtRate, startStreamBackend } from '../backends/h2-stream.ts';
import { Job } from '../harness/job.ts';
import { projectRoot } from '../harness/machine.ts';
import type { Case, Measurement, Scenario, Turn } from '../harness/model.ts';

/** As long as in h2-multiplexed: whoever compiles while it runs does so in it. */
const WARM_UP_SECONDS = 4;
/** Attackers at once. */
const ATTACKERS = 4;
/** A tenth of what the least of the proxies carries: all of it should remain possible. */
const CALLS: Calls = { connections: 8, bytes: 200, perSecond: 2000 };

/** What bench/load/flood.ts does. */
const FLOODS = {
  'rapid-reset': 'requests that are reset at once',
  ping: 'PING',
  continuation: 'CONTINUATION without content and without an end',
} as const;

function floodCase([name, what]: [string, string]): Case {
  return {
    name,
    description: `${CALLS.perSecond} calls per second, open loop, beside ${ATTACKERS} connections full of ${what}`,
    metric: 'p99 with the flood / without',
    unit: 'times',
    throughputUnit: 'calls/s',
    target: undefined,
  };
}

export const scenario: Scenario = {
  name: 'h2-flood',
  description:
    'honest calls of gRPC beside a flood: their p99 against that without it (latencies, rate and memory are those with it)',
  programs: ['g++'],
  layout: 'h2',
  hasControl: false,
  cases: Object.entries(FLOODS).map(floodCase),
  async open(workshop) {
    const tool = await workshop.tool('h2-stream');
    const backendPort = await startStreamBackend(tool);
    return { backendPort, measure: (name, turn) => measureFlood(turn, tool, name) };
  },
};

async function measureFlood(turn: Turn, tool: string, flood: string): Promise<Measurement> {
  const proxy = await turn.startProxy();
  await callAtRate(tool, proxy.port, CALLS, WARM_UP_SECONDS);
  const calm = await callAtRate(tool, proxy.port, CALLS, turn.seconds);
  const script = join(projectRoot(), 'bench/load/flood.ts');
  const attacker = await Job.start(process.execPath, [script, String(proxy.port), String(ATTACKERS), flood]);
  const { units, seconds, latencyMs } = await callAtRate(tool, proxy.port, CALLS, turn.seconds);
  const memoryKb = proxy.memory();
  attacker.check();
  await attacker.stop();
  proxy.check();
  return {
    value: latencyMs!.p99 / calm.latencyMs!.p99,
    cpuSeconds: undefined,
    throughput: units / seconds,
    latencyMs,
    memoryKb,
  };
}
