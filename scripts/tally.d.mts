/** What a run of tap proved; `failed` and `skipped` hold the full names of assertions or files. */
export interface Tally {
  readonly passed: number;
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
}

/** Counts the assertions in the output of a run over any number of test files. */
export function tally(tap: string): Tally;
