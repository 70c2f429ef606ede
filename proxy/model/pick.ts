/** Why a balancer picked an endpoint, for the records of decisions. */
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

/** One endpoint as it was compared. */
export class Candidate {
  endpoint: Endpoint | undefined;
  /** (in flight / weight + 1) × time in ms; without the time for a policy that does not look at it. NaN when empty. */
  load = Number.NaN;
  /** Peak EWMA in ms, 1 at the least; NaN when empty. */
  timeMs = Number.NaN;
  /** False when that time is only assumed, and nothing is decided by it. */
  measured = false;
  /** Connections or requests, the picked one not counted. */
  inFlight = 0;

  clear(): void {
    this.endpoint = undefined;
    this.load = this.timeMs = Number.NaN;
    this.inFlight = 0;
    this.measured = false;
  }
}

/** One object per balancer, overwritten by each pick: whoever wants to keep it copies it. */
export class PickRecord {
  /** The two compared, in the order drawn; `second` is empty when there was no other. */
  readonly first = new Candidate();
  readonly second = new Candidate();
  /** Drawn from the other zones; empty when there are none, or nobody prefers a zone. */
  readonly elsewhere = new Candidate();
  reason: PickReason = 'none';

  clear(): void {
    this.first.clear();
    this.second.clear();
    this.elsewhere.clear();
    this.reason = 'none';
  }
}
