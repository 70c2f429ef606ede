/** Replicas of a service that take a fixed time each for an answer. */

import { join } from 'node:path';
import { Job } from '../harness/job.ts';
import { freePort, projectRoot } from '../harness/machine.ts';

/** Starts one replica per entry. The harness ends them with all other processes. @returns their ports, in order */
export async function startReplicas(answerMs: readonly number[]): Promise<number[]> {
  const ports: number[] = [];
  for (const _ of answerMs) ports.push(await freePort());
  const script = join(projectRoot(), 'bench/load/replicas.ts');
  const args = ports.map((port, index) => `${port}=${answerMs[index]}`);
  const job = await Job.start(process.execPath, [script, ...args]);
  for (const port of ports) await job.waitForPort(port);
  return ports;
}
