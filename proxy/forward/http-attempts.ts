/**
 * Where a request goes: the endpoint the balancer picks, on a connection that waits or a new one, and on another when that
 * fails. A request that was provably not processed is always sent again; one that may have been, only when it is idempotent
 * (RFC 9110 section 9.2.2). What cannot be saved is told with the reason.
 */
import { ERRNO, errnoName } from '../core/errno.ts';
import type { FieldList } from '../http/h2/field.ts';
import type { HttpAuthorities } from '../metrics/http-authorities.ts';
import type { HttpPoolSeries } from '../metrics/http-pool.ts';
import type { HttpErrorReason } from '../metrics/http-worker.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import { NO_ENDPOINTS } from '../model/connection.ts';
import type { Decision } from '../model/decision.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Carrier, Exchange, RequestFate } from '../model/exchange.ts';
import type { EndpointPicker } from '../model/pick.ts';
import type { Engine } from '../native/engine.ts';
import type { DialFailure, Dialler } from './dial.ts';
import { HttpConnections, type HttpConnectionsOwner } from './http-connections.ts';
import { Http1Upstreams, type Http1UpstreamsOwner } from './http1-upstreams.ts';
import { Http2Connections, type Http2ConnectionsOwner } from './http2-connections.ts';
import { type Http2Carrier, Http2Upstream } from './http2-upstream.ts';
import { Retained } from './retained.ts';
import type { AnyUpstream, HttpPool, HttpUpstream } from './upstream.ts';
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

/** Why a request that nobody has seen is not sent again. */
const TOO_LONG = '; its body was too long to be kept and sent again';

/** Who is told what becomes of a request. */
export interface AttemptsOwner {
  /** Remembers whose socket this is. */
  adoptUpstream(upstream: AnyUpstream): void;
  /** It cannot be saved. */
  failed(exchange: Exchange, status: number, reason: HttpErrorReason, message: string): void;
  /** So many more requests wait for an endpoint, or fewer. */
  waitingChanged(by: number): void;
  /** The response is complete. */
  responded(exchange: Exchange): void;
  /** Client and endpoint have agreed on another protocol. */
  switched(exchange: Exchange): void;
  /** An HTTP/2 connection to an endpoint has ended; see `SessionOwner.ended`. */
  endpointFailed(endpoint: Endpoint, code: number, reason: string, ours: boolean): void;
  /** The response broke off in the middle. */
  brokenOff(exchange: Exchange, why: string): void;
}

/** Sends the requests of one worker. */
export class HttpAttempts
  implements HttpConnectionsOwner, Http1UpstreamsOwner, Http2ConnectionsOwner, WaitingOwner
{
  readonly connections: HttpConnections;
  readonly http2: Http2Connections;
  readonly http1: Http1Upstreams;
  private readonly engine: Engine;
  private readonly multiplex: boolean;
  private readonly owner: AttemptsOwner;
  private readonly retained = new Retained();
  private readonly waiting: Waiting;

  /** @param multiplex HTTP/1 requests go to sidecars that take it as streams of HTTP/2 */
  constructor(engine: Engine, slab: MetricsSlab, dialler: Dialler, multiplex: boolean, owner: AttemptsOwner) {
    this.multiplex = multiplex;
    this.engine = engine;
    this.owner = owner;
    this.http1 = new Http1Upstreams(engine, this);
    this.connections = new HttpConnections(engine, slab, dialler, this.http1, this);
    this.http2 = new Http2Connections(engine, dialler, this);
    this.waiting = new Waiting(this);
  }

  /** Sends a request whose head is there. */
  start(exchange: Exchange, nowMs: number): void {
    this.attempt(exchange, undefined, nowMs);
  }

  /** Bytes of its body were passed on. */
  keep(exchange: Exchange, bytes: Uint8Array, from: number, to: number): void {
    if (mayBeRefused(exchange)) this.retained.keep(exchange, bytes, from, to);
    else exchange.replayable = false;
  }

  /** Its trailers were. */
  keepTrailers(exchange: Exchange, trailers: FieldList): void {
    if (mayBeRefused(exchange)) this.retained.keepTrailers(exchange, trailers);
    else exchange.replayable = false;
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

  adoptUpstream(upstream: AnyUpstream): void {
    this.owner.adoptUpstream(upstream);
  }

  upstreamReady(exchange: Exchange, upstream: HttpUpstream): void {
    this.send(exchange, upstream);
  }

  dialFailed(exchange: Exchange, endpoint: Endpoint, failure: DialFailure): void {
    this.detach(exchange, endpoint);
    exchange.decision?.attempted('not reached', failure.detail);
    exchange.tried = [...exchange.tried, endpoint];
    const nowMs = this.engine.nowMs();
    if (nowMs - exchange.startedMs >= TOTAL_MS) return this.giveUp(exchange, failure);
    this.attempt(exchange, failure, nowMs);
  }

  tookBackHttp2(exchange: Exchange, endpoint: Endpoint, detail: string): void {
    this.detach(exchange, endpoint);
    exchange.decision?.attempted('not reached', detail);
    this.attempt(exchange, undefined, this.engine.nowMs());
  }

  unreached(exchange: Exchange, { metrics }: Http2Upstream, endpoint: Endpoint, reason: string): void {
    const nowMs = this.engine.nowMs();
    const detail = `${endpoint.address}: ${reason}`;
    endpoint.requestFailed(nowMs - exchange.attemptedMs, nowMs);
    this.detach(exchange, endpoint);
    exchange.decision?.attempted('not reached', detail);
    if (!exchange.replayable) return this.owner.failed(exchange, 502, 'connect', `${detail}${TOO_LONG}`);
    metrics.replayed('unreached');
    // What was sent of it is sent again, however late it is: a proxy that is there says so at once.
    exchange.replays++;
    exchange.tried = [...exchange.tried, endpoint];
    this.attempt(exchange, { errno: 0, detail, reason: 'connect' }, nowMs);
  }

  carried(exchange: Exchange, carrier: Http2Carrier): void {
    this.send(exchange, carrier);
  }

  sessionEnded(endpoint: Endpoint, code: number, reason: string, ours: boolean): void {
    this.owner.endpointFailed(endpoint, code, reason, ours);
  }

  turnedAway(exchange: Exchange, { session }: Http2Upstream, endpoint: Endpoint): void {
    this.detach(exchange, endpoint);
    const why =
      exchange.isExtendedConnect && session.isKnown && !session.takesExtendedConnect
        ? 'it takes no extended CONNECT (RFC 8441)'
        : 'its connection takes no more streams';
    exchange.decision?.attempted('not reached', `${endpoint.address}: ${why}`);
    this.attempt(exchange, undefined, this.engine.nowMs());
  }

  waitedTooLong(exchange: Exchange, { address }: Endpoint, afterMs: number): void {
    this.owner.failed(exchange, 503, 'connect', `${address} took no more streams for ${afterMs / 1000} s`);
  }

  upstreamLost(
    exchange: Exchange,
    upstream: HttpUpstream,
    endpoint: Endpoint,
    errno: number,
    written: number,
  ): void {
    if (errno === 0 && exchange.isOpenTunnel && exchange.requestBody.done)
      return this.http1.tunnelEnded(exchange, endpoint);
    const { served, pool } = upstream;
    const what = `the connection to ${endpoint.address} was lost (${errno === 0 ? 'closed' : errnoName(errno)}) before a response came`;
    const fate = written <= upstream.handedBefore ? 'unprocessed' : 'unknown';
    this.lost(exchange, endpoint, served, what, fate, pool.metrics);
  }

  streamLost(
    exchange: Exchange,
    carrier: Http2Carrier,
    endpoint: Endpoint,
    what: string,
    fate: RequestFate,
  ): void {
    const { served, session, metrics } = carrier.upstream;
    if (fate === 'unprocessed') {
      // Who refuses one stream refuses others, and who ends one connection ends others: it is asked again when all were.
      exchange.tried = [...exchange.tried, endpoint];
      exchange.undone = endpoint;
      // How many of its connections end that were of use is not the request's fault; there are only so many.
      if (session.draining && served > 0 && exchange.replays > 0) exchange.replays--;
    }
    this.lost(exchange, endpoint, served, what, fate, metrics);
  }

  /** Its carrier is gone before there was a whole response. `served`: exchanges that the connection had carried before. */
  private lost(
    exchange: Exchange,
    endpoint: Endpoint,
    served: number,
    what: string,
    fate: RequestFate,
    metrics: HttpPoolSeries,
  ): void {
    this.detach(exchange, endpoint);
    if (exchange.responseStarted) return this.owner.brokenOff(exchange, what);
    const nowMs = this.engine.nowMs();
    exchange.decision?.attempted('lost', what);
    // A kept connection that its server closed meanwhile says nothing of the endpoint.
    if (served === 0) endpoint.requestFailed(nowMs - exchange.attemptedMs, nowMs);
    const mayRepeat = fate === 'unprocessed' || (fate === 'unknown' && exchange.idempotent);
    if (mayRepeat && exchange.replayable && exchange.replays++ < MAX_REPLAYS) {
      metrics.replayed(served > 0 ? 'closed_idle' : 'closed_before_response');
      return this.attempt(exchange, undefined, nowMs);
    }
    this.owner.failed(exchange, 502, 'i/o', `${what}${whyLost(exchange, fate)}`);
  }

  answered(exchange: Exchange, carrier: Carrier, status: number): void {
    const { decision } = exchange;
    const nowMs = this.engine.nowMs();
    carrier.endpoint?.answered(nowMs - exchange.attemptedMs, nowMs);
    if (decision !== undefined) {
      decision.attempted('answered', '');
      decision.answeredMs = nowMs;
    }
    exchange.status = status;
    this.release(exchange);
  }

  responded(exchange: Exchange): void {
    this.owner.responded(exchange);
  }

  switched(exchange: Exchange): void {
    this.owner.switched(exchange);
  }

  spoiled(exchange: Exchange, carrier: Carrier, problem: string): void {
    const { endpoint } = carrier;
    const nowMs = this.engine.nowMs();
    endpoint?.requestFailed(nowMs - exchange.attemptedMs, nowMs);
    exchange.decision?.attempted('not understood', problem);
    const message = `the response of ${endpoint?.address} cannot be understood: ${problem}`;
    this.owner.failed(exchange, 502, 'bad_response', message);
  }

  /** Nobody wants the response any more, or there is none. */
  abandon(exchange: Exchange): void {
    const { carrier } = exchange;
    this.release(exchange);
    this.waiting.remove(exchange);
    carrier?.side.abandon(exchange, carrier);
  }

  detach(exchange: Exchange, endpoint: Endpoint | undefined): void {
    exchange.client.unlink(exchange);
    exchange.carrier = undefined;
    endpoint?.endRequest();
  }

  /** It need not be sent again. */
  private release(exchange: Exchange): void {
    this.retained.release(exchange);
    exchange.client.releaseHead(exchange);
  }

  private send(exchange: Exchange, carrier: Carrier): void {
    carrier.side.sendRequest(exchange, carrier);
    if (exchange.decision !== undefined) exchange.decision.sentMs = this.engine.nowMs();
    exchange.client.goOn(exchange);
  }

  private attempt(exchange: Exchange, last: DialFailure | undefined, nowMs: number): void {
    const { connection } = exchange;
    const decision = exchange.decision!;
    let failure = last;
    let lastResort: Endpoint | undefined;
    for (;;) {
      // Who takes no streams just now is waited for only when nobody else is left.
      const endpoint = this.next(exchange, failure?.errno ?? 0, nowMs) ?? lastResort;
      if (endpoint === undefined) return this.noEndpoint(exchange, failure, nowMs);
      const pool = this.connections.poolOf(endpoint);
      const shared = this.isShared(exchange, pool, endpoint);
      if (!shared && exchange.isExtendedConnect && !exchange.isWebSocket)
        return this.refuseProtocol(exchange, endpoint);
      let kept = shared
        ? this.http2.withRoom(pool, nowMs)?.carry(exchange)
        : this.kept(exchange, pool, nowMs);
      const closed = shared && kept === undefined ? this.http2.withoutStreams(pool) : undefined;
      if (closed !== undefined && endpoint !== lastResort) {
        lastResort ??= endpoint;
        exchange.tried = [...exchange.tried, endpoint];
        continue;
      }
      kept ??= closed?.carry(exchange);
      exchange.attemptedMs = nowMs;
      decision.attempt(endpoint, connection.picker?.last, shared, kept?.served ?? -1, nowMs);
      const carrier = kept ?? this.open(exchange, pool, endpoint, shared, nowMs);
      if ('errno' in carrier) {
        failure = carrier;
        decision.attempted('not reached', failure.detail);
        exchange.tried = [...exchange.tried, endpoint];
        if (failure.errno === ERRNO.emfile || failure.errno === ERRNO.enfile)
          return this.giveUp(exchange, failure);
        continue;
      }
      endpoint.beginRequest();
      if (pool.authorities !== undefined) this.countAt(exchange, decision, pool.authorities);
      exchange.carrier = carrier;
      if (kept !== undefined && !kept.isWaiting) this.send(exchange, kept);
      return;
    }
  }

  /** Counts the request as one to this destination, and no longer to another one. */
  private countAt(exchange: Exchange, decision: Decision, authorities: HttpAuthorities): void {
    const before = exchange.series;
    const series = authorities.of(decision.authority, 0, decision.authorityLength);
    if (series === before) return;
    before?.abandoned();
    series.requested();
    exchange.series = series;
  }

  /** A connection of HTTP/1 that can carry it. */
  private kept(exchange: Exchange, pool: HttpPool, nowMs: number): Carrier | undefined {
    // After a loss others that waited as long may be as dead.
    if (exchange.replays > 0) return undefined;
    const sinceMs = exchange.idempotent ? 0 : nowMs - RECENT_MS;
    return this.connections.waiting(pool, sinceMs);
  }

  /**
   * It goes out on a stream: the application is known to speak HTTP/2, or it came on one and nobody knows better, or the endpoint's proxy
   * takes all requests so. A tunnel has a connection of its own where it is not a stream from end to end.
   */
  private isShared(exchange: Exchange, pool: HttpPool, { protocol, figures }: Endpoint): boolean {
    const asHttp2 = protocol === undefined ? exchange.isHttp2 : protocol === 'http2';
    if (!exchange.isTunnel) return asHttp2 || (this.multiplex && figures.takesHttp2);
    if (!asHttp2) return false;
    return exchange.isExtendedConnect ? !pool.refusesExtendedConnect : !exchange.isWebSocket;
  }

  /** HTTP/1 has no word for the protocol that an extended CONNECT asks for. */
  private refuseProtocol(exchange: Exchange, { address }: Endpoint): void {
    const message = `${address} takes no extended CONNECT (RFC 8441), and with HTTP/1 there is only WebSocket`;
    this.owner.failed(exchange, 501, 'unexpected', message);
  }

  private open(
    exchange: Exchange,
    pool: HttpPool,
    endpoint: Endpoint,
    shared: boolean,
    nowMs: number,
  ): Carrier | DialFailure {
    if (!shared) return this.connections.open(pool, endpoint, exchange, nowMs);
    const upstream = this.http2.open(pool, endpoint, exchange.connection.direction === 'outbound');
    return upstream instanceof Http2Upstream ? upstream.carry(exchange) : upstream;
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
    const { undone, tried } = exchange;
    if (undone !== undefined && failure !== undefined) {
      exchange.undone = undefined;
      exchange.tried = tried.filter((endpoint) => endpoint !== undone);
      return this.attempt(exchange, failure, nowMs);
    }
    if (failure !== undefined || picker === undefined) return this.giveUp(exchange, failure);
    if (tried.length === 0) return this.waiting.add(exchange, picker);
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
}

/**
 * Whether its body may have to be sent again. Of a connection that only it has, some of it has always been processed; streams are
 * refused with their content.
 */
function mayBeRefused({ idempotent, carrier }: Exchange): boolean {
  return idempotent || carrier?.writer.socket === 0;
}

/** Why a request that was lost is not sent again. */
function whyLost({ idempotent, replayable, replays }: Exchange, fate: RequestFate): string {
  if (!idempotent && fate !== 'unprocessed')
    return '; the request may have been processed, and must not be sent twice';
  if (fate === 'given up') return '';
  return replayable ? `, ${replays} times in a row` : TOO_LONG;
}
