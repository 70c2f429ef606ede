/** Medians, spreads and paired ratios. */

/** A sample in three numbers. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * The median: the middle value, or the mean of the two in the middle.
 * @throws RangeError when there are no values
 */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Median, least and greatest. Rounds are few, so the whole range is told and not a quantile of it.
 * @throws RangeError when there are no values
 */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * The ratios of two samples taken in the same rounds, round by round. What slows the machine down for a while slows
 * both, and leaves the ratio alone.
 * @returns undefined when a divisor is not above zero: nothing can be a multiple of that
 * @throws RangeError when the samples differ in length
 */
export function pairedRatios(ours: readonly number[], theirs: readonly number[]): number[] | undefined {
  if (ours.length !== theirs.length) {
    throw new RangeError(`${ours.length} rounds cannot be paired with ${theirs.length}`);
  }
  if (theirs.some((value) => !(value > 0))) return undefined;
  return ours.map((value, round) => value / theirs[round]);
}

/**
 * The order of a round: everybody once, and over as many rounds as there are items each in every place (A B C, B C A, …).
 * @param round from 0
 */
export function roundOrder<T>(items: readonly T[], round: number): T[] {
  return items.map((_, place) => items[(place + round) % items.length]);
}
