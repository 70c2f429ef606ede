/** The client's side of HTTP/1: what its requests mean, and how responses are written to it. */

import { hasRoomToAnnounce, TAKES_HTTP2 } from '../http/announcement.ts';
import { bodyLength, encodeAnswer, type LocalAnswer } from '../http/answer.ts';
import { FieldList } from '../http/h2/field.ts';
import { FieldOptions, requestFields } from '../http/h2/from-http1.ts';
import type { H2Head } from '../http/h2/head.ts';
import { fieldsRoom, LineOptions, responseFraming, writeResponseFields } from '../http/h2/to-http1.ts';
import { BODY, FRAMING, Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import { canonicalPath } from '../http/path.ts';
import { describeProblem, PROBLEM } from '../http/problems.ts';
import { readRequestHead } from '../http/request.ts';
import { CONNECTION, headRoom, WriteOptions, writeResponseHead } from '../http/write.ts';
import { hostOf, NO_BYTES, type ProxyConnection } from '../model/connection.ts';
import type { ClientSide } from '../model/exchange.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import type { Exchanges } from './exchanges.ts';
import { passBody, passRest, TAIL_MS } from './http1-body.ts';
import type { Http1Exchange, RequestPart } from './http1-exchange.ts';
import { Http1Heads } from './http1-heads.ts';
import { Http1Requests, type RequestOwner } from './http1-requests.ts';

/**
 * The head of a response with a body of so many bytes takes the place of the one that was received, right before the body, so that
 * both are one range and nothing but the head is copied; shorter bodies are copied behind it for less.
 */
const MIN_IN_PLACE = 1024;

/** Who keeps the table of clients. */
export interface Http1ClientsOwner {
  /** It speaks no HTTP any more. */
  forget(connection: ProxyConnection): void;
}

/** Clients of one worker that speak HTTP/1. */
export class Http1Clients implements ClientSide, RequestOwner {
  readonly requests: Http1Requests;
  private readonly engine: Engine;
  private readonly exchanges: Exchanges;
  private readonly owner: Http1ClientsOwner;
  private readonly heads: Http1Heads;
  private readonly requestOptions = new WriteOptions();
  private readonly responseOptions = new WriteOptions();
  private readonly lineOptions = new LineOptions();
  private readonly fieldOptions = new FieldOptions();
  /** On their way to HTTP/2: nobody keeps them. */
  private readonly head = new Head(true);
  private readonly fields = new FieldList();

  constructor(engine: Engine, exchanges: Exchanges, owner: Http1ClientsOwner) {
    this.engine = engine;
    this.exchanges = exchanges;
    this.owner = owner;
    this.heads = new Http1Heads(engine);
    this.requests = new Http1Requests(engine, this);
    // Those of the client were left out when it was kept; what is there is our own.
    this.head.keepMesh = true;
  }

  /** The client's socket has ended; `errno` is 0 for an orderly end. */
  gone(exchange: Http1Exchange, errno: number): void {
    exchange.phase = 'closing';
    exchange.held = NO_BYTES;
    // After our half of a tunnel nothing else tells of the end of the client's.
    if (errno === 0 && exchange.isOpenTunnel && exchange.responseBody.done) this.halfClose(exchange);
    else this.exchanges.clientLeft(exchange);
  }

  // --- requests

  requestHead(exchange: Http1Exchange, head: Head): void {
    const nowMs = this.engine.nowMs();
    exchange.begin(head, nowMs);
    this.exchanges.begin(exchange, head, nowMs);
    const path = pathOf(head);
    if (typeof path === 'number') return this.requestProblem(exchange, -path, 0);
    this.keepHead(exchange, head, path);
    this.exchanges.send(exchange, nowMs);
  }

  requestBytes(exchange: Http1Exchange, bytes: Uint8Array, from: number, to: number): number {
    const { carrier, requestBody, connection } = exchange;
    if (carrier?.isReady !== true) return from;
    const { writer } = carrier;
    const end = passBody(requestBody, bytes, from, to, writer);
    if (end < 0) return end;
    this.exchanges.keep(exchange, bytes, from, end);
    if (!requestBody.done && writer.socket !== 0) this.link(exchange, writer.socket);
    if (!exchange.replayable) passRest(this.engine, requestBody, connection.client, writer);
    if (requestBody.done) this.requestDone(exchange);
    return end;
  }

  /** The rest of the request's body has gone to the endpoint, but for the last `rest` bytes: those will not. */
  passed(exchange: Http1Exchange, rest: number): void {
    const { requestBody, carrier } = exchange;
    if (!requestBody.passing) return;
    const length = requestBody.passed(rest);
    carrier?.writer.passed(length);
    this.unlink(exchange);
    if (rest === 0) this.requestDone(exchange);
  }

  requestProblem(exchange: Http1Exchange, problem: number, seenBytes: number): void {
    const { status, text } = describeProblem(problem, seenBytes);
    exchange.keepAlive = false;
    this.exchanges.failed(exchange, status, 'bad_request', text);
  }

  requestLate(exchange: Http1Exchange, part: RequestPart, afterMs: number): void {
    exchange.keepAlive = false;
    if (part === 'next') return this.clientDone(exchange);
    const what =
      part === 'head' ? 'the head of the request was not complete' : 'the body of the request stood still';
    this.exchanges.failed(exchange, 408, 'head_timeout', `${what} after ${afterMs / 1000} s`);
  }

  requestCut(exchange: Http1Exchange): void {
    if (exchange.phase === 'talk') return this.halfClose(exchange);
    this.exchanges.abandon(exchange);
    this.clientDone(exchange);
  }

  clientDone(exchange: Http1Exchange): void {
    if (exchange.phase === 'talk') this.engine.deadline(exchange.connection.client, TAIL_MS, true);
    exchange.phase = 'closing';
    const isAll = exchange.last && exchange.requestBody.kind === BODY.none;
    this.engine.close(exchange.connection.client, isAll ? 'none' : 'discarded');
  }

  sendHead(exchange: Http1Exchange, socket: ConnectionId, more: boolean): number {
    return this.heads.send(exchange, socket, more);
  }

  headFields(exchange: Http1Exchange): FieldList {
    const { head, fields, fieldOptions } = this;
    const [bytes, start, end] = this.heads.kept(exchange);
    // It was read once, and written as it is to be sent; without what it says nothing may go out.
    if (readRequestHead(head, bytes, start, end) !== end) throw new Error('a head of ours cannot be read');
    head.minor = exchange.minor;
    const endpoint = exchange.carrier?.endpoint;
    // A peer whose application speaks HTTP/2 is to pass it on as it comes.
    fieldOptions.original = endpoint?.tls !== undefined && endpoint.protocol !== 'http2';
    fieldOptions.webSocket = exchange.isWebSocket;
    // Servers of HTTP/2 refuse what HTTP/1.0 lets clients leave out.
    const isNameless = head.authorityStart === head.authorityEnd && !fieldOptions.original;
    fieldOptions.host = isNameless ? Buffer.from(String(exchange.connection.target?.key), 'latin1') : null;
    requestFields(head, fieldOptions, fields);
    return fields;
  }

  releaseHead(exchange: Http1Exchange): void {
    this.heads.release(exchange);
  }

  goOn(exchange: Http1Exchange): void {
    this.requests.goOnWithBody(exchange);
  }

  unlink(exchange: Http1Exchange): void {
    if (!exchange.linked) return;
    exchange.linked = false;
    this.engine.link(exchange.connection.client, 0);
  }

  // --- responses

  respond(exchange: Http1Exchange, head: Head): void {
    const { method, minor, writer } = exchange;
    const { status } = head;
    if (status < 200) {
      // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
      if (minor === 1) this.writeHead(exchange, head, FRAMING.none);
      return;
    }
    if (method === METHOD.connect && status < 300) return this.writeHead(exchange, head, FRAMING.none);
    this.settleConnection(exchange, status);
    if (exchange.isTunnel) exchange.refuseTunnel();
    // Towards HTTP/1.0 the end of the connection is the end of what has no length (RFC 9112 section 6.3).
    const endless = head.body === BODY.chunked || head.body === BODY.untilClose;
    writer.framed = endless && minor === 1;
    if (endless && minor === 0) exchange.keepAlive = false;
    this.writeHead(exchange, head, writer.framed ? FRAMING.chunked : announced(head, minor));
  }

  respondFields(exchange: Http1Exchange, { fields, status, contentLength }: H2Head, end: boolean): void {
    const { method, minor, writer } = exchange;
    const { engine, lineOptions: options } = this;
    if (status < 200 && minor === 0) return;
    if (exchange.isTunnel && status >= 200 && status < 300) return this.openTunnel(exchange, fields, end);
    if (status >= 200) this.settleConnection(exchange, status);
    options.webSocketKey = null;
    options.framing = responseFraming(method, status, contentLength, end, minor);
    // None was announced, and none follows.
    options.contentLength = Math.max(0, contentLength);
    writer.framed = options.framing === FRAMING.chunked;
    if (!end && status >= 200 && options.framing === FRAMING.none) exchange.keepAlive = false;
    options.connection = connectionOf(exchange, status);
    const at = engine.reserve(fieldsRoom(fields, options));
    engine.sendBuilt(exchange.connection.client, writeResponseFields(fields, options, engine.slab, at));
  }

  finished(exchange: Http1Exchange): void {
    if (exchange.phase === 'closing') return;
    // Of a request that was answered before its end we do not want the rest.
    if (exchange.keepAlive && exchange.requestBody.done) this.requests.resume(exchange);
    else this.clientDone(exchange);
  }

  switched(exchange: Http1Exchange, upstream: ConnectionId): void {
    const { connection, held } = exchange;
    const { client } = connection;
    exchange.held = NO_BYTES;
    exchange.phase = 'closing';
    connection.stage = 'open';
    this.owner.forget(connection);
    this.engine.deadline(client, 0);
    if (held.length > 0) this.engine.unread(client, held);
    this.engine.relay(client, upstream);
  }

  answer(exchange: Http1Exchange, answer: LocalAnswer): number {
    // HTTP/1.0 clients would have to be told that the connection goes on: it is not worth it.
    const last = !exchange.requestBody.done || exchange.isTunnel || exchange.minor === 0;
    if (last || this.exchanges.isDraining(exchange.connection)) exchange.keepAlive = false;
    const close = !exchange.keepAlive;
    const bytes = encodeAnswer(answer, exchange.json, exchange.method === METHOD.head, close);
    this.engine.send(exchange.connection.client, bytes);
    return bodyLength(bytes);
  }

  breakOff(exchange: Http1Exchange): void {
    exchange.phase = 'closing';
    this.engine.reset(exchange.connection.client);
  }

  /** Agrees to a tunnel for an endpoint of HTTP/2: what both sides say from here on is the content of a stream. */
  private openTunnel(exchange: Http1Exchange, fields: FieldList, end: boolean): void {
    const { engine, lineOptions: options } = this;
    const { client } = exchange.connection;
    const { writer, webSocketKey } = exchange;
    if (webSocketKey !== undefined) exchange.status = 101;
    options.webSocketKey = webSocketKey ?? null;
    options.framing = FRAMING.none;
    options.connection = connectionOf(exchange, exchange.status);
    const at = engine.reserve(fieldsRoom(fields, options));
    engine.sendBuilt(client, writeResponseFields(fields, options, engine.slab, at));
    // However long both are silent: nobody else knows what they speak.
    engine.deadline(client, 0);
    exchange.phase = 'talk';
    exchange.keepAlive = writer.framed = false;
    writer.endsSide = true;
    if (end) writer.end(undefined);
  }

  /** The client has ended its half of a tunnel. */
  private halfClose(exchange: Http1Exchange): void {
    const { carrier, requestBody } = exchange;
    if (requestBody.done || carrier === undefined) return;
    requestBody.done = true;
    carrier.writer.end(undefined);
    carrier.side.halfClosed(exchange, carrier);
  }

  /** Whether the client's connection goes on after this response, but for what its framing says. */
  private settleConnection(exchange: Http1Exchange, status: number): void {
    // A tunnel that is refused: what the client sent for it must not be read as requests.
    const refused = exchange.isTunnel;
    // The endpoint has seen enough, and the client may not send the rest, or not know where it ends.
    const early = !exchange.requestBody.done && status >= 300;
    if (refused || early || this.exchanges.isDraining(exchange.connection)) exchange.keepAlive = false;
  }

  private requestDone(exchange: Http1Exchange): void {
    this.unlink(exchange);
    if (exchange.phase === 'body') exchange.phase = 'answer';
  }

  private keepHead(exchange: Http1Exchange, head: Head, path: Uint8Array | null): void {
    const options = this.requestOptions;
    const upgrade = exchange.isTunnel && head.method !== METHOD.connect;
    options.framing = head.framing;
    options.contentLength = head.contentLength;
    options.connection = upgrade ? CONNECTION.upgrade : CONNECTION.none;
    options.path = path;
    options.extra = exchange.own?.lines ?? null;
    options.host = head.authorityStart === head.authorityEnd ? hostOf(exchange.connection) : null;
    this.heads.keep(exchange, head, options);
  }

  /** A client that sends faster than the endpoint reads waits. */
  private link(exchange: Http1Exchange, socket: ConnectionId): void {
    if (exchange.linked) return;
    exchange.linked = true;
    this.engine.link(exchange.connection.client, socket);
  }

  private writeHead(exchange: Http1Exchange, head: Head, framing: number): void {
    const { engine, responseOptions: options } = this;
    options.framing = framing;
    options.contentLength = head.contentLength;
    options.connection = connectionOf(exchange, head.status);
    const announces = exchange.announce && head.status >= 200 && hasRoomToAnnounce(head);
    options.extra = announces ? TAKES_HTTP2 : null;
    exchange.announce &&= head.status < 200;
    const at = engine.reserve(headRoom(head, options));
    const end = writeResponseHead(head, options, engine.slab, at);
    const start = head.end - (end - at);
    const inPlace = head.contentLength >= MIN_IN_PLACE && head.bytes === engine.slab && start >= head.start;
    if (!inPlace) return engine.sendBuilt(exchange.connection.client, end);
    engine.slab.copyWithin(start, at, end);
    engine.sendRange(exchange.connection.client, start, end - at);
  }
}

/**
 * The canonical path, where it is not the one that came; null where it is. Below 0: a problem. An encoded slash stays what it is:
 * registries and forges have it in names, and nothing here judges by path yet.
 */
function pathOf({ form, bytes, pathStart, pathEnd }: Head): Uint8Array | number | null {
  if (form !== 'origin' && form !== 'absolute') return null;
  const path = canonicalPath(bytes, pathStart, pathEnd);
  return path === 0 || path === -PROBLEM.pathEncodedSlash ? null : path;
}

/** What is announced again: of a HEAD response that too which does not follow. */
function announced(head: Head, minor: number): number {
  return head.framing === FRAMING.chunked && minor === 0 ? FRAMING.none : head.framing;
}

function connectionOf({ keepAlive, minor }: Http1Exchange, status: number): number {
  if (status < 200) return status === 101 ? CONNECTION.upgrade : CONNECTION.none;
  if (!keepAlive) return CONNECTION.close;
  return minor === 0 ? CONNECTION.keepAlive : CONNECTION.none;
}
