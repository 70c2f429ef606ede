/**
 * Requests whose service has no endpoint just now: they wait for a while, and only so many; then requests fail at once until
 * there is one again.
 */
import type { HttpErrorReason } from '../metrics/http-worker.ts';
import type { Exchange } from '../model/exchange.ts';
import type { EndpointPicker } from '../model/pick.ts';

/** How long a service may be without an endpoint before its requests fail, in ms: Linkerd's, and about what a person waits. */
const FAIL_FAST_MS = 3_000;

/** Requests that wait for one service: as many as connections may wait for discovery; see route/targets.ts. */
const MAX_WAITING = 1_000;

/** What becomes of those that waited. */
export interface WaitingOwner {
  /** There is an endpoint again. */
  attemptAgain(exchange: Exchange): void;
  /** See `AttemptsOwner.failed`. */
  failed(exchange: Exchange, status: number, reason: HttpErrorReason, message: string): void;
  /** So many more wait, or fewer. */
  waitingChanged(by: number): void;
}

/** One service without an endpoint. */
interface Queue {
  readonly exchanges: Set<Exchange>;
  readonly timer: NodeJS.Timeout;
  /** It has been without one for too long. */
  failFast: boolean;
}

/** Requests that wait, of one worker. */
export class Waiting {
  private readonly owner: WaitingOwner;
  private readonly queues = new WeakMap<EndpointPicker, Queue>();
  private readonly places = new WeakMap<Exchange, Queue>();

  constructor(owner: WaitingOwner) {
    this.owner = owner;
  }

  /** The request waits, or fails where it is not to wait any more. */
  add(exchange: Exchange, picker: EndpointPicker): void {
    const queue = this.queueOf(picker);
    if (queue.failFast) return this.failFast(exchange);
    if (queue.exchanges.size >= MAX_WAITING) {
      const message = `service ${nameOf(exchange)} has no endpoints, and ${MAX_WAITING} requests wait for one already`;
      return this.owner.failed(exchange, 503, 'loadshed', message);
    }
    queue.exchanges.add(exchange);
    this.places.set(exchange, queue);
    this.owner.waitingChanged(1);
  }

  /** Nobody wants the answer any more. */
  remove(exchange: Exchange): void {
    const queue = this.places.get(exchange);
    if (queue === undefined) return;
    this.places.delete(exchange);
    queue.exchanges.delete(exchange);
    this.owner.waitingChanged(-1);
  }

  /** The picker has something to pick from. */
  endpointsCame(picker: EndpointPicker): void {
    const queue = this.queues.get(picker);
    if (queue === undefined) return;
    this.queues.delete(picker);
    clearTimeout(queue.timer);
    for (const exchange of this.leave(queue)) this.owner.attemptAgain(exchange);
  }

  private queueOf(picker: EndpointPicker): Queue {
    let queue = this.queues.get(picker);
    if (queue === undefined) {
      const timer = setTimeout(() => this.giveUp(picker), FAIL_FAST_MS);
      queue = { exchanges: new Set(), timer, failFast: false };
      this.queues.set(picker, queue);
    }
    return queue;
  }

  private giveUp(picker: EndpointPicker): void {
    const queue = this.queueOf(picker);
    queue.failFast = true;
    for (const exchange of this.leave(queue)) this.failFast(exchange);
  }

  /** All of them leave. */
  private leave({ exchanges }: Queue): readonly Exchange[] {
    const all = [...exchanges];
    for (const exchange of all) this.remove(exchange);
    return all;
  }

  private failFast(exchange: Exchange): void {
    const message = `service ${nameOf(exchange)} has had no endpoints for ${FAIL_FAST_MS / 1000} s: its requests fail at once until it has one`;
    this.owner.failed(exchange, 503, 'failfast', message);
  }
}

function nameOf({ connection }: Exchange): string {
  return connection.target?.key ?? '';
}
