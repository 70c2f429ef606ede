/** Chance for caches, which need it so that keys that share places do not drive out each other in step for ever. */

/** Of a linear congruential generator (Numerical Recipes), of which the highest bit is the best. */
let state = 0;

/** 0 or 1; cheap, the same in every run of a program, and foreseeable. */
export function coin(): 0 | 1 {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return state < 0 ? 1 : 0;
}
