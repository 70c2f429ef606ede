/**
 * Where a request goes: the endpoint the balancer picks, on a connection that waits or a new one, and on another when that
 * fails. A request that was provably not processed is always sent again; one that may have been, only when it is idempotent
 * (RFC 9110 section 9.2.2). What cannot be saved is told with the reason.
 */
import { ERRNO, errnoName } from '../core/errno.ts';
import { MessageBody } from '../http/body.ts';
import { BODY, type Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import { CONNECTION, headRoom, WriteOptions, writeRequestHead } from '../http/write.ts';
import type { HttpAuthorities } from '../metrics/http-authorities.ts';
import type { HttpErrorReason } from '../metrics/http-worker.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import { NO_ENDPOINTS } from '../model/connection.ts';
import type { Decision } from '../model/decision.ts';
import type { Endpoint } from '../model/endpoint.ts';
import { type Exchange, type HttpPool, HttpUpstream } from '../model/exchange.ts';
import type { EndpointPicker } from '../model/pick.ts';
import type { Engine } from '../native/engine.ts';
import type { DialFailure, Dialler } from './dial.ts';
import { passBody, passRest } from './http-body.ts';
import { HttpConnections, type HttpConnectionsOwner } from './http-connections.ts';
import { BLOCK_BYTES, Retained } from './retained.ts';
import { Waiting, type WaitingOwner } from './waiting.ts';

/**
 * A request that must not be sent twice goes out on a connection that was useful this short a time ago, in ms, or on a new
 * one: servers close idle connections after seconds, and what crosses that close is lost.
 */
const RECENT_MS = 1_000;

/** All tries of one request together, in ms; see forward/tcp.ts. */
const TOTAL_MS = 5_000;

/** Endpoints tried for one request; see forward/tcp.ts. */
const MAX_TRIES = 10;

/** Times a request is sent again because its connection was lost: the third loss in a row is the request's own fault. */
const MAX_REPLAYS = 3;

/** Who is told what becomes of a request. */
export interface AttemptsOwner {
  /** Remembers whose socket this is. */
  adoptUpstream(upstream: HttpUpstream): void;
  /** There is a connection now, and its head has gone out. */
  sent(exchange: Exchange): void;
  /** It cannot be saved. */
  failed(exchange: Exchange, status: number, reason: HttpErrorReason, message: string): void;
  /** So many more requests wait for an endpoint, or fewer. */
  waitingChanged(by: number): void;
  /** The response broke off in the middle. */
  brokenOff(exchange: Exchange): void;
}

/** Sends the requests of one worker. */
export class HttpAttempts implements HttpConnectionsOwner, WaitingOwner {
  readonly connections: HttpConnections;
  private readonly engine: Engine;
  private readonly owner: AttemptsOwner;
  private readonly retained: Retained;
  private readonly waiting: Waiting;
  private readonly options = new WriteOptions();

  constructor(engine: Engine, slab: MetricsSlab, dialler: Dialler, owner: AttemptsOwner) {
    this.engine = engine;
    this.owner = owner;
    this.connections = new HttpConnections(engine, slab, dialler, this);
    this.retained = new Retained(engine);
    this.waiting = new Waiting(this);
  }

  /** Sends a request whose head has just been read. `path`: its canonical form, where that is another. */
  start(exchange: Exchange, head: Head, path: Uint8Array | null, nowMs: number): void {
    exchange.tried = NO_ENDPOINTS;
    exchange.replays = 0;
    this.keepHead(exchange, head, path);
    this.attempt(exchange, undefined, nowMs);
  }

  /** Passes bytes of its body on. @returns where they ended: `from` while there is nowhere to send them; below 0: a problem */
  pass(exchange: Exchange, bytes: Uint8Array, from: number, to: number): number {
    const { upstream, requestBody } = exchange;
    if (upstream?.upstreamStage !== 'ready') return from;
    const socket = upstream.upstream;
    const before = requestBody.handed;
    const end = passBody(
      this.engine,
      requestBody,
      bytes,
      from,
      to,
      socket,
      requestBody.kind === BODY.chunked,
    );
    upstream.handed += requestBody.handed - before;
    if (end < 0) return end;
    if (exchange.idempotent) this.retained.keepBody(exchange, bytes, from, end);
    else exchange.replayable = false;
    if (!requestBody.done) this.linkRequest(exchange, upstream);
    if (!exchange.replayable) passRest(this.engine, requestBody, exchange.connection.client);
    if (requestBody.done && exchange.requestLinked) this.unlinkRequest(exchange);
    return end;
  }

  /** The rest of its body has gone out, but for the last `rest` bytes. */
  passed(exchange: Exchange, rest: number): void {
    const { requestBody, upstream } = exchange;
    const length = requestBody.passed(rest);
    if (upstream !== undefined) upstream.handed += length;
    if (exchange.requestLinked) this.unlinkRequest(exchange);
  }

  /** Discovery has endpoints where there may have been none: requests that waited go on. */
  endpointsCame(picker: EndpointPicker): void {
    this.waiting.endpointsCame(picker);
  }

  attemptAgain(exchange: Exchange): void {
    exchange.tried = NO_ENDPOINTS;
    this.attempt(exchange, undefined, this.engine.nowMs());
  }

  waitingChanged(by: number): void {
    this.owner.waitingChanged(by);
  }

  failed(exchange: Exchange, status: number, reason: HttpErrorReason, message: string): void {
    this.owner.failed(exchange, status, reason, message);
  }

  adoptUpstream(upstream: HttpUpstream): void {
    this.owner.adoptUpstream(upstream);
  }

  /** A connection can carry bytes. */
  upstreamReady(exchange: Exchange, upstream: HttpUpstream): void {
    this.send(exchange, upstream);
    this.owner.sent(exchange);
  }

  /** A new connection could not be opened. */
  dialFailed(exchange: Exchange, endpoint: Endpoint, failure: DialFailure): void {
    this.letGo(exchange, endpoint);
    exchange.decision?.attempted('not reached', failure.detail);
    exchange.tried = [...exchange.tried, endpoint];
    const nowMs = this.engine.nowMs();
    if (nowMs - exchange.startedMs >= TOTAL_MS) return this.giveUp(exchange, failure);
    this.attempt(exchange, failure, nowMs);
  }

  /** Its connection ended in the middle. `written`: bytes of it that the kernel took. */
  upstreamLost(
    exchange: Exchange,
    upstream: HttpUpstream,
    endpoint: Endpoint,
    errno: number,
    written: number,
  ): void {
    this.letGo(exchange, endpoint);
    if (exchange.requestLinked) this.unlinkRequest(exchange);
    if (exchange.responseStarted) return this.owner.brokenOff(exchange);
    const nowMs = this.engine.nowMs();
    const what = `the connection to ${endpoint.address} was lost (${errno === 0 ? 'closed' : errnoName(errno)}) before a response came`;
    exchange.decision?.attempted('lost', what);
    // A kept connection that its server closed meanwhile says nothing of the endpoint.
    if (upstream.served === 0) endpoint.requestFailed(nowMs - exchange.attemptedMs, nowMs);
    const unprocessed = written <= upstream.handedBefore;
    const again = exchange.replayable && (unprocessed || exchange.idempotent);
    if (again && exchange.replays++ < MAX_REPLAYS) {
      upstream.pool.metrics.replayed(upstream.served > 0 ? 'closed_idle' : 'closed_before_response');
      return this.attempt(exchange, undefined, nowMs);
    }
    this.owner.failed(exchange, 502, 'i/o', `${what}${whyLost(exchange)}`);
  }

  /** The head of its final response is there. */
  answered(exchange: Exchange, upstream: HttpUpstream): void {
    const { decision } = exchange;
    const nowMs = this.engine.nowMs();
    upstream.endpoint?.answered(nowMs - exchange.attemptedMs, nowMs);
    if (decision !== undefined) {
      decision.attempted('answered', '');
      decision.answeredMs = nowMs;
    }
    this.retained.release(exchange);
  }

  /** The response is complete. `more`: and something came behind it that nobody asked for. */
  done(exchange: Exchange, upstream: HttpUpstream, more: boolean): void {
    const requestDone = exchange.requestBody.done;
    this.detach(exchange, upstream);
    if (more || !requestDone || !upstream.reusable || upstream.ended) this.connections.discard(upstream);
    else this.connections.give(upstream, upstream.saidMs);
  }

  /** Nobody wants the response any more, or there is none. */
  abandon(exchange: Exchange): void {
    const { upstream } = exchange;
    this.retained.release(exchange);
    this.waiting.remove(exchange);
    if (upstream === undefined) return;
    this.detach(exchange, upstream);
    // One that is not there yet is good for the next request.
    if (upstream.upstreamStage === 'ready') this.connections.discard(upstream);
    else upstream.exchange = undefined;
  }

  /** The two belong together no more. */
  detach(exchange: Exchange, upstream: HttpUpstream): void {
    if (exchange.requestLinked) this.unlinkRequest(exchange);
    if (upstream.endpoint !== undefined) this.letGo(exchange, upstream.endpoint);
    exchange.upstream = undefined;
    upstream.exchange = undefined;
  }

  /** It sent what cannot be a response to a request of ours, or ended: what we asked is asked elsewhere. */
  poisoned(upstream: HttpUpstream): void {
    const { exchange } = upstream;
    upstream.pool.remove(upstream);
    if (exchange === undefined) return this.connections.discard(upstream);
    // Its end is told by the engine, with how much of the request it has seen.
    upstream.closing = true;
    this.engine.reset(upstream.upstream);
  }

  /** Its response cannot be understood. */
  spoiled(exchange: Exchange, upstream: HttpUpstream, problem: string): void {
    const { endpoint } = upstream;
    const nowMs = this.engine.nowMs();
    endpoint?.requestFailed(nowMs - exchange.attemptedMs, nowMs);
    exchange.decision?.attempted('not understood', problem);
    const message = `the response of ${endpoint?.address} cannot be understood: ${problem}`;
    this.owner.failed(exchange, 502, 'bad_response', message);
  }

  private attempt(exchange: Exchange, last: DialFailure | undefined, nowMs: number): void {
    const { connection } = exchange;
    const decision = exchange.decision!;
    let failure = last;
    for (;;) {
      const endpoint = this.next(exchange, failure?.errno ?? 0, nowMs);
      if (endpoint === undefined) return this.noEndpoint(exchange, failure, nowMs);
      const pool = this.connections.poolOf(endpoint);
      const kept = this.kept(exchange, pool, nowMs);
      exchange.attemptedMs = nowMs;
      decision.attempt(endpoint, connection.picker?.last, kept?.served ?? -1, nowMs);
      const upstream = kept ?? this.connections.open(pool, endpoint, exchange, nowMs);
      if (!(upstream instanceof HttpUpstream)) {
        failure = upstream;
        decision.attempted('not reached', failure.detail);
        exchange.tried = [...exchange.tried, endpoint];
        if (failure.errno === ERRNO.emfile || failure.errno === ERRNO.enfile)
          return this.giveUp(exchange, failure);
        continue;
      }
      endpoint.beginRequest();
      if (pool.authorities !== undefined) this.countAt(exchange, decision, pool.authorities);
      exchange.upstream = upstream;
      upstream.exchange = exchange;
      if (kept !== undefined) this.upstreamReady(exchange, upstream);
      return;
    }
  }

  /** Counts the request as one to this destination, and no longer to another one. */
  private countAt(exchange: Exchange, decision: Decision, authorities: HttpAuthorities): void {
    const before = exchange.series;
    const series = authorities.of(decision.text, 0, decision.authorityLength);
    if (series === before) return;
    before?.abandoned();
    series.requested();
    exchange.series = series;
  }

  private kept(exchange: Exchange, pool: HttpPool, nowMs: number): HttpUpstream | undefined {
    // After a loss others that waited as long may be as dead.
    if (exchange.replays > 0) return undefined;
    const sinceMs = exchange.idempotent ? 0 : nowMs - RECENT_MS;
    return this.connections.waiting(pool, sinceMs);
  }

  private next(exchange: Exchange, lastErrno: number, nowMs: number): Endpoint | undefined {
    if (exchange.tried.length >= MAX_TRIES) return undefined;
    const { picker } = exchange.connection;
    const endpoint = picker?.pickForRequest(exchange.tried, nowMs);
    if (endpoint !== undefined || lastErrno !== ERRNO.etimedout) return endpoint;
    // Everyone was tried and the last one did not answer: packets may have been lost, and there is time left.
    exchange.tried = NO_ENDPOINTS;
    return picker?.pickForRequest(exchange.tried, nowMs);
  }

  private noEndpoint(exchange: Exchange, failure: DialFailure | undefined, nowMs: number): void {
    const { picker } = exchange.connection;
    if (failure !== undefined || picker === undefined) return this.giveUp(exchange, failure);
    if (exchange.tried.length === 0) return this.waiting.add(exchange, picker);
    // A loss ended the way to the last one that could be reached: all are tried again, as often as losses are made good.
    exchange.tried = NO_ENDPOINTS;
    this.attempt(exchange, undefined, nowMs);
  }

  private giveUp(exchange: Exchange, failure: DialFailure | undefined): void {
    const { tried } = exchange;
    const count = tried.length === 1 ? '' : ` (${tried.length} endpoints were tried)`;
    const status = failure?.errno === ERRNO.etimedout ? 504 : 502;
    this.owner.failed(
      exchange,
      status,
      'connect',
      `no endpoint could be reached${count}; last: ${failure?.detail ?? 'there was none'}`,
    );
  }

  /** Sends what is kept. The rest of the body follows as it comes. */
  private send(exchange: Exchange, upstream: HttpUpstream): void {
    upstream.handedBefore = upstream.handed;
    upstream.handed += exchange.blockLength + (exchange.longHead?.length ?? 0);
    this.retained.sendHead(exchange, upstream.upstream, !exchange.requestBody.done);
    if (exchange.keptBody.length > 0) this.sendBodyAgain(exchange, upstream);
    upstream.sentFlush = exchange.sentFlush = this.engine.flushes;
    if (exchange.decision !== undefined) exchange.decision.sentMs = this.engine.nowMs();
  }

  /** It is kept as it came, and framed anew. */
  private sendBodyAgain(exchange: Exchange, upstream: HttpUpstream): void {
    const { kind } = exchange.requestBody;
    const body = new MessageBody();
    body.start(kind, exchange.requestLength);
    for (const bytes of exchange.keptBody) {
      passBody(this.engine, body, bytes, 0, bytes.length, upstream.upstream, kind === BODY.chunked);
    }
    upstream.handed += body.handed;
  }

  private keepHead(exchange: Exchange, head: Head, path: Uint8Array | null): void {
    const { options } = this;
    const upgrade = exchange.phase === 'tunnel' && head.method !== METHOD.connect;
    options.framing = head.framing;
    options.contentLength = head.contentLength;
    options.connection = upgrade ? CONNECTION.upgrade : CONNECTION.none;
    options.path = path;
    options.extra = exchange.fields.length > 0 ? exchange.fields : null;
    options.host = head.authorityStart === head.authorityEnd ? hostOf(exchange) : null;
    const room = headRoom(head, options);
    const block = room <= BLOCK_BYTES ? this.retained.block(exchange) : 0;
    exchange.replayable = true;
    if (block > 0) {
      exchange.blockLength = writeRequestHead(head, options, this.engine.slab, block) - block;
      return;
    }
    const bytes = new Uint8Array(room);
    exchange.longHead = bytes.subarray(0, writeRequestHead(head, options, bytes, 0));
  }

  /** A client that sends faster than the endpoint reads waits. */
  private linkRequest(exchange: Exchange, upstream: HttpUpstream): void {
    if (exchange.requestLinked) return;
    exchange.requestLinked = true;
    this.engine.link(exchange.connection.client, upstream.upstream);
  }

  private unlinkRequest(exchange: Exchange): void {
    exchange.requestLinked = false;
    this.engine.link(exchange.connection.client, 0);
  }

  private letGo(exchange: Exchange, endpoint: Endpoint): void {
    exchange.upstream = undefined;
    endpoint.endRequest();
  }
}

/** Why a request that was lost is not sent again. */
function whyLost({ idempotent, replayable, replays }: Exchange): string {
  if (!idempotent) return '; the request may have been processed, and must not be sent twice';
  return replayable ? `, ${replays} times in a row` : '; its body was too long to be kept and sent again';
}

/** For HTTP/1.0 clients that name none. */
function hostOf({ connection }: Exchange): Uint8Array | null {
  const { destination } = connection;
  return destination === undefined ? null : Buffer.from(destination.toString(), 'latin1');
}
