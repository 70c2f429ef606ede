/** Connections to endpoints that carry requests, and where they wait for the next one. */
import type { HttpAuthorities } from '../metrics/http-authorities.ts';
import type { HttpPoolSeries } from '../metrics/http-pool.ts';
import { NO_BYTES } from '../model/connection.ts';
import type { UpstreamFault, UpstreamStage } from '../model/dialling.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Carrier, EndpointSide, Exchange } from '../model/exchange.ts';
import type { ConnectionId } from '../native/engine.ts';
import type { Http1Writer } from './http1-body.ts';
import type { Http2Upstream } from './http2-upstream.ts';

/** An HTTP/1 connection to an endpoint, from dialling to its end. */
export class HttpUpstream implements Carrier {
  readonly kind = 'upstream';
  readonly pool: HttpPool;
  readonly side: EndpointSide;
  readonly writer: Http1Writer;
  /** Its own socket; see `Dialling`. */
  upstream: ConnectionId = 0;
  endpoint: Endpoint | undefined;
  upstreamStage: UpstreamStage = 'none';
  upstreamFault: UpstreamFault | undefined;
  established = false;
  /** What it is busy with; undefined while it waits in the pool. */
  exchange: Exchange | undefined;
  /** A response head that is not whole yet. */
  held: Uint8Array = NO_BYTES;
  /** It waits in the pool, or did when it ended. */
  idle = false;
  /** No request goes out on it any more: it is being closed. */
  closing = false;
  /** The endpoint has ended its side. */
  ended = false;
  /** It is not read from, since the client does not take what it sends. */
  paused = false;
  /** It is linked to the client of its exchange: a body is on its way. */
  linked = false;
  /** It carries another protocol from here on, or a tunnel. */
  switching = false;
  /** What the response at hand says: that another may follow, and for how long the endpoint waits for it, in ms (-1: nothing). */
  reusable = false;
  saidMs = -1;
  served = 0;
  /** Bytes handed to the engine for exchanges before the present one. */
  handedBefore = 0;
  /** When it was last useful, and when it should be replaced, in ms of `performance.now()`. */
  usedMs = 0;
  readonly expiresMs: number;
  /** How long it may wait in the pool, in ms. */
  idleMs: number;
  /** The deadline that is set for that, in ms; 0 while there is none. */
  armedMs = 0;
  /** `Engine.flushes` when a request was last handed over: what comes before the next is no response to it. */
  sentFlush = -1;

  constructor(pool: HttpPool, side: EndpointSide, writer: Http1Writer, idleMs: number, expiresMs: number) {
    this.pool = pool;
    this.side = side;
    this.writer = writer;
    this.idleMs = idleMs;
    this.expiresMs = expiresMs;
  }

  /** What is said in a tunnel is nobody's request, and waits until the endpoint has agreed. */
  get isReady(): boolean {
    return !this.isWaiting && (this.switching || this.exchange?.isTunnel !== true);
  }

  get isWaiting(): boolean {
    return this.upstreamStage !== 'ready';
  }
}

/** A connection to an endpoint, whatever it speaks. */
export type AnyUpstream = HttpUpstream | Http2Upstream;

/** The connections to one endpoint, which is to one identity too. */
export class HttpPool {
  readonly metrics: HttpPoolSeries;
  /** Requests to the endpoint; undefined where they are counted by who sent them. */
  readonly authorities: HttpAuthorities | undefined;
  /** Those that wait, the one that was useful last at the end: it is the least likely to be closed by the other side. */
  private readonly idle: HttpUpstream[] = [];
  /** Connections of HTTP/2 that take requests. */
  readonly shared: Http2Upstream[] = [];
  /** The endpoint is no longer listed: nothing comes back. */
  closed = false;

  constructor(metrics: HttpPoolSeries, authorities: HttpAuthorities | undefined) {
    this.metrics = metrics;
    this.authorities = authorities;
  }

  /** @returns one that waits; undefined when none does, or none was useful since `sinceMs` */
  take(sinceMs: number): HttpUpstream | undefined {
    const { idle } = this;
    if (idle.length === 0 || idle[idle.length - 1].usedMs < sinceMs) return undefined;
    const upstream = idle.pop();
    if (upstream !== undefined) upstream.idle = false;
    return upstream;
  }

  /** Its server has said on one of them that it takes no extended CONNECT (RFC 8441). */
  get refusesExtendedConnect(): boolean {
    return this.shared.some(({ session }) => session.isKnown && !session.takesExtendedConnect);
  }

  /** It waits from now on. */
  give(upstream: HttpUpstream): void {
    upstream.idle = true;
    this.idle.push(upstream);
  }

  /** It ended. */
  remove(upstream: HttpUpstream): void {
    const at = this.idle.indexOf(upstream);
    if (at >= 0) this.idle.splice(at, 1);
  }

  /** Nothing comes back any more. @returns those that wait, to be closed */
  close(): readonly HttpUpstream[] {
    this.closed = true;
    return this.idle.splice(0);
  }
}
