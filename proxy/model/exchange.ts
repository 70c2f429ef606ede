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
  /** May be sent again though it may have been processed (RFC 9110 section 9.2.2). */
  idempotent = false;
  /** It asks for another protocol, or for a tunnel. */
  upgrade = false;
  /** The client keeps its connection after the response, as far as it and the request go. */
  keepAlive = true;
  /** It takes JSON rather than text. */
  json = false;
  startedMs = 0;

  // --- what was sent, for as long as it may have to be sent again; see retained.ts
  /** Offset of the block in the slab; 0 for none. */
  blockOffset = 0;
  blockLength = 0;
  /** What follows it, or all of it. */
  readonly kept: Uint8Array[] = [];
  keptLength = 0;
  /** Everything that was sent so far is kept. */
  replayable = false;

  // --- where it goes
  upstream: HttpUpstream | undefined;
  tried: readonly Endpoint[] = NO_ENDPOINTS;
  attempts = 0;

  // --- the response
  status = 0;
  readonly responseBody = new MessageBody();
  /** How the body goes to the client. */
  responseFraming: Framing = FRAMING.none;
  /** The head of the final response has gone out. */
  responseStarted = false;
  responseDone = false;

  constructor(connection: ProxyConnection) {
    this.connection = connection;
  }
}
