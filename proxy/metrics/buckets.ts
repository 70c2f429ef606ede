/** Buckets of histograms, and how the one of a value is found without a search. */

/**
 * Bits behind the leading one that choose a cell of the table: eight cells per factor of two. Our bounds are at least 19 % apart and
 * a cell is at most 12.5 % wide: it has one bound at most, so that two comparisons find the bucket.
 */
const CELL_BITS = 3;
const CELLS = 1 << CELL_BITS;

/** Upper bounds (`le`) of a histogram and a table over the logarithm of values. */
export class Buckets {
  /** Ascending and positive; the bucket behind the last one is `+Inf`. */
  readonly bounds: Float64Array;
  /** Values of the label `le`, `+Inf` included. */
  readonly names: readonly string[];
  /** Numbers one series takes: its buckets, each counting its own values only, then the sum of values. */
  readonly slots: number;
  private readonly first: number;
  private readonly last: number;
  /** A power of two, which rounds nothing, that makes integers of at least CELL_BITS + 1 bits of all values between the bounds. */
  private readonly scale: number;
  private readonly firstCell: number;
  /** Per cell the first bucket that can hold a value of it. */
  private readonly cells: Uint8Array;

  /** @param bounds ascending, positive, at most 254, the last at most 2^26 times the first */
  constructor(bounds: readonly number[]) {
    this.bounds = Float64Array.from(bounds);
    this.names = [...bounds.map(String), '+Inf'];
    this.slots = bounds.length + 2;
    this.first = bounds[0];
    this.last = bounds[bounds.length - 1];
    this.scale = 2 ** Math.ceil(Math.log2(CELLS / this.first));
    this.firstCell = cellOf(this.first * this.scale);
    this.cells = new Uint8Array(cellOf(this.last * this.scale) - this.firstCell + 1);
    for (let index = 0; index < this.cells.length; index++) {
      const lowest = lowestOf(this.firstCell + index) / this.scale;
      this.cells[index] = bounds.filter((bound) => bound < lowest).length;
    }
  }

  /** The bucket of a value; below the first bound (and below zero) the first one. */
  find(value: number): number {
    if (!(value > this.first)) return 0;
    if (value > this.last) return this.bounds.length;
    let bucket = this.cells[cellOf(value * this.scale) - this.firstCell];
    while (value > this.bounds[bucket]) bucket++;
    return bucket;
  }
}

/** Grows with the value, which is at least CELLS and below 2^31. */
function cellOf(scaled: number): number {
  const integer = scaled | 0;
  const exponent = 31 - Math.clz32(integer);
  return (exponent << CELL_BITS) + ((integer >> (exponent - CELL_BITS)) & (CELLS - 1));
}

/** The lowest value of a cell. */
function lowestOf(cell: number): number {
  return (CELLS + (cell & (CELLS - 1))) * 2 ** ((cell >> CELL_BITS) - CELL_BITS);
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
