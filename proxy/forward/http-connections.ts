/** Connections to endpoints for HTTP/1: dialled when none waits, kept when an exchange is over, given up in time. */
import { HttpAuthorities } from '../metrics/http-authorities.ts';
import { HttpPoolSeries } from '../metrics/http-pool.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointSide, Exchange } from '../model/exchange.ts';
import type { Labels } from '../model/target.ts';
import type { Engine } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';
import type { DialFailure, Dialler } from './dial.ts';
import { Http1Writer, TAIL_MS } from './http1-body.ts';
import { HttpPool, HttpUpstream } from './upstream.ts';

/** How long a connection may wait, in ms, unless its server says longer: below Node's 5 s, as Linkerd has it. */
const IDLE_MS = 3_000;

/** What is left of the time a server says it waits (`Keep-Alive: timeout`), in ms: for clocks, and for bytes on their way. */
const IDLE_MARGIN_MS = 1_000;

/** The longest wait that is learned, in ms: what is not needed for a minute is not worth its memory. */
const MAX_IDLE_MS = 60_000;

/**
 * A connection is replaced at this age, in ms, give or take a fifth: whatever remembers connections instead of addresses
 * (kernels, balancers in between) gets even again.
 */
const MAX_AGE_MS = 10 * 60_000;
const AGE_JITTER = 0.2;

/** Who uses the connections. */
export interface HttpConnectionsOwner {
  /** Remembers whose socket this is. */
  adoptUpstream(upstream: HttpUpstream): void;
  /** It can carry bytes. */
  upstreamReady(exchange: Exchange, upstream: HttpUpstream): void;
  /** It could not be opened. */
  dialFailed(exchange: Exchange, endpoint: Endpoint, failure: DialFailure): void;
  /** It ended in the middle of the exchange. `written`: bytes the kernel took from us for it, as far as we know. */
  upstreamLost(
    exchange: Exchange,
    upstream: HttpUpstream,
    endpoint: Endpoint,
    errno: number,
    written: number,
  ): void;
}

/** The connections of one worker. */
export class HttpConnections {
  private readonly engine: Engine;
  private readonly slab: MetricsSlab;
  private readonly dialler: Dialler;
  private readonly side: EndpointSide;
  private readonly owner: HttpConnectionsOwner;
  private readonly pools = new Map<Endpoint, HttpPool>();

  /** @param side what sends requests on them */
  constructor(
    engine: Engine,
    slab: MetricsSlab,
    dialler: Dialler,
    side: EndpointSide,
    owner: HttpConnectionsOwner,
  ) {
    this.side = side;
    this.engine = engine;
    this.slab = slab;
    this.dialler = dialler;
    this.owner = owner;
  }

  /** Where connections to an endpoint wait. */
  poolOf(endpoint: Endpoint): HttpPool {
    let pool = this.pools.get(endpoint);
    if (pool === undefined) {
      pool = makePool(this.slab, endpoint.series.labels);
      this.pools.set(endpoint, pool);
    }
    return pool;
  }

  /** One that waits and was useful since `sinceMs`; undefined when there is none. */
  waiting(pool: HttpPool, sinceMs: number): HttpUpstream | undefined {
    const upstream = pool.take(sinceMs);
    if (upstream !== undefined) pool.metrics.reused();
    return upstream;
  }

  /** Lets metrics of authorities go that nobody asks for; about once a minute. */
  sweep(): void {
    for (const { authorities } of this.pools.values()) authorities?.sweep();
  }

  /** Answers requests that wait for streams which do not come; about every ten seconds. */
  endQueued(): void {
    for (const { shared } of this.pools.values()) for (const upstream of [...shared]) upstream.endQueued();
  }

  /** A new one for the exchange; or why there cannot be one. */
  open(pool: HttpPool, endpoint: Endpoint, exchange: Exchange, nowMs: number): HttpUpstream | DialFailure {
    const age = MAX_AGE_MS * (1 + AGE_JITTER * (2 * Math.random() - 1));
    const upstream = new HttpUpstream(pool, this.side, new Http1Writer(this.engine, 0), IDLE_MS, nowMs + age);
    const failure = this.dialler.open(upstream, endpoint, exchange.connection.direction === 'outbound');
    if (failure !== undefined) return failure;
    upstream.exchange = exchange;
    upstream.writer.socket = upstream.upstream;
    pool.metrics.opened();
    this.owner.adoptUpstream(upstream);
    return upstream;
  }

  /**
   * The exchange is over, and the next may follow.
   * @param saidMs how long the server says it waits for the next; below 0 when it says nothing
   */
  give(upstream: HttpUpstream, saidMs: number): void {
    const nowMs = this.engine.nowMs();
    upstream.exchange = undefined;
    upstream.served++;
    upstream.usedMs = nowMs;
    if (upstream.pool.closed || nowMs >= upstream.expiresMs) return this.discard(upstream);
    if (saidMs >= 0) upstream.idleMs = Math.min(Math.max(saidMs - IDLE_MARGIN_MS, 0), MAX_IDLE_MS);
    if (upstream.idleMs === 0) return this.discard(upstream);
    if (upstream.armedMs !== upstream.idleMs) this.arm(upstream);
    upstream.pool.give(upstream);
    upstream.pool.metrics.idled();
  }

  /** It is of no more use: everything is said, or nothing of it counts. */
  discard(upstream: HttpUpstream): void {
    upstream.exchange = undefined;
    upstream.closing = true;
    this.engine.reset(upstream.upstream);
  }

  /** A tunnel is over, whose last bytes may be on their way. */
  finish(upstream: HttpUpstream): void {
    upstream.exchange = undefined;
    upstream.closing = true;
    this.engine.close(upstream.upstream);
    this.engine.deadline(upstream.upstream, TAIL_MS, true);
  }

  /** Discovery does not list the endpoint any more: what waits is closed, what is busy is when it is done. */
  retire(endpoint: Endpoint): void {
    const pool = this.pools.get(endpoint);
    if (pool === undefined) return;
    this.pools.delete(endpoint);
    for (const upstream of pool.close()) this.discard(upstream);
    for (const upstream of [...pool.shared]) upstream.retire();
    pool.metrics.release();
    pool.authorities?.release();
  }

  /** The same for all endpoints: nobody is there who would use the connections. */
  retireAll(): void {
    for (const endpoint of [...this.pools.keys()]) this.retire(endpoint);
  }

  connected(upstream: HttpUpstream, micros: number): void {
    if (this.dialler.connected(upstream, micros)) this.ready(upstream);
  }

  secured(upstream: HttpUpstream, report: TlsReport): void {
    if (this.dialler.secured(upstream, report)) this.ready(upstream);
  }

  /** Its deadline has passed: of its handshake, or of its wait. */
  timedOut(upstream: HttpUpstream): void {
    if (upstream.upstreamStage !== 'ready') return this.dialler.timedOut(upstream);
    upstream.armedMs = 0;
    if (upstream.closing) return this.engine.reset(upstream.upstream);
    if (upstream.exchange !== undefined) return;
    upstream.pool.remove(upstream);
    this.discard(upstream);
  }

  /** The socket ended, or never was. */
  ended(upstream: HttpUpstream, errno: number, written: number): void {
    const { exchange, endpoint, established } = upstream;
    upstream.pool.metrics.closed(upstream.idle);
    upstream.pool.remove(upstream);
    upstream.closing = true;
    const failure = this.dialler.ended(upstream, errno, exchange !== undefined);
    upstream.exchange = undefined;
    if (exchange === undefined || endpoint === undefined || failure === undefined) return;
    if (established) this.owner.upstreamLost(exchange, upstream, endpoint, failure.errno, written);
    else this.owner.dialFailed(exchange, endpoint, failure);
  }

  private ready(upstream: HttpUpstream): void {
    const { endpoint, exchange } = upstream;
    if (endpoint === undefined) return;
    this.engine.deadline(upstream.upstream, 0);
    this.engine.count(upstream.upstream, endpoint.series.readSlot, endpoint.series.writeSlot);
    this.engine.resume(upstream.upstream);
    upstream.writer.handed = endpoint.tls?.header.length ?? 0;
    upstream.usedMs = this.engine.nowMs();
    if (exchange !== undefined) return this.owner.upstreamReady(exchange, upstream);
    // Whoever asked for it has gone; the next one will be glad.
    this.give(upstream, -1);
  }

  /** One deadline as long as it is open: it counts from the last byte either way, and is set again when it passes in vain. */
  private arm(upstream: HttpUpstream): void {
    upstream.armedMs = upstream.idleMs;
    this.engine.deadline(upstream.upstream, upstream.idleMs, true);
  }
}

/** Outbound requests are counted by where they go; inbound ones by who sent them, see `Inbound`. */
function makePool(slab: MetricsSlab, labels: Labels): HttpPool {
  const { peer: _peer, ...destination } = labels;
  const { direction, target_addr } = destination;
  const metrics = new HttpPoolSeries(slab, { direction, target_addr });
  if (direction === 'inbound') return new HttpPool(metrics, undefined);
  const fine = slab.histogram('ferrule_response_latency_seconds', { direction, target_addr });
  const authorities = new HttpAuthorities(slab, destination, fine);
  slab.release(fine.slot);
  return new HttpPool(metrics, authorities);
}
