/** wrk: HTTP/1.1 over kept connections, closed loop. */

import { join } from 'node:path';
import { UserError } from '../../proxy/core/errors.ts';
import { runProgram } from './job.ts';
import type { LoadResult } from './load.ts';
import { needProgram, projectRoot } from './machine.ts';

/** What bench/load/wrk.lua prints. */
interface WrkSummary {
  readonly requests: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly errors: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** What is asked for, where it is not the short answer. */
export interface WrkBody {
  readonly path: string;
  readonly bytes: number;
}

/** A head says no more than this. */
const HEAD_BYTES = 1024;

/** A thousand answers of a megabyte at once take seconds; wrk itself gives up after two. */
const TIMEOUT = '30s';

/** wrk ends by itself; one that is this much late hangs. */
const GRACE_MS = 20_000;

/**
 * Loads `port` of 127.0.0.1 for `seconds` over `connections` kept connections.
 * @throws UserError when wrk counts one error, or bytes that are not whole answers
 */
export async function runWrk(
  port: number,
  connections: number,
  seconds: number,
  body?: WrkBody,
): Promise<LoadResult> {
  const script = join(projectRoot(), 'bench/load/wrk.lua');
  const url = `http://127.0.0.1:${port}${body?.path ?? '/'}`;
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', TIMEOUT, '-s', script, url];
  const output = await runProgram(needProgram('wrk'), args, seconds * 1000 + GRACE_MS);
  const summary: WrkSummary = JSON.parse(output.trim().split('\n').at(-1) ?? '');
  checkSummary(summary, connections);
  if (body !== undefined) checkLength(summary, connections, body.bytes);
  const { p50, p99, p999 } = summary;
  return { units: summary.requests, seconds: summary.seconds, latencyMs: { p50, p99, p999 } };
}

/** @throws UserError when the summary shows errors, nothing done, or answers of several sizes */
export function checkSummary(summary: WrkSummary, connections: number): void {
  if (summary.errors > 0) throw new UserError(`wrk counts ${summary.errors} errors`);
  if (summary.requests === 0) throw new UserError('wrk got no answer');
  // All answers are of one size, so bytes are a whole multiple, but for what each connection was in the middle of: far less
  // than a byte per request.
  const size = Math.floor(summary.bytes / summary.requests);
  const surplus = summary.bytes - size * summary.requests;
  if (surplus > size * connections) {
    throw new UserError(`wrk read ${summary.bytes} bytes for ${summary.requests} answers of ${size}`);
  }
}

/** @throws UserError when answers are not as long as a head and the body */
export function checkLength(summary: WrkSummary, connections: number, bodyBytes: number): void {
  const { requests, bytes } = summary;
  const most = (requests + connections) * (bodyBytes + HEAD_BYTES);
  if (bytes >= requests * bodyBytes && bytes <= most) return;
  throw new UserError(`wrk read ${bytes} bytes for ${requests} answers with bodies of ${bodyBytes}`);
}
