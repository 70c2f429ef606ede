/**
 * One HTTP request and its response, as they pass through, and the connections to endpoints that carry them. A client's HTTP/1
 * connection has one exchange at a time, and uses it again.
 */
import { MessageBody } from '../http/body.ts';
import { equalsFolded, LOWER } from '../http/bytes.ts';
import { type Head, PROTOCOL } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import type { HttpSeries } from '../metrics/http.ts';
import type { HttpAuthorities } from '../metrics/http-authorities.ts';
import type { HttpPoolSeries } from '../metrics/http-pool.ts';
import type { ConnectionId } from '../native/engine.ts';
import type { RequestTexts } from './access.ts';
import { NO_BYTES, NO_ENDPOINTS, type ProxyConnection } from './connection.ts';
import type { Decision } from './decision.ts';
import type { UpstreamFault, UpstreamStage } from './dialling.ts';
import type { Endpoint } from './endpoint.ts';

/**
 * What a client's connection is doing: reading a request's head, its body, or nothing until the response has gone out; `tunnel`
 * once bytes are to pass both ways untouched, if the endpoint agrees; `closing` when nothing more is read.
 */
export type ClientPhase = 'head' | 'body' | 'answer' | 'tunnel' | 'closing';

/** A client's HTTP/1 connection and the exchange it is at. */
export class Exchange {
  readonly connection: ProxyConnection;
  readonly fields: Uint8Array;
  readonly clientSeries: HttpSeries | undefined;
  phase: ClientPhase = 'head';
  /** Received bytes that nobody has used: part of a head, or what came ahead of its time. */
  held: Uint8Array = NO_BYTES;
  /** What its deadline is for. */
  due: 'head' | 'body' | 'next' = 'next';
  /** Its bytes are being read just now. */
  reading = false;
  /** It is not read from, though more may come. */
  paused = false;
  /** The client has ended its side. */
  clientEnded = false;

  // --- the request
  method = 0;
  /** Of the client: HTTP/1.`minor`. */
  minor: 0 | 1 = 1;
  readonly requestBody = new MessageBody();
  /** Of the whole body in bytes, where it is known. */
  requestLength = 0;
  /** May be sent again though it may have been processed (RFC 9110 section 9.2.2). */
  idempotent = false;
  /** The client keeps its connection after the response, as far as it and the request go. */
  keepAlive = true;
  /** The client has said that the request is its last. */
  last = false;
  /** It takes JSON rather than text. */
  json = false;
  startedMs = 0;
  /** When it was given to its present endpoint. */
  attemptedMs = 0;
  /** The record of it, from its head to its end. */
  decision: Decision | undefined;
  /** What the access log needs of its head; undefined where there is no log or no head. */
  texts: RequestTexts | undefined;

  // --- what was sent, for as long as it may have to be sent again; see retained.ts
  /** Offset of the block in the slab that has the head; 0 for none. */
  blockOffset = 0;
  blockLength = 0;
  /** The head, where it does not fit into a block. */
  longHead: Uint8Array | undefined;
  /** The body so far, as it came. */
  keptBody: Uint8Array[] = [];
  keptLength = 0;
  /** Everything that was sent so far is kept. */
  replayable = false;
  /** `Engine.flushes` when it was last sent. */
  sentFlush = -1;

  // --- where it goes
  /** Metrics of the request; undefined until it is known where it goes. */
  series: HttpSeries | undefined;
  upstream: HttpUpstream | undefined;
  /** Endpoints that could not be reached for it. */
  tried: readonly Endpoint[] = NO_ENDPOINTS;
  /** Times it was sent again. */
  replays = 0;
  /** The client is linked to the endpoint: a body is on its way. */
  requestLinked = false;
  /** The endpoint is linked to the client. */
  responseLinked = false;

  // --- the response
  readonly responseBody = new MessageBody();
  /** The body goes to the client in chunks. */
  responseChunked = false;
  status = 0;
  /** The head of the final response has gone out. */
  responseStarted = false;
  /** Its connections carry another protocol from here on, or a tunnel. */
  switching = false;

  /**
   * @param fields added to each of its requests: whole lines of a head
   * @param clientSeries metrics of its requests, where they are counted by who sends them
   */
  constructor(connection: ProxyConnection, fields: Uint8Array, clientSeries: HttpSeries | undefined) {
    this.connection = connection;
    this.fields = fields;
    this.clientSeries = clientSeries;
  }

  /** Takes what a request's head says; nothing of the exchange before is left. */
  begin(head: Head, nowMs: number): void {
    const websocket = head.upgrade && head.protocol === PROTOCOL.websocket && head.method === METHOD.get;
    this.startedMs = nowMs;
    this.method = head.method;
    this.minor = head.minor;
    this.requestLength = head.contentLength;
    this.requestBody.start(head.body, head.contentLength);
    this.idempotent = IDEMPOTENT[head.method] === 1;
    this.last = head.close;
    this.keepAlive = !head.close;
    this.json = prefersJson(head);
    this.status = this.responseBody.content = 0;
    this.responseStarted = this.switching = false;
    this.series = this.clientSeries;
    this.series?.requested();
    const tunnel = head.method === METHOD.connect || (websocket && this.requestBody.done);
    this.phase = tunnel ? 'tunnel' : this.requestBody.done ? 'answer' : 'body';
  }
}

/** By METHOD number: may be sent again though it may have been processed (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Uint8Array(16);
for (const method of ['get', 'head', 'put', 'delete', 'options', 'trace'] as const)
  IDEMPOTENT[METHOD[method]] = 1;

const ACCEPT = Buffer.from('accept', 'latin1');
const JSON_TYPE = Buffer.from('application/json', 'latin1');

function prefersJson(head: Head): boolean {
  const field = head.find(ACCEPT);
  if (field < 0) return false;
  const start = head.fields[4 * field + 2];
  const end = Math.min(start + JSON_TYPE.length, head.fields[4 * field + 3]);
  return equalsFolded(head.bytes, start, end, JSON_TYPE, LOWER);
}

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
  /** It waits in the pool, or did when it ended. */
  idle = false;
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
  readonly metrics: HttpPoolSeries;
  /** Requests to the endpoint; undefined where they are counted by who sent them. */
  readonly authorities: HttpAuthorities | undefined;
  /** Those that wait, the one that was useful last at the end: it is the least likely to be closed by the other side. */
  private readonly idle: HttpUpstream[] = [];
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
