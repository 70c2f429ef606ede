/** The generator of bench/load/client.cc. */

import { runProgram } from './job.ts';
import type { LoadResult } from './load.ts';

/** The generator ends by itself; one that is this much late hangs. */
const GRACE_MS = 30_000;

/** Runs the generator in a mode that ends by itself. @throws UserError with the first thing that was not right */
export async function runClient(
  tool: string,
  mode: 'connect' | 'rate',
  numbers: readonly number[],
  seconds: number,
): Promise<LoadResult> {
  const args = [mode, ...numbers.map(String), String(seconds)];
  return parseClientReport(await runProgram(tool, args, seconds * 1000 + GRACE_MS));
}

/** Parses the line the generator prints at the end. */
export function parseClientReport(line: string): LoadResult {
  const { exchanges, seconds, p50, p99, p999 } = JSON.parse(line);
  return { units: exchanges, seconds, latencyMs: { p50, p99, p999 } };
}
