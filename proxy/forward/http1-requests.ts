/** The client's side of HTTP/1: reads requests from its connection, one after the other, and passes their bodies on. */
import { Head } from '../http/head.ts';
import { readRequestHead } from '../http/request.ts';
import { isWorthReading } from '../http/start-line.ts';
import { joined, NO_BYTES } from '../model/connection.ts';

import type { Engine } from '../native/engine.ts';
import type { Http1Exchange, RequestPart } from './http1-exchange.ts';

/** How long a head may take from its first byte, in ms: as long as any first bytes; see detect/opening.ts. */
const HEAD_MS = 10_000;

/** How long a connection may be idle between requests, in ms: longer than clients keep theirs, so that they close first. */
const KEEP_ALIVE_MS = 10 * 60_000;

/** How long a request's body may stand still, in ms: clients that stream while they think deserve minutes. */
const BODY_MS = 5 * 60_000;

/**
 * How long a client that has ended its side waits for its answer, in ms without a byte of it: most of them have left, and
 * their requests must not be kept for as long as an endpoint is silent. Those that only have no more to say are served in time.
 */
const ENDED_MS = 10_000;

/**
 * How long a connection without a request stays open at shutdown, in ms: a request that is on its way already is answered,
 * and its answer tells that it was the last.
 */
const LAST_MS = 250;

const LIMIT_MS: Readonly<Record<RequestPart, number>> = { head: HEAD_MS, body: BODY_MS, next: KEEP_ALIVE_MS };

/** What requests are read for. */
export interface RequestOwner {
  /** A whole head is there; valid in this call only. */
  requestHead(exchange: Http1Exchange, head: Head): void;
  /** Bytes of the body. @returns where they ended, or below 0 for a problem */
  requestBytes(exchange: Http1Exchange, bytes: Uint8Array, from: number, to: number): number;
  /** What came cannot be understood; see problems.ts. `seenBytes`: of the head or trailer section that is too long. */
  requestProblem(exchange: Http1Exchange, problem: number, seenBytes: number): void;
  /** The client took too long over a head, a body, or its next request. */
  requestLate(exchange: Http1Exchange, part: RequestPart, afterMs: number): void;
  /** The client ended its side before its request was complete; a tunnel ends no other way. Told again for a tunnel that goes on. */
  requestCut(exchange: Http1Exchange): void;
  /** It ended in between. */
  clientDone(exchange: Http1Exchange): void;
}

/** Reads requests for one worker. */
export class Http1Requests {
  private readonly engine: Engine;
  private readonly owner: RequestOwner;
  /** Of the request that is being read: nobody keeps it. */
  private readonly head = new Head();

  constructor(engine: Engine, owner: RequestOwner) {
    this.engine = engine;
    this.owner = owner;
  }

  /** Begins with what detection has read. */
  start(exchange: Http1Exchange): void {
    const { connection } = exchange;
    exchange.held = connection.held;
    connection.held = NO_BYTES;
    this.arm(exchange, 'next');
    exchange.clientEnded = connection.clientEnded;
    exchange.paused = true;
    this.resume(exchange);
  }

  /** Bytes of the client. */
  received(exchange: Http1Exchange, bytes: Uint8Array, from: number, to: number): void {
    if (exchange.held.length === 0) return this.read(exchange, bytes, from, to);
    const before = exchange.held.length;
    const whole = joined(exchange.held, bytes.subarray(from, to));
    exchange.held = whole;
    if (exchange.phase !== 'head' || isWorthReading(whole, 0, before, whole.length)) this.readHeld(exchange);
  }

  /** The client will send no more. */
  ended(exchange: Http1Exchange): void {
    exchange.clientEnded = true;
    if (hasContent(exchange)) return this.owner.requestCut(exchange);
    if (exchange.phase === 'head') return this.owner.clientDone(exchange);
    if (exchange.phase === 'answer') this.arm(exchange, exchange.due);
  }

  /** At shutdown: closes it soon, unless it asks for something. */
  closeSoon(exchange: Http1Exchange): void {
    this.engine.deadline(exchange.connection.client, LAST_MS, true);
  }

  /** The exchange is over, and the client may ask for more: goes on with what it has sent already. */
  resume(exchange: Http1Exchange): void {
    exchange.phase = 'head';
    if (exchange.reading) return;
    if (exchange.held.length > 0) this.readHeld(exchange);
    else this.goOn(exchange);
  }

  /** There is somewhere to send the body to. */
  goOnWithBody(exchange: Http1Exchange): void {
    if (!hasContent(exchange) || exchange.reading) return;
    if (exchange.held.length > 0) this.readHeld(exchange);
    else if (exchange.clientEnded) this.owner.requestCut(exchange);
    else this.unpause(exchange);
  }

  /** The client's deadline has passed. */
  timedOut(exchange: Http1Exchange): void {
    const { due } = exchange;
    // It does not even fetch what ends the connection.
    if (exchange.phase === 'closing') return this.engine.reset(exchange.connection.client);
    const asking = exchange.phase === 'head' || exchange.phase === 'body';
    // Idle only because its answer takes that long.
    if (!asking) return exchange.clientEnded ? this.owner.requestCut(exchange) : this.arm(exchange, 'next');
    this.owner.requestLate(exchange, due, LIMIT_MS[due]);
  }

  private readHeld(exchange: Http1Exchange): void {
    const bytes = exchange.held;
    exchange.held = NO_BYTES;
    this.read(exchange, bytes, 0, bytes.length);
  }

  /** Reads on until everything is used, or something has to be waited for. */
  private read(exchange: Http1Exchange, bytes: Uint8Array, from: number, to: number): void {
    let at = from;
    exchange.reading = true;
    while (at < to && at >= 0) {
      const next = this.readSome(exchange, bytes, at, to);
      if (next === at) break;
      at = next;
    }
    exchange.reading = false;
    if (exchange.phase === 'closing' || at < 0) return;
    if (at < to) this.hold(exchange, bytes, at, to);
    if (hasContent(exchange)) {
      // The end was seen before the body was: during detection, or while its head waited.
      if (at === to && exchange.clientEnded) return this.owner.requestCut(exchange);
      if (exchange.phase === 'body') this.expect(exchange, 'body');
      if (at < to) return;
      // What is linked to the endpoint's socket waits by itself.
      const writer = exchange.carrier?.writer;
      if (writer?.full === true && writer.socket === 0) this.pause(exchange);
      else this.unpause(exchange);
    } else if (exchange.phase === 'head') this.goOn(exchange);
    else if (exchange.phase === 'answer' && at === to) {
      // It is heard of when the client leaves.
      this.unpause(exchange);
    }
  }

  /** Everything that was sent is answered. */
  private goOn(exchange: Http1Exchange): void {
    if (exchange.clientEnded) this.owner.clientDone(exchange);
    else this.unpause(exchange);
  }

  /** @returns where it came to; `at` when something has to be waited for, and below 0 when there is nothing more to read */
  private readSome(exchange: Http1Exchange, bytes: Uint8Array, at: number, to: number): number {
    if (exchange.phase === 'head') return this.readHead(exchange, bytes, at, to);
    if (!hasContent(exchange)) return at;
    const end = this.owner.requestBytes(exchange, bytes, at, to);
    if (end < 0) this.owner.requestProblem(exchange, -end, exchange.requestBody.chunks.seenBytes);
    return end;
  }

  private readHead(exchange: Http1Exchange, bytes: Uint8Array, at: number, to: number): number {
    const end = readRequestHead(this.head, bytes, at, to);
    if (end < 0) {
      this.owner.requestProblem(exchange, -end, this.head.seenBytes);
      return end;
    }
    if (end === 0) {
      this.expect(exchange, 'head');
      return at;
    }
    this.expect(exchange, 'next');
    this.owner.requestHead(exchange, this.head);
    return end;
  }

  /** From now on its time is that of `part`. */
  private expect(exchange: Http1Exchange, part: RequestPart): void {
    if (exchange.due === part) return;
    this.arm(exchange, part);
  }

  private arm(exchange: Http1Exchange, part: RequestPart): void {
    exchange.due = part;
    // The whole of a head in time, but of the others any sign of life.
    const limitMs = exchange.clientEnded ? ENDED_MS : LIMIT_MS[part];
    this.engine.deadline(exchange.connection.client, limitMs, part !== 'head');
  }

  private unpause(exchange: Http1Exchange): void {
    if (!exchange.paused) return;
    exchange.paused = false;
    this.engine.resume(exchange.connection.client);
  }

  private pause(exchange: Http1Exchange): void {
    if (exchange.paused) return;
    exchange.paused = true;
    this.engine.pause(exchange.connection.client);
  }

  private hold(exchange: Http1Exchange, bytes: Uint8Array, from: number, to: number): void {
    const own = bytes.buffer !== this.engine.slab.buffer;
    exchange.held = own ? bytes.subarray(from, to) : bytes.slice(from, to);
    // Ahead of its time: the rest stays in the kernel until its turn comes.
    if (exchange.phase !== 'head') this.pause(exchange);
  }
}

/** What the client sends is passed on. */
function hasContent({ phase }: Http1Exchange): boolean {
  return phase === 'body' || phase === 'talk';
}
