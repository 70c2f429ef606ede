/** Keeps the log from being the bottleneck, or filling a disk, where strangers can cause its lines. */

/** Lines per key and second: enough to see what happens, few enough to read. */
const LINES_PER_SECOND = 10;

interface Budget {
  second: number;
  lines: number;
  suppressed: number;
}

/** A budget of lines for each of a few keys. */
export class LineBudget {
  private readonly budgets = new Map<string, Budget>();

  /** Whether a line may be written now: how many were not since the last one, or undefined for no. */
  take(key: string): { readonly suppressed: number | undefined } | undefined {
    const second = Math.floor(performance.now() / 1000);
    let budget = this.budgets.get(key);
    if (budget === undefined) {
      budget = { second, lines: 0, suppressed: 0 };
      this.budgets.set(key, budget);
    } else if (budget.second !== second) {
      budget.second = second;
      budget.lines = 0;
    }
    if (budget.lines >= LINES_PER_SECOND) {
      budget.suppressed++;
      return undefined;
    }
    budget.lines++;
    const suppressed = budget.suppressed > 0 ? budget.suppressed : undefined;
    budget.suppressed = 0;
    return { suppressed };
  }
}
