/** Endpoints to draw from by weight. */
import type { Endpoint } from '../model/endpoint.ts';
import { Rotation } from './rotation.ts';

/** Those of one zone, or all. Immutable; made anew when the endpoints or their weights change. */
export class Pool {
  readonly endpoints: readonly Endpoint[];
  /** Whose turn it is, for those that take turns. */
  readonly rotation: Rotation;
  /** Running sums of weights; empty when all weights are equal. */
  private readonly sums: readonly number[];
  private readonly random: () => number;

  /** @param random uniform in [0, 1) */
  constructor(endpoints: readonly Endpoint[], random: () => number) {
    this.endpoints = endpoints;
    this.random = random;
    const weights = endpoints.map(({ weight }) => weight);
    this.rotation = new Rotation(weights, random);
    this.sums = weights.every((weight) => weight === weights[0]) ? [] : runningSums(weights);
  }

  /** Index of one drawn by weight; only where there is one. */
  draw(): number {
    const { sums } = this;
    if (sums.length === 0) return Math.floor(this.random() * this.endpoints.length);
    return find(sums, this.random() * sums[sums.length - 1]);
  }

  /** The same without the one at `index`; only where there are two. */
  drawOther(index: number): number {
    const { sums } = this;
    if (sums.length === 0) {
      const other = Math.floor(this.random() * (this.endpoints.length - 1));
      return other < index ? other : other + 1;
    }
    const before = index === 0 ? 0 : sums[index - 1];
    const own = sums[index] - before;
    const point = this.random() * (sums[sums.length - 1] - own);
    const other = find(sums, point < before ? point : point + own);
    // Sums of fractions are rounded, so that the point may lie within the one that is left out.
    return other !== index ? other : index === 0 ? 1 : index - 1;
  }
}

/** Index of the first sum above `point`. */
function find(sums: readonly number[], point: number): number {
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sums[middle] > point) high = middle;
    else low = middle + 1;
  }
  return low;
}

function runningSums(weights: readonly number[]): number[] {
  let sum = 0;
  return weights.map((weight) => {
    sum += weight;
    return sum;
  });
}
