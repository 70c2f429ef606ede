/** A moving average of times in which a peak counts at once and fades slowly. */

/** What is assumed of a round trip nobody has measured, in ms: Linkerd's. */
export const DEFAULT_RTT_MS = 30;

/** Time constant of the average in ms: Linkerd's decay of 10 s. */
const DECAY_MS = 10_000;

/**
 * Peak EWMA (as in Finagle and Linkerd): a time above the average replaces it, shorter ones pull it down over 10 s.
 * Times are of `performance.now()`, in ms.
 */
export class PeakEwma {
  /** True after the first observation; until then the average is only assumed. */
  measured = false;
  private averageMs = DEFAULT_RTT_MS;
  private updatedMs = 0;

  /** The first time observed replaces what was assumed, the others join the average. */
  observe(ms: number, nowMs: number): void {
    if (!this.measured || ms > this.averageMs) {
      this.averageMs = ms;
      this.measured = true;
    } else {
      const keep = this.kept(nowMs);
      this.averageMs = this.averageMs * keep + ms * (1 - keep);
    }
    this.updatedMs = nowMs;
  }

  /** The average as of now. It fades also while nobody dares to measure again, so that somebody will. */
  at(nowMs: number): number {
    // Not the constant itself: V8 would put every time on the heap that may be a constant instead.
    return this.measured ? this.averageMs * this.kept(nowMs) : this.averageMs;
  }

  /**
   * The same for one that is not used, and not to be tried for that alone: only what is above the default fades, and
   * down to the default.
   */
  rested(nowMs: number): number {
    const above = this.averageMs - DEFAULT_RTT_MS;
    return above > 0 ? DEFAULT_RTT_MS + above * this.kept(nowMs) : this.averageMs;
  }

  private kept(nowMs: number): number {
    return Math.exp(-Math.max(nowMs - this.updatedMs, 0) / DECAY_MS);
  }
}
