/** Memory once it has come to rest. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { MemoryKb, RunningProxy } from './model.ts';

const POLL_MS = 50;
/** Longer than any proxy here puts off cleaning up after connections; memory that still moves after it is at its rest. */
const STILL_MS = 500;
const DEADLINE_MS = 10_000;

/** Reads the memory of a proxy until it has not changed for half a second, for 10 seconds at most. */
export async function settledMemory(proxy: RunningProxy): Promise<MemoryKb | undefined> {
  const deadline = performance.now() + DEADLINE_MS;
  let last = proxy.memory();
  let since = performance.now();
  while (performance.now() - since < STILL_MS && performance.now() < deadline) {
    await sleep(POLL_MS);
    const memory = proxy.memory();
    if (memory?.anonymous !== last?.anonymous) since = performance.now();
    last = memory;
  }
  proxy.check();
  return last;
}
