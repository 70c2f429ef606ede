/**
 * What a peer may make us do for nothing. Both budgets fill up with time, and with what the peer does that has a use: a peer that
 * works may ping and open windows with every frame, one that only does that may not (rapid reset CVE-2023-44487, MadeYouReset CVE-2025-8671,
 * and the floods of CVE-2019-9511 to -9518).
 */

/** Frames without a use that may come at once: some browsers and load generators begin with thousands of small frames. */
const MOST_NOISE = 10_000;
/** Such frames a second that nobody has earned: keep-alives, settings, priorities. Ten times what a chatty client sends. */
const NOISE_PER_SECOND = 2000;
/** Such frames that each frame of a message earns. gRPC stacks answer one with two WINDOW_UPDATEs and a PING at most. */
const NOISE_EARNED = 4;

/** Streams that may be reset at once: a client that loses its patience with all it has asked for, several times over. */
const MOST_RESETS = 2000;
/**
 * The same on a connection that has been of no use yet: who is cut comes again, and what a batch of events brings of it, a stream opened and
 * reset in up to 4 µs, everybody else waits for. More than another proxy of ours passes on of its clients (MOST_RESETS of its `Http2Upstream`).
 */
export const FIRST_RESETS = 512;
/** Early resets a second that nobody has earned. */
const RESETS_PER_SECOND = 100;
/** A stream that was open for so long took one of few places for it: no more than that many can be reset again. */
const EARLY_MS = 5;

/** Such frames that one of SETTINGS counts for, by the work it makes: it is answered, and every stream looked at. */
export const SETTINGS_COST = 20;
/** Shorter content that a small window forces upon us earns the peer nothing (CVE-2019-9511). */
export const MIN_USEFUL_BYTES = 256;

/** Both budgets of a connection. */
export class Budgets {
  /** Frames of messages that came or went since the last look. */
  useful = 0;
  /** Streams that ended well since the last look. */
  completed = 0;
  private noise = MOST_NOISE;
  private noiseSinceMs: number;
  private resets = FIRST_RESETS;
  private resetsSinceMs: number;

  constructor(nowMs: number) {
    this.noiseSinceMs = nowMs;
    this.resetsSinceMs = nowMs;
  }

  /**
   * A frame without a use of its own, or one that is as much work as `cost` such frames.
   * @returns false: it was one too many
   */
  noisy(cost: number, nowMs: number): boolean {
    this.noise -= cost;
    if (this.noise >= 0) return true;
    // What was earned is counted when it is needed.
    const earned = this.useful * NOISE_EARNED + ((nowMs - this.noiseSinceMs) / 1000) * NOISE_PER_SECOND;
    this.noise = Math.min(this.noise + earned, MOST_NOISE);
    this.noiseSinceMs = nowMs;
    this.useful = 0;
    return this.noise >= 0;
  }

  /**
   * The peer reset a stream, or made us do it, before there was an answer.
   * @param openMs how long it was open; 0 for a stream that we were made to reset
   * @returns false: it was one too many
   */
  reset(openMs: number, nowMs: number): boolean {
    if (openMs >= EARLY_MS) return true;
    this.resets--;
    if (this.resets >= 0) return true;
    const earned = this.completed + ((nowMs - this.resetsSinceMs) / 1000) * RESETS_PER_SECOND;
    this.resets = Math.min(this.resets + earned, MOST_RESETS);
    this.resetsSinceMs = nowMs;
    this.completed = 0;
    return this.resets >= 0;
  }
}
