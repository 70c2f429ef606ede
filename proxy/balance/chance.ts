/** Random numbers without garbage. */

/** Chances are whole numbers from 0 to below this: V8 keeps them out of the heap, and 2³⁰ steps are fine enough for weights. */
export const CHANCES = 2 ** 30;

/** Uniform in [0, CHANCES), whole. */
export type Chance = () => number;

/**
 * Mulberry32, fast and even enough to spread load; nothing secret hangs on it. Math.random would put each of its numbers on
 * the heap.
 * @param seed 32 bits
 */
export function chanceOf(seed: number): Chance {
  const state = new Int32Array([seed]);
  return () => {
    const next = (state[0] + 0x6d2b79f5) | 0;
    state[0] = next;
    let mixed = Math.imul(next ^ (next >>> 15), 1 | next);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 2) | 0;
  };
}

/** Differs from proxy to proxy and from target to target. */
export function newChance(): Chance {
  return chanceOf((Math.random() * 2 ** 32) | 0);
}
