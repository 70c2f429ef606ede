/** Latencies of exchanges, counted in logarithmic buckets. */

/** Each bucket is 2 % wider than the one before: finer than a demo's figures repeat. */
const GROWTH = Math.log(1.02);
/** Nothing crosses two proxies in less. */
const LEAST_MS = 0.001;
/** 0.001 ms · 1.02^900 is 55 s, more than any client waits. */
const BUCKETS = 900;

/** A histogram with quantiles. */
export class Latencies {
  count = 0;
  private readonly buckets = new Uint32Array(BUCKETS);

  record(ms: number): void {
    const bucket = Math.floor(Math.log(Math.max(ms, LEAST_MS) / LEAST_MS) / GROWTH);
    this.buckets[Math.min(bucket, BUCKETS - 1)]++;
    this.count++;
  }

  /** Milliseconds that the share `q` (0 to 1) of the exchanges took at most, 2 % too high at most; 0 when there were none. */
  quantile(q: number): number {
    let left = Math.ceil(q * this.count);
    if (left === 0) return 0;
    for (const [bucket, count] of this.buckets.entries()) {
      left -= count;
      if (left <= 0) return LEAST_MS * Math.exp((bucket + 1) * GROWTH);
    }
    return Number.POSITIVE_INFINITY;
  }

  clear(): void {
    this.buckets.fill(0);
    this.count = 0;
  }
}
