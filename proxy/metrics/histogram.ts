/** Histograms: the worker's handle on a range of its slab, and main's sums over such ranges. */
import type { Labels } from '../model/target.ts';
import type { Buckets } from './buckets.ts';

/** The writing side of one series. It is held and given back by its first slot, as a counter is. */
export class Histogram {
  /** First of `buckets.slots` slots; what `MetricsSlab.retain` and `release` take. */
  readonly slot: number;
  private readonly values: Float64Array;
  private readonly buckets: Buckets;
  private readonly sumSlot: number;

  constructor(values: Float64Array, slot: number, buckets: Buckets) {
    this.values = values;
    this.slot = slot;
    this.buckets = buckets;
    this.sumSlot = slot + buckets.slots - 1;
  }

  /** Records one value, in the unit of the family; finite. This is the hot path. */
  observe(value: number): void {
    this.values[this.slot + this.buckets.find(value)] += 1;
    this.values[this.sumSlot] += value;
  }
}

/** One line of a histogram's exposition. */
export interface HistogramSample {
  /** Name of the series: that of the family with a suffix. */
  readonly metricName: string;
  /** `le` where there is one. */
  readonly labels: Labels;
  readonly sharedLabels: Labels;
  readonly value: number;
}

/** Main's numbers of one histogram over all workers. */
export class HistogramSums {
  private readonly buckets: Buckets;
  /** What workers that no longer define the series had counted. */
  private readonly base: Float64Array;
  /** The sums at the current scrape. */
  private readonly current: Float64Array;

  constructor(buckets: Buckets) {
    this.buckets = buckets;
    this.base = new Float64Array(buckets.slots);
    this.current = new Float64Array(buckets.slots);
  }

  /** A worker stops defining the series; what it counted stays. */
  fold(values: Float64Array, slot: number): void {
    addRange(this.base, values, slot);
  }

  /** A scrape begins. */
  restart(): void {
    this.current.set(this.base);
  }

  /** Adds a worker's numbers to the current scrape. */
  add(values: Float64Array, slot: number): void {
    addRange(this.current, values, slot);
  }

  /**
   * The lines of the series. The count is the sum of the buckets, so that both agree even when a worker counts meanwhile.
   * @param name of the family
   */
  *samples(name: string, sharedLabels: Labels): Iterable<HistogramSample> {
    const { names } = this.buckets;
    let count = 0;
    for (const [bucket, le] of names.entries()) {
      count += this.current[bucket];
      yield { metricName: `${name}_bucket`, labels: { le }, sharedLabels, value: count };
    }
    yield { metricName: `${name}_sum`, labels: {}, sharedLabels, value: this.current[names.length] };
    yield { metricName: `${name}_count`, labels: {}, sharedLabels, value: count };
  }
}

function addRange(into: Float64Array, values: Float64Array, slot: number): void {
  for (let index = 0; index < into.length; index++) into[index] += values[slot + index];
}
