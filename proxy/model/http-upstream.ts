/** Connections to endpoints that carry one HTTP/1 exchange after the other, and where they wait in between. */
import type { ConnectionId } from '../native/engine.ts';
import { NO_BYTES, type UpstreamFault, type UpstreamStage } from './connection.ts';
import type { Endpoint } from './endpoint.ts';
import type { Exchange } from './exchange.ts';

/** One connection to an endpoint, from dialling to its end. */
export class HttpUpstream {
  readonly kind = 'upstream';
  readonly pool: HttpPool;
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
  /** No request goes out on it any more: it is being closed. */
  closing = false;
  /** The endpoint has ended its side. */
  ended = false;
  /** What the response at hand says: that another may follow, and for how long the endpoint waits for it, in ms (-1: nothing). */
  reusable = false;
  saidMs = -1;
  /** Exchanges it has completed. */
  served = 0;
  /** Bytes handed to the engine for it, and of these those of exchanges before the present one. */
  handed = 0;
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

  constructor(pool: HttpPool, idleMs: number, expiresMs: number) {
    this.pool = pool;
    this.idleMs = idleMs;
    this.expiresMs = expiresMs;
  }
}

/** The connections to one endpoint, which is to one identity too. */
export class HttpPool {
  /** Those that wait, the one that was useful last at the end: it is the least likely to be closed by the other side. */
  private readonly idle: HttpUpstream[] = [];
  /** The endpoint is no longer listed: nothing comes back. */
  closed = false;

  /** @returns one that waits; undefined when none does, or none was useful since `sinceMs` */
  take(sinceMs: number): HttpUpstream | undefined {
    const { idle } = this;
    if (idle.length === 0 || idle[idle.length - 1].usedMs < sinceMs) return undefined;
    return idle.pop();
  }

  /** It waits from now on. */
  give(upstream: HttpUpstream): void {
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
