/** gRPC calls that say when they are due (`grpc-timeout`), and end then. One timer for all of a worker's; calls that say nothing cost nothing. */
import type { Exchange } from '../model/exchange.ts';
import type { Engine } from '../native/engine.ts';

/**
 * How long after its deadline a call is ended here, in ms: its server and its client have the same deadline, and what they say of it is
 * better than what we could. A server's clock begins a way across the network later, and its answer takes another: 100 ms are a
 * round trip between continents, or between neighbours one and a timer that a busy server hears late.
 */
const GRACE_MS = 100;

/** Calls that are due one after the other are looked for no more often than this, in ms: as the engine's deadlines; see engine.ts. */
const TICK_MS = 16;

/** The longest that a timer waits, in ms; calls may be due in eleven thousand years. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What becomes of calls. */
export interface CallDeadlinesOwner {
  /** It was due a moment ago, and is not over. */
  overdue(exchange: Exchange): void;
}

/** The calls of one worker that have a deadline. */
export class CallDeadlines {
  private readonly engine: Engine;
  private readonly owner: CallDeadlinesOwner;
  /** In no order: each has its place in `Exchange.deadlinePlace`. */
  private readonly calls: Exchange[] = [];
  private timer: NodeJS.Timeout | undefined;
  /** When the timer looks at all of them. It stays when the call is over that it was set for. */
  private nextMs = Number.POSITIVE_INFINITY;

  constructor(engine: Engine, owner: CallDeadlinesOwner) {
    this.engine = engine;
    this.owner = owner;
  }

  /** A call begins whose `dueMs` is set. */
  add(exchange: Exchange): void {
    exchange.deadlinePlace = this.calls.length;
    this.calls.push(exchange);
    this.arm(exchange.dueMs);
  }

  /** It is over. */
  remove(exchange: Exchange): void {
    const { calls } = this;
    const last = calls.pop();
    if (last !== undefined && last !== exchange) {
      calls[exchange.deadlinePlace] = last;
      last.deadlinePlace = exchange.deadlinePlace;
    }
    exchange.deadlinePlace = -1;
  }

  private arm(dueMs: number): void {
    if (dueMs + GRACE_MS >= this.nextMs) return;
    const nowMs = this.engine.nowMs();
    const waitMs = Math.min(Math.max(dueMs + GRACE_MS - nowMs, TICK_MS), MAX_TIMER_MS);
    clearTimeout(this.timer);
    this.nextMs = nowMs + waitMs;
    this.timer = setTimeout(() => this.look(), waitMs).unref();
  }

  private look(): void {
    const lateMs = this.engine.nowMs() - GRACE_MS;
    const overdue = this.calls.filter(({ dueMs }) => dueMs <= lateMs);
    // The end of one may be that of another.
    for (const call of overdue) if (call.deadlinePlace >= 0) this.owner.overdue(call);
    this.nextMs = Number.POSITIVE_INFINITY;
    let dueMs = Number.POSITIVE_INFINITY;
    for (const call of this.calls) dueMs = Math.min(dueMs, call.dueMs);
    this.arm(dueMs);
  }
}
