/** Looks at how an engine of a test waits. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { TestEngine } from './engine.ts';

/** Timers in one stretch, each of which wakes the engine's thread once. */
const TIMERS = 50;

/**
 * Waits for a stretch of timers in which the engine turns little more than those make it: a spin never gets there.
 * @throws after 40 stretches, about 5 s
 */
export async function atRest(test: TestEngine): Promise<void> {
  for (let stretch = 0; stretch < 40; stretch++) {
    const before = test.figure('loop_turns_total');
    for (let i = 0; i < TIMERS; i++) await sleep(2);
    if (test.figure('loop_turns_total') - before < 2 * TIMERS) return;
  }
  throw new Error('the engine does not come to rest');
}
