/**
 * A moving average of times that rises within a few of them, and forgets a hiccup as soon.
 *
 * Peak EWMA as Finagle and Linkerd have it is one average that a longer time replaces at once and shorter ones pull down over
 * 10 s. A single hiccup of 30 ms, of this machine even, then makes an endpoint that answers in 2 ms look like one that takes
 * 30, and a slow one beside it gets its full share. Here there are two averages, and the greater counts:
 *
 * - The recent one, of the last few times, has the peaks. It falls with the number of answers, or in a second without any, since
 *   who has had a hiccup gets no requests to show that it is over.
 * - The lasting one, of the last 10 s, knows who is slow. A time weighs as much as it is since the one before: the many that one
 *   hiccup delays count for its length only. Who really is slow fails its tries, one second after it was left,
 *   then after ever longer ones, until the average has faded over 10 s.
 */

/** What is assumed of a round trip nobody has measured, in ms: Linkerd's. */
export const DEFAULT_RTT_MS = 30;

/** Time constant of the lasting average in ms: Linkerd's decay of 10 s. */
const DECAY_MS = 10_000;

/**
 * What one time counts in the recent average. With a quarter, the first answer of an endpoint that has become twenty times slower
 * makes it look nearly six times slower, and eight quick ones make up for a hiccup of as much.
 */
const RECENT_WEIGHT = 1 / 4;

/**
 * How long the recent average is remembered without an answer, in ms; a longer silence is a rest. One try in a second is what it
 * costs to notice that a hiccup is over, as after a failure.
 */
const REST_MS = 1_000;

// Divisions would be a twentieth of what a pick costs.
const PER_DECAY = 1 / DECAY_MS;
const PER_REST = 1 / REST_MS;

/** Times are of `performance.now()`, in ms. */
export class PeakEwma {
  /** True after the first observation; until then the average is only assumed. */
  measured = false;
  private recentMs = 0;
  private lastingMs = DEFAULT_RTT_MS;
  /** Times since the start or a rest. They weigh alike at the least: the first alone says too little. */
  private count = 0;
  private updatedMs = Number.NEGATIVE_INFINITY;

  /** The first time observed replaces what was assumed, the others join the averages. */
  observe(ms: number, nowMs: number): void {
    const idleMs = this.idle(nowMs);
    const recentMs = this.recent(idleMs);
    const passed = 1 - fade(idleMs);
    this.recentMs = recentMs + (ms - recentMs) * RECENT_WEIGHT;
    this.count = idleMs > REST_MS ? 1 / passed : this.count + 1;
    this.lastingMs += (ms - this.lastingMs) * Math.max(passed, 1 / this.count);
    this.measured = true;
    this.updatedMs = nowMs;
  }

  /** A failure, which is no hiccup: counts at once for `ms`, or not at all if that is less than the average. */
  penalize(ms: number, nowMs: number): void {
    if (ms <= this.at(nowMs)) return;
    this.recentMs = this.lastingMs = ms;
    this.count++;
    this.measured = true;
    this.updatedMs = nowMs;
  }

  /** The average as of now. It fades also while nobody dares to measure again, so that somebody will. */
  at(nowMs: number): number {
    // Not the constant itself: V8 would put every time on the heap that may be a constant instead.
    if (!this.measured) return this.lastingMs;
    const idleMs = this.idle(nowMs);
    return Math.max(this.lastingMs * fade(idleMs), this.recent(idleMs));
  }

  /**
   * The same for one that is not used, and not to be tried for that alone: only what is above the default fades, and
   * down to the default.
   */
  rested(nowMs: number): number {
    const idleMs = this.idle(nowMs);
    const above = this.lastingMs - DEFAULT_RTT_MS;
    const lastingMs = above > 0 ? DEFAULT_RTT_MS + above * fade(idleMs) : this.lastingMs;
    return Math.max(lastingMs, this.recent(idleMs));
  }

  /** Time since the last observation; a clock may go back. */
  private idle(nowMs: number): number {
    return Math.max(nowMs - this.updatedMs, 0);
  }

  /** What is left of the recent average: it fades evenly, to nothing. */
  private recent(idleMs: number): number {
    return idleMs < REST_MS ? this.recentMs * (1 - idleMs * PER_REST) : 0;
  }
}

/** Part of the lasting average that is left after this time. Under load most times come together, in one batch. */
function fade(idleMs: number): number {
  return idleMs === 0 ? 1 : Math.exp(-idleMs * PER_DECAY);
}
