/** What chooses an endpoint, and why it did, for the records of decisions. */
import type { Endpoint } from './endpoint.ts';

/**
 * What decided: `only` there was no other; `turn` round-robin; `drawn` the two were alike, and the first drawn by weight is
 * taken; `in-flight` the winner has fewer in flight for its weight; `load` it has less load (times differ by more than twice);
 * `failed` the other failed a moment ago; `new` the other is in its slow start; `zone` the own zone is slow, failing or new;
 * `rest` the least loaded of those not tried yet.
 */
export type PickReason =
  | 'none'
  | 'only'
  | 'turn'
  | 'drawn'
  | 'in-flight'
  | 'load'
  | 'failed'
  | 'new'
  | 'zone'
  | 'rest';

/** One endpoint as it was compared; its figures mean nothing while `endpoint` is undefined. */
export class Candidate {
  endpoint: Endpoint | undefined;
  /** (in flight / weight + 1) × time in ms; without the time where that was not looked at. */
  load = Number.NaN;
  /** Peak EWMA in ms, 1 at the least; NaN when it was not looked at: for other policies than `ewma` without zones. */
  timeMs = Number.NaN;
  /** False when that time is only assumed, and nothing is decided by it. */
  measured = false;
  /** Connections or requests, the picked one not counted. */
  inFlight = 0;

  copy(from: Candidate): void {
    this.endpoint = from.endpoint;
    if (from.endpoint === undefined) return;
    this.load = from.load;
    this.timeMs = from.timeMs;
    this.measured = from.measured;
    this.inFlight = from.inFlight;
  }
}

/** One object per balancer, overwritten by each pick: whoever wants to keep it copies it. */
export class PickRecord {
  /**
   * The two compared, in the order drawn; `second` is empty when there was no other. Of `round-robin` whose turn it was, and
   * who was taken instead.
   */
  readonly first = new Candidate();
  readonly second = new Candidate();
  /** Drawn from the other zones; empty when there are none, or nobody prefers a zone. */
  readonly elsewhere = new Candidate();
  reason: PickReason = 'none';

  clear(): void {
    this.first.endpoint = this.second.endpoint = this.elsewhere.endpoint = undefined;
    this.reason = 'none';
  }

  copy(from: PickRecord): void {
    this.first.copy(from.first);
    this.second.copy(from.second);
    this.elsewhere.copy(from.elsewhere);
    this.reason = from.reason;
  }
}

/** Gives the endpoints of a target one after the other. Picking counts nothing: see `hold` and `beginRequest`. */
export interface EndpointPicker {
  /** The best endpoint for a connection that is not in `tried`; undefined when all were tried. */
  pick(tried: readonly Endpoint[], nowMs: number): Endpoint | undefined;
  /** The same for a request. */
  pickForRequest(tried: readonly Endpoint[], nowMs: number): Endpoint | undefined;
  /** Why the last pick went as it did, until the next one; undefined where there is no choice. */
  readonly last: PickRecord | undefined;
}
