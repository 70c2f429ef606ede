/** Buckets of histograms, and how the one of a value is found without a search. */

/**
 * Bits of the mantissa that choose a cell of the table: eight cells per factor of two. Our bounds are at least 11 % apart and a cell
 * is at most 12.5 % wide, so that two comparisons find the bucket.
 */
const MANTISSA_BITS = 3;

/** Of the upper half of a double, what is below the cell's number. */
const CELL_SHIFT = 20 - MANTISSA_BITS;

const scratch = new Float64Array(1);
const halves = new Int32Array(scratch.buffer);
/** Where the half with sign, exponent and the mantissa's upper bits is; machines that Node 24 runs on are little-endian. */
const UPPER = 1;

/** Upper bounds (`le`) of a histogram and a table over the logarithm of values. */
export class Buckets {
  /** Ascending and positive; the bucket behind the last one is `+Inf`. */
  readonly bounds: Float64Array;
  /** Values of the label `le`, `+Inf` included. */
  readonly names: readonly string[];
  /** Numbers one series takes: its buckets, each counting its own values only, then the sum of values. */
  readonly slots: number;
  private readonly firstCell: number;
  /** Per cell the first bucket that can hold a value of it. */
  private readonly cells: Uint8Array;

  /** @param bounds ascending, positive, at most 254 */
  constructor(bounds: readonly number[]) {
    this.bounds = Float64Array.from(bounds);
    this.names = [...bounds.map(String), '+Inf'];
    this.slots = bounds.length + 2;
    this.firstCell = cellOf(bounds[0]);
    this.cells = new Uint8Array(cellOf(bounds[bounds.length - 1]) - this.firstCell + 1);
    for (let cell = 0; cell < this.cells.length; cell++) {
      halves.fill(0);
      halves[UPPER] = (this.firstCell + cell) << CELL_SHIFT;
      const lowest = scratch[0];
      this.cells[cell] = bounds.filter((bound) => bound < lowest).length;
    }
  }

  /** The bucket of a value; below the first bound (and below zero) the first one. */
  find(value: number): number {
    const cell = cellOf(value) - this.firstCell;
    if (cell < 0) return 0;
    const { bounds } = this;
    if (cell >= this.cells.length) return bounds.length;
    let bucket = this.cells[cell];
    while (bucket < bounds.length && value > bounds[bucket]) bucket++;
    return bucket;
  }
}

/** Grows with the value; negative for negative ones. */
function cellOf(value: number): number {
  scratch[0] = value;
  return halves[UPPER] >> CELL_SHIFT;
}

/** linkerd2-proxy's bounds of latencies in ms (`linkerd/app/core/src/metrics.rs`, latency.rs): steps of each decade. */
export const LATENCY_MS = new Buckets(
  [1, 10, 100, 1000, 10_000].flatMap((decade) => [1, 2, 3, 4, 5].map((step) => step * decade)),
);

/**
 * Latencies in seconds from 50 µs (a hop on the same host) to 62 s, each bound 2^(1/4) = 1.19 times the one before: 82 bounds.
 * A quantile that Prometheus interpolates inside a bucket is off by 19 % at the very worst and by about 2 % where latencies are
 * spread over some buckets. 2^(1/8) would halve that for 166 slots and 165 lines of text per series instead of 84 and 84.
 */
export const FINE_LATENCY_SECONDS = new Buckets(
  Array.from({ length: 82 }, (_, step) => Number((50e-6 * 2 ** (step / 4)).toPrecision(4))),
);

/** linkerd2-proxy's bounds of the time that detection takes, in seconds. */
export const DETECTION_SECONDS = new Buckets([0.001, 0.1]);
