/** Turns by weight. */
import { CHANCES, type Chance } from './chance.ts';

/**
 * Each index comes round as often as its weight says: with whole weights exactly so in any run of as many turns as they
 * sum up to. Earliest deadline first over a heap: of weight w, the turns are due 1/w apart. Equal weights need no heap.
 * Begins anywhere, so that a fleet of proxies does not begin with the same endpoint.
 */
export class Rotation {
  private readonly weights: readonly number[];
  private readonly equal: boolean;
  /** Indices, the one that is due first at the top. */
  private readonly heap: Int32Array;
  /** Turns had and a fraction, which over the weight say when the next one is due. */
  private readonly turns: Float64Array;
  private position: number;

  /** @param weights above 0 */
  constructor(weights: readonly number[], chance: Chance) {
    this.weights = weights;
    this.equal = weights.every((weight) => weight === weights[0]);
    this.position = Math.floor((chance() / CHANCES) * weights.length);
    this.turns = Float64Array.from(this.equal ? [] : weights, () => chance() / CHANCES);
    // Sorted, it is a heap.
    this.heap = Int32Array.from(this.turns.keys()).sort((a, b) => this.due(a) - this.due(b));
  }

  /** Index whose turn it is; only where there is one. */
  next(): number {
    if (this.equal) {
      const index = this.position;
      this.position = index + 1 === this.weights.length ? 0 : index + 1;
      return index;
    }
    const index = this.heap[0];
    this.turns[index]++;
    this.sink(index);
    return index;
  }

  /** Moves the top, which is `index`, down to where it belongs. */
  private sink(index: number): void {
    const { heap } = this;
    const due = this.due(index);
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.due(heap[child + 1]) < this.due(heap[child])) child++;
      if (this.due(heap[child]) >= due) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = index;
  }

  private due(index: number): number {
    return this.turns[index] / this.weights[index];
  }
}
