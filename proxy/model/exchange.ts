/**
 * One HTTP request and its response, whatever protocols carry them, and the seam between the two sides that do: neither knows
 * which protocol the other speaks.
 */
import type { Block } from '../core/block.ts';
import type { LocalAnswer } from '../http/answer.ts';
import { MessageBody } from '../http/body.ts';
import type { FieldIndex } from '../http/fields.ts';
import type { FieldList } from '../http/h2/field.ts';
import type { H2Head } from '../http/h2/head.ts';
import { FRAMING, type Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import type { HttpSeries } from '../metrics/http.ts';
import type { ConnectionId } from '../native/engine.ts';
import type { RequestTexts } from './access.ts';
import { NO_ENDPOINTS, type ProxyConnection } from './connection.ts';
import type { Decision } from './decision.ts';
import type { Endpoint } from './endpoint.ts';

/**
 * Takes the content of one message after the other, in the framing of its side. It always takes all of it; what cannot leave yet
 * makes it `full`.
 */
export interface BodyWriter {
  /** The socket it ends on, which a source with a socket of its own is to be linked to; 0 where many share one. */
  readonly socket: ConnectionId;
  /** Content goes out in pieces with a frame around each, not as it is. */
  readonly framed: boolean;
  /** Its source is to wait until `goOn`: it has more than it can send. For sources that cannot be linked to it. */
  readonly full: boolean;
  /** @param last that was all of it, and there are no trailers */
  write(bytes: Uint8Array, from: number, to: number, last: boolean): void;
  /** That was all of it. */
  end(trailers: FieldIndex | FieldList | undefined): void;
  /** So many bytes have gone to the socket without it. */
  passed(length: number): void;
}

/** The client's side of an exchange. */
export interface ClientSide {
  /**
   * Sends what was kept of the request's head on an HTTP/1 connection. `more`: the body follows at once.
   * @returns bytes handed to the engine
   */
  sendHead(exchange: Exchange, socket: ConnectionId, more: boolean): number;
  /** The same for HTTP/2; valid until the next call. */
  headFields(exchange: Exchange): FieldList;
  /** The request need not be sent again. */
  releaseHead(exchange: Exchange): void;
  /** The body of the request may go on: there is a connection, it has taken what it could not take before, or a tunnel is open. */
  goOn(exchange: Exchange): void;
  /** That connection is none of its business any more. */
  unlink(exchange: Exchange): void;
  /** Passes on the head of an interim response, or of the final one. */
  respond(exchange: Exchange, head: Head): void;
  /** The same from HTTP/2. `end`: there is no content. */
  respondFields(exchange: Exchange, head: H2Head, end: boolean): void;
  /** Its response is complete, and what becomes of its client depends on what was said. */
  finished(exchange: Exchange): void;
  /** Joins its socket, the `writer.socket`, with that of the endpoint: both have agreed to another protocol. */
  switched(exchange: Exchange, upstream: ConnectionId): void;
  /**
   * Sends an answer of the proxy.
   * @returns bytes of its body
   */
  answer(exchange: Exchange, answer: LocalAnswer): number;
  /** Ends a response in the middle so that the client cannot take it for a whole one. */
  breakOff(exchange: Exchange, why: string): void;
}

/** The endpoint's side of an exchange. */
export interface EndpointSide {
  /** Sends the request, or what is there of it. */
  sendRequest(exchange: Exchange, carrier: Carrier): void;
  /** The body of the response may go on. */
  goOn(exchange: Exchange, carrier: Carrier): void;
  /** The client's half of an open tunnel has ended. */
  halfClosed(exchange: Exchange, carrier: Carrier): void;
  /** Nobody wants the response any more, or there is none. */
  abandon(exchange: Exchange, carrier: Carrier): void;
}

/**
 * What an endpoint has made of a request whose carrier is gone: nothing; that is not known, since the connection was lost; or it has
 * given up the request alone, and would again.
 */
export type RequestFate = 'unprocessed' | 'unknown' | 'given up';

/** No whole number, so that V8 keeps the field as the double it becomes. */
const NEVER = -0.5;

/** What carries a request to its endpoint, and the response back. */
export interface Carrier {
  readonly side: EndpointSide;
  /** Undefined when its socket has ended. */
  readonly endpoint: Endpoint | undefined;
  /** Takes the content of the request. */
  readonly writer: BodyWriter;
  /** The request has a connection, and its content can be sent. */
  readonly isReady: boolean;
  /** Its connection is not there yet. */
  readonly isWaiting: boolean;
  /** Exchanges its connection has completed. */
  readonly served: number;
}

/** One request and its response. Where a connection has one at a time it is used again for the next. */
export abstract class Exchange {
  readonly connection: ProxyConnection;
  readonly client: ClientSide;
  /** Takes the content of responses. */
  readonly writer: BodyWriter;
  private readonly clientSeries: HttpSeries | undefined;

  // --- the request
  method = 0;
  readonly requestBody = new MessageBody();
  /** Of the whole body in bytes, where it is known. */
  requestLength = 0;
  /** One of FRAMING: how an HTTP/1 connection is told where the body ends. */
  requestFraming: number = FRAMING.none;
  /** May be sent again though it may have been processed (RFC 9110 section 9.2.2). */
  idempotent = false;
  /** It takes JSON rather than text. */
  json = false;
  /** It is a gRPC call. */
  grpc = false;
  /** When it is due, in ms of `performance.now()`; of those only that have a `deadlinePlace`. */
  dueMs = NEVER;
  /** Its place among the gRPC calls that have a deadline; -1: it has none. */
  deadlinePlace = -1;
  startedMs = 0;
  /** When it was given to its present endpoint. */
  attemptedMs = 0;
  /** The record of it, from its head to its end. */
  decision: Decision | undefined;
  /** What the access log needs of its head; undefined where there is no log or no head. */
  texts: RequestTexts | undefined;

  /** It asks for a way to talk to the endpoint in another protocol, each side until it ends by itself: CONNECT, or WebSocket. */
  isTunnel = false;
  /** On HTTP/2 it is an extended CONNECT (RFC 8441), which not all servers take. */
  isExtendedConnect = false;
  /** `Sec-WebSocket-Key` of the side that speaks HTTP/1, where there is one. */
  webSocketKey: Uint8Array | undefined;

  // --- what was sent, for as long as it may have to be sent again; see retained.ts
  /** The body so far, as it came, and its length. */
  keptBody: Block | undefined;
  keptBytes = 0;
  /** Its trailers, where they came on HTTP/2: those of HTTP/1 are in the body. */
  keptTrailers: FieldList | undefined;
  /** Everything that was sent so far is kept. */
  replayable = false;

  // --- where it goes
  /** Metrics of the request; undefined until it is known where it goes. */
  series: HttpSeries | undefined;
  carrier: Carrier | undefined;
  /** Endpoints that could not be reached for it. */
  tried: readonly Endpoint[] = NO_ENDPOINTS;
  /** Who of them has left it undone last, and may take it all the same where the others cannot be reached. */
  undone: Endpoint | undefined;
  /** Times it was sent again. */
  replays = 0;

  // --- the response
  readonly responseBody = new MessageBody();
  status = 0;
  /** Of a gRPC call, when its response says so; -1: it does not. */
  grpcStatus = -1;
  /** The head of the final response has gone out. */
  responseStarted = false;

  /** @param clientSeries metrics of its requests, where they are counted by who sends them */
  constructor(
    connection: ProxyConnection,
    client: ClientSide,
    writer: BodyWriter,
    clientSeries: HttpSeries | undefined,
  ) {
    this.connection = connection;
    this.client = client;
    this.writer = writer;
    this.clientSeries = clientSeries;
  }

  /** It came on HTTP/2, and goes on as such where the endpoint is not known to speak something else. */
  abstract get isHttp2(): boolean;
  /** It asks for a WebSocket, which is a GET in HTTP/1; other tunnels are CONNECT. */
  get isWebSocket(): boolean {
    return this.isTunnel && this.method === METHOD.get;
  }

  /** The endpoint has agreed to the tunnel. */
  get isOpenTunnel(): boolean {
    return this.isTunnel && this.responseStarted && this.status < 300;
  }

  /** A request begins; nothing of the exchange before is left. One that could not be read is not `counted` as a request. */
  protected beginWith(method: number, counted: boolean, nowMs: number): void {
    this.startedMs = nowMs;
    this.method = method;
    this.idempotent = IDEMPOTENT[method] === 1;
    this.status = this.responseBody.content = this.replays = 0;
    this.responseStarted = false;
    this.grpcStatus = -1;
    this.replayable = true;
    this.tried = NO_ENDPOINTS;
    this.undone = undefined;
    this.series = counted ? this.clientSeries : undefined;
    this.series?.requested();
  }
}

/** By METHOD number: may be sent again though it may have been processed (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Uint8Array(16);
for (const method of ['get', 'head', 'put', 'delete', 'options', 'trace'] as const)
  IDEMPOTENT[METHOD[method]] = 1;
