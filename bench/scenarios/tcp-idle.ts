/** Connections that made one exchange and then stay open. */

import { UserError } from '../../proxy/core/errors.ts';
import { startHttpBackend, verifyHttp } from '../backends/http.ts';
import { parseClientReport, runClient } from '../harness/client.ts';
import { verifyHop } from '../harness/hop.ts';
import { Job } from '../harness/job.ts';
import type { Case, Measurement, OpenScenario, Scenario, Turn, Workshop } from '../harness/model.ts';
import { settledMemory } from '../harness/settle.ts';

/** A few connections and a moment, so that what is set up once is there before the first reading. */
const WARM_UP = { concurrency: 4, seconds: 0.2 } as const;

const NOTHING_ELSE = {
  cpuSeconds: undefined,
  throughput: undefined,
  latencyMs: undefined,
} as const;

export const IDLE_CASE: Case = {
  name: 'memory',
  description: 'RssAnon + RssShmem per connection, above the process after a few connections',
  metric: 'memory per idle connection',
  unit: 'KiB',
  throughputUnit: undefined,
  target: { kind: 'ratio', atMost: 1 },
};

/** Opens the scenario; what is between client and backend makes no difference to it. */
export async function openIdle(workshop: Workshop): Promise<OpenScenario> {
  const tool = await workshop.tool('client');
  const backend = await startHttpBackend(workshop.folder);
  return {
    backendPort: backend.port,
    measure: (_name, turn) => measureIdle(turn, tool, workshop.connections),
  };
}

export const scenario: Scenario = {
  name: 'tcp-idle',
  description: 'memory per idle connection after one exchange, above the same process before',
  programs: ['nginx', 'g++'],
  layout: 'one',
  hasControl: false,
  cases: [IDLE_CASE],
  open: openIdle,
};

async function measureIdle(turn: Turn, tool: string, connections: number): Promise<Measurement> {
  const proxy = await turn.startProxy();
  await verifyHop(proxy.hop, verifyHttp);
  await verifyHttp(proxy.port);
  await runClient(tool, 'connect', [proxy.port, WARM_UP.concurrency], WARM_UP.seconds);
  const before = await settledMemory(proxy);
  const client = await Job.start(tool, ['idle', String(proxy.port), String(connections)]);
  try {
    if ((await client.nextLine()) !== 'open') {
      await client.finish();
      throw new UserError('the client did not open its connections');
    }
    const memoryKb = await settledMemory(proxy);
    client.endInput();
    const line = await client.nextLine();
    await client.finish();
    const { units } = parseClientReport(line ?? '');
    if (units !== 2 * connections) {
      throw new UserError(`${units} exchanges on ${connections} connections, not two on each`);
    }
    await verifyHttp(proxy.port);
    const growth = (memoryKb?.anonymous ?? 0) - (before?.anonymous ?? 0);
    // What was given back meanwhile can be more than idle connections need: then they cost nothing that can be seen.
    return { ...NOTHING_ELSE, value: Math.max(growth, 0) / connections, memoryKb };
  } finally {
    await client.stop();
  }
}
