/** One family of metrics, as Prometheus sees it. */
import type { Buckets } from './buckets.ts';

/** A counter, a gauge or a histogram, and what its series may be called. */
export interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** Names its series may carry; `dst_*` stands for every label of discovery. */
  readonly labels: readonly string[];
  /** Of a histogram. */
  readonly buckets?: Buckets;
}

/** Numbers that one series of a family takes. */
export function slotsOf(family: Family): number {
  return family.buckets === undefined ? 1 : family.buckets.slots;
}
