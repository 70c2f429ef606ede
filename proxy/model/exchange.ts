/** One HTTP request and its response, as they pass through. An HTTP/1 connection has one at a time, and uses it again. */
import { MessageBody } from '../http/body.ts';
import { equalsFolded, LOWER } from '../http/bytes.ts';
import { type Head, PROTOCOL } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
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
  /** The body goes to the client in chunks. */
  responseChunked = false;
  /** The head of the final response has gone out. */
  responseStarted = false;
  /** Its connections carry another protocol from here on, or a tunnel. */
  switching = false;

  /** @param fields added to each of its requests: whole lines of a head */
  constructor(connection: ProxyConnection, fields: Uint8Array) {
    this.connection = connection;
    this.fields = fields;
  }

  /** Takes what a request's head says; nothing of the exchange before is left. */
  begin(head: Head): void {
    const websocket = head.upgrade && head.protocol === PROTOCOL.websocket && head.method === METHOD.get;
    this.method = head.method;
    this.minor = head.minor;
    this.requestLength = head.contentLength;
    this.requestBody.start(head.body, head.contentLength);
    this.idempotent = IDEMPOTENT[head.method] === 1;
    this.keepAlive = !head.close;
    this.json = prefersJson(head);
    this.responseStarted = this.switching = false;
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
