/** Endpoints to draw from by weight. */
import type { Endpoint } from '../model/endpoint.ts';
import { CHANCES, type Chance } from './chance.ts';
import { Rotation } from './rotation.ts';

/** Those of one zone, or all. Made anew when the endpoints or their weights change. */
export class Pool {
  readonly endpoints: readonly Endpoint[];
  /** Whose turn it is, for those that take turns. */
  readonly rotation: Rotation;
  /** Running sums of weights; empty when all weights are equal. */
  private readonly sums: Float64Array;
  private readonly chance: Chance;

  constructor(endpoints: readonly Endpoint[], chance: Chance) {
    this.endpoints = endpoints;
    this.chance = chance;
    const weights = endpoints.map(({ weight }) => weight);
    this.rotation = new Rotation(weights, chance);
    this.sums = weights.every((weight) => weight === weights[0]) ? new Float64Array(0) : runningSums(weights);
  }

  /** Index of one drawn by weight; only where there is one. */
  draw(): number {
    return this.sums.length > 0
      ? this.search(-1)
      : Math.floor((this.chance() / CHANCES) * this.endpoints.length);
  }

  /** The same without the one at `index`; only where there are two. */
  drawOther(index: number): number {
    if (this.sums.length > 0) return this.search(index);
    const other = Math.floor((this.chance() / CHANCES) * (this.endpoints.length - 1));
    return other < index ? other : other + 1;
  }

  /** Index of the first sum above a random point that is not within the one at `without`. */
  private search(without: number): number {
    const { sums } = this;
    const before = without > 0 ? sums[without - 1] : 0;
    const own = without < 0 ? 0 : sums[without] - before;
    let point = (this.chance() / CHANCES) * (sums[sums.length - 1] - own);
    if (point >= before) point += own;
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sums[middle] > point) high = middle;
      else low = middle + 1;
    }
    // Sums of fractions are rounded, so that the point may lie within the one that is left out.
    return low !== without ? low : without === 0 ? 1 : without - 1;
  }
}

function runningSums(weights: readonly number[]): Float64Array {
  let sum = 0;
  return Float64Array.from(weights, (weight) => {
    sum += weight;
    return sum;
  });
}
