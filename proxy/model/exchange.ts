/** One HTTP request and its response, as they pass through. An HTTP/1 connection has one at a time, and uses it again. */
import { type Framing, FRAMING, MessageBody } from '../http/body.ts';
import { NO_BYTES, NO_ENDPOINTS, type ProxyConnection } from './connection.ts';
import type { Endpoint } from './endpoint.ts';
import type { HttpUpstream } from './http-upstream.ts';

/**
 * What a client's connection is doing: reading a request's head, its body, or nothing until the response has gone out; `tunnel`
 * once bytes are to pass both ways untouched, if the endpoint agrees; `closing` when nothing more is read.
 */
export type ClientPhase = 'head' | 'body' | 'answer' | 'tunnel' | 'closing';

/** A client's HTTP/1 connection and the exchange it is at. */
export class Exchange {
  readonly connection: ProxyConnection;
  readonly fields: Uint8Array;
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
  /** It takes JSON rather than text. */
  json = false;
  startedMs = 0;

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
  /** How the body goes to the client. */
  responseFraming: Framing = FRAMING.none;
  /** The head of the final response has gone out. */
  responseStarted = false;

  /** @param fields added to each of its requests: whole lines of a head */
  constructor(connection: ProxyConnection, fields: Uint8Array) {
    this.connection = connection;
    this.fields = fields;
  }
}
