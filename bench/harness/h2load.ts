/** h2load: HTTP/2 without TLS, closed loop. */

import { UserError } from '../../proxy/core/errors.ts';
import { runProgram } from './job.ts';
import type { LoadResult } from './load.ts';
import { needProgram } from './machine.ts';

/** How it loads. */
export interface H2Load {
  readonly connections: number;
  /** Under way at once on each connection. */
  readonly streams: number;
  readonly path: string;
  /** Queries that are asked with, one after the other; without them there is none. */
  readonly queries?: number;
  /** Of each answer's body. */
  readonly bytes: number;
  /** A file to send with POST, and what is said about it. */
  readonly body?: { readonly file: string; readonly headers: readonly string[] };
}

/** What it counts. */
export interface H2loadSummary {
  readonly done: number;
  readonly succeeded: number;
  /** Failed, errored and timed out. */
  readonly failed: number;
  /** Answers with a status from 200 to 299. */
  readonly ok: number;
  /** Of all bodies. */
  readonly bytes: number;
  readonly seconds: number;
}

/** It ends by itself; one that is this much late hangs. */
const GRACE_MS = 20_000;

/**
 * Loads `port` of 127.0.0.1 for `seconds`.
 * @throws UserError when h2load counts one error, an answer that is not 2xx, or bytes that are not whole answers
 */
export async function runH2load(port: number, seconds: number, load: H2Load): Promise<LoadResult> {
  const { connections, streams, path, queries, body } = load;
  const sent =
    body === undefined ? [] : ['-d', body.file, ...body.headers.flatMap((header) => ['-H', header])];
  const many = ['-t1', `-c${connections}`, `-m${streams}`, '-D', `${Math.round(seconds * 1000)}ms`];
  const url = `http://127.0.0.1:${port}${path}`;
  const urls = queries === undefined ? [url] : Array.from({ length: queries }, (_, n) => `${url}?n=${n}`);
  const args = [...many, ...sent, ...urls];
  const output = await runProgram(needProgram('h2load'), args, seconds * 1000 + GRACE_MS);
  const summary = parseH2load(output);
  checkH2load(summary, load);
  return { units: summary.done, seconds: summary.seconds, latencyMs: undefined };
}

/** @throws UserError when there is no summary in what it printed */
export function parseH2load(output: string): H2loadSummary {
  const numbers = (pattern: RegExp) => {
    const found = pattern.exec(output);
    if (found === null) throw new UserError(`h2load says nothing like ${pattern}: ${output.slice(-1000)}`);
    return found.slice(1).map(Number);
  };
  const [seconds, millis] = numbers(/finished in (?:([\d.]+)s|([\d.]+)ms),/);
  const [done, succeeded, failed, errored, timeouts] = numbers(
    /requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/,
  );
  const [ok] = numbers(/status codes: (\d+) 2xx/);
  const [bytes] = numbers(/traffic: .* \((\d+)\) data/);
  const took = Number.isNaN(seconds) ? millis / 1000 : seconds;
  return { done, succeeded, failed: failed + errored + timeouts, ok, bytes, seconds: took };
}

/** @throws UserError when the summary shows errors, nothing done, or answers of another size */
export function checkH2load(summary: H2loadSummary, { connections, streams, bytes }: H2Load): void {
  const { done, succeeded, failed, ok } = summary;
  if (failed > 0) throw new UserError(`h2load counts ${failed} errors`);
  if (done === 0) throw new UserError('h2load got no answer');
  if (succeeded !== done) throw new UserError(`h2load counts ${succeeded} successes in ${done} answers`);
  // The heads of answers that were under way at the end may have been counted.
  const underWay = connections * streams;
  if (ok < done || ok > done + underWay) throw new UserError(`${ok} answers of ${done} have a status of 2xx`);
  if (summary.bytes < done * bytes || summary.bytes > (done + underWay) * bytes) {
    throw new UserError(`h2load read ${summary.bytes} bytes for ${done} answers of ${bytes}`);
  }
}
