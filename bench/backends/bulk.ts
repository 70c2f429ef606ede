/** The server of bench/load/bulk.cc, and its client. */

import { UserError } from '../../proxy/core/errors.ts';
import { Job, runProgram } from '../harness/job.ts';

/** Which way the bytes go, seen from the client. */
export type Way = 'download' | 'upload';

/** A transfer that was complete to the byte. */
export interface Transfer {
  readonly bytes: number;
  readonly seconds: number;
}

/** No transfer here is meant to take this long: it hangs. */
export const TRANSFER_TIMEOUT_MS = 300_000;

/** Starts the server. @returns its port on 127.0.0.1 */
export async function startBulkBackend(tool: string): Promise<number> {
  return listeningPort(await Job.start(tool, ['server']));
}

/** The port that a server prints when it listens. */
export async function listeningPort(job: Job): Promise<number> {
  const line = await job.nextLine();
  job.check();
  if (line === undefined) throw new UserError('the server ended at once');
  return Number(line);
}

/**
 * Moves exactly `bytes` bytes through `port`.
 * @param check compares every byte with what was sent, and not only their number
 * @throws UserError when a byte is missing, added or wrong
 */
export async function transfer(
  tool: string,
  port: number,
  way: Way,
  bytes: number,
  check: boolean,
): Promise<Transfer> {
  const args = ['client', String(port), way, String(bytes), ...(check ? ['check'] : [])];
  return JSON.parse(await runProgram(tool, args, TRANSFER_TIMEOUT_MS));
}
