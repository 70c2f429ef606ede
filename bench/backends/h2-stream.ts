/** The server of bench/load/h2-stream.cc, and its clients. */

import { parseClientReport } from '../harness/client.ts';
import { Job, runProgram } from '../harness/job.ts';
import type { LoadResult } from '../harness/load.ts';
import { listeningPort, TRANSFER_TIMEOUT_MS, type Transfer } from './bulk.ts';

/** A client ends by itself; one that is this much late hangs. */
const GRACE_MS = 30_000;

/** Starts the server. @returns its port on 127.0.0.1 */
export async function startStreamBackend(tool: string): Promise<number> {
  return listeningPort(await Job.start(tool, ['server']));
}

/** Streams that stay open, on each of which a message of `bytes` goes to the server and back, again and again. */
export interface Chat {
  readonly connections: number;
  /** On each. */
  readonly streams: number;
  readonly bytes: number;
}

/**
 * Runs a chat through `port`; a unit is one message there and back.
 * @throws UserError when a message does not come back as it was sent, or a stream ends otherwise than by us
 */
export async function chat(
  tool: string,
  port: number,
  { connections, streams, bytes }: Chat,
  seconds: number,
): Promise<LoadResult> {
  const args = ['chat', ...[port, connections, streams, bytes, seconds].map(String)];
  return parseClientReport(await runProgram(tool, args, seconds * 1000 + GRACE_MS));
}

/** Unary calls, each on a stream of its own. */
export interface Calls {
  readonly connections: number;
  /** Of the message there, and of the one back. */
  readonly bytes: number;
  readonly perSecond: number;
}

/**
 * Makes calls through `port` that are due at fixed times; latencies count from then.
 * @throws UserError when a call is not answered with its own message
 */
export async function callAtRate(
  tool: string,
  port: number,
  { connections, bytes, perSecond }: Calls,
  seconds: number,
): Promise<LoadResult> {
  const args = ['rate', ...[port, connections, bytes, perSecond, seconds].map(String)];
  return parseClientReport(await runProgram(tool, args, seconds * 1000 + GRACE_MS));
}

/**
 * Moves exactly `bytes` bytes through `port` as the answer on one stream.
 * @param check compares every byte with what was sent, and not only their number
 * @throws UserError when a byte is missing, added or wrong
 */
export async function download(tool: string, port: number, bytes: number, check: boolean): Promise<Transfer> {
  const args = ['download', String(port), String(bytes), ...(check ? ['check'] : [])];
  return JSON.parse(await runProgram(tool, args, TRANSFER_TIMEOUT_MS));
}
