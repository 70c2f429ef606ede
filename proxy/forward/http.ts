/**
 * Passes HTTP/1 requests to endpoints, each to the one the balancer picks for it, and their responses back:
 *
 *   request head → pick an endpoint → a connection that waits, or a new one → send → response head → body → the next request
 */
import { bodyLength, encodeAnswer } from '../http/answer.ts';
import { BODY, FRAMING, type Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import { canonicalPath } from '../http/path.ts';
import { describeProblem, PROBLEM } from '../http/problems.ts';
import { CONNECTION, headRoom, WriteOptions, writeResponseHead } from '../http/write.ts';
import type { HttpSeries } from '../metrics/http.ts';
import { type HttpErrorReason, HttpWorkerMetrics } from '../metrics/http-worker.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import { NO_BYTES, type Protocol, type ProxyConnection } from '../model/connection.ts';
import type { Decision } from '../model/decision.ts';
import { Exchange, type HttpUpstream } from '../model/exchange.ts';
import { type DecisionOutcome, type Explanation, LATEST } from '../model/explanation.ts';
import type { Side } from '../model/messages.ts';
import type { EndpointPicker } from '../model/pick.ts';
import { type ConnectionId, type Engine, indexOf } from '../native/engine.ts';
import type { AccessLog } from './access-log.ts';
import { Decisions } from './decisions.ts';
import type { Dialler } from './dial.ts';
import { explain } from './explanation.ts';
import { type AttemptsOwner, HttpAttempts } from './http-attempts.ts';
import { endChunks, passBody, passRest } from './http-body.ts';
import type { HttpConnections } from './http-connections.ts';
import { HttpRequests, type RequestOwner, type RequestPart } from './http-requests.ts';
import { HttpResponses, type ResponseOwner } from './http-responses.ts';

/** What HTTP asks of the worker. */
export interface HttpOwner {
  /** Remembers whose socket this is. */
  adopt(socket: ConnectionId, upstream: HttpUpstream): void;
}

const DETECTIONS = { http1: 'http/1', http2: 'h2', opaque: 'not_http' } as const;

/** Exchanges of one worker. */
export class HttpForward implements RequestOwner, ResponseOwner, AttemptsOwner {
  /** Clients of these sides are told that their connections do not last. */
  draining: readonly Side[] = [];
  /** Where requests are logged; undefined where they are not. */
  access: AccessLog | undefined;
  /** What is counted apart from destinations. */
  private readonly metrics: HttpWorkerMetrics;
  private readonly engine: Engine;
  private readonly owner: HttpOwner;
  private readonly requests: HttpRequests;
  private readonly responses: HttpResponses;
  private readonly attempts: HttpAttempts;
  private readonly decisions: Decisions;
  private readonly options = new WriteOptions();
  /** By index of the client's socket. */
  private readonly exchanges: (Exchange | undefined)[] = [];

  /** @param worker its number, for the ids of decisions */
  constructor(engine: Engine, slab: MetricsSlab, dialler: Dialler, worker: number, owner: HttpOwner) {
    this.engine = engine;
    this.decisions = new Decisions(worker);
    this.metrics = new HttpWorkerMetrics(slab);
    this.owner = owner;
    this.requests = new HttpRequests(engine, this);
    this.responses = new HttpResponses(this);
    this.attempts = new HttpAttempts(engine, slab, dialler, this);
  }

  /** Closes soon those of the connections that wait for a request. */
  closeIdle(connections: Iterable<ProxyConnection>): void {
    for (const connection of connections) {
      const exchange = this.exchangeOf(connection);
      if (exchange?.phase === 'head' && exchange.held.length === 0) this.requests.closeSoon(exchange);
    }
  }

  /** Connections to endpoints. */
  get connections(): HttpConnections {
    return this.attempts.connections;
  }

  /** A picker has endpoints: requests that waited for one go on. */
  endpointsCame(picker: EndpointPicker): void {
    this.attempts.endpointsCame(picker);
  }

  waitingChanged(by: number): void {
    this.metrics.waitingChanged(by);
  }

  // --- connections of clients

  /** A client speaks HTTP/1; see `Exchange` for the parameters. */
  start(connection: ProxyConnection, fields: Uint8Array, clientSeries?: HttpSeries): void {
    const { client, series } = connection;
    const exchange = new Exchange(connection, fields, clientSeries);
    connection.stage = 'http';
    this.exchanges[indexOf(connection.client)] = exchange;
    if (series !== undefined) {
      series.received(connection.held.length);
      this.engine.count(client, series.readSlot, series.writeSlot);
    }
    this.requests.start(exchange);
  }

  /** It is known what a connection speaks; undefined when it took too long to say. */
  detected(connection: ProxyConnection, protocol: Protocol | undefined): void {
    const { direction, openingSinceMs } = connection;
    const result = protocol === undefined ? 'read_timeout' : DETECTIONS[protocol];
    connection.detectedAfterMs = this.engine.nowMs() - openingSinceMs;
    this.metrics.detected(direction, result, connection.detectedAfterMs / 1000);
  }

  /** What was decided for the request of that sequence number, or for the newest ones; newest first. */
  explain(sequence: number | undefined): readonly Explanation[] {
    const underWay = this.exchanges.flatMap((exchange) => exchange?.decision ?? []);
    const known = this.decisions.newestFirst(underWay);
    const asked =
      sequence === undefined
        ? known.slice(0, LATEST)
        : known.filter((decision) => decision.sequence === sequence);
    return asked.map((decision) => explain(decision, this.decisions.idOf(decision)));
  }

  /** A client stopped in the middle of its first request line. */
  stalled(connection: ProxyConnection, afterMs: number): void {
    const exchange = new Exchange(connection, NO_BYTES, undefined);
    connection.stage = 'http';
    this.exchanges[indexOf(connection.client)] = exchange;
    this.detected(connection, undefined);
    this.requestLate(exchange, 'head', afterMs);
  }

  clientData(connection: ProxyConnection, offset: number, length: number): void {
    const exchange = this.exchangeOf(connection);
    if (exchange !== undefined) this.requests.received(exchange, this.engine.slab, offset, offset + length);
  }

  clientEnd(connection: ProxyConnection): void {
    const exchange = this.exchangeOf(connection);
    if (exchange !== undefined) this.requests.ended(exchange);
  }

  timedOut(connection: ProxyConnection): void {
    const exchange = this.exchangeOf(connection);
    if (exchange !== undefined) this.requests.timedOut(exchange);
  }

  /** The client's socket has ended. */
  clientGone(connection: ProxyConnection): void {
    const exchange = this.exchangeOf(connection);
    if (exchange === undefined) return;
    this.exchanges[indexOf(connection.client)] = undefined;
    exchange.phase = 'closing';
    exchange.held = NO_BYTES;
    this.attempts.abandon(exchange);
    this.unanswered(exchange, 'client left');
  }

  private responded(exchange: Exchange, whole: boolean): void {
    const nowMs = this.engine.nowMs();
    exchange.series?.responded(exchange.status, nowMs - exchange.startedMs, whole);
    this.settle(exchange, whole ? 'answered' : 'broken off', nowMs);
  }

  private unanswered(exchange: Exchange, outcome: 'refused' | 'client left'): void {
    exchange.series?.abandoned();
    this.settle(exchange, outcome, this.engine.nowMs());
  }

  private settle(exchange: Exchange, outcome: DecisionOutcome, nowMs: number): void {
    const { decision } = exchange;
    exchange.series = exchange.decision = undefined;
    if (decision === undefined) return;
    decision.outcome = outcome;
    decision.status = exchange.status;
    decision.endedMs = nowMs;
    if (this.access !== undefined) this.log(this.access, exchange, decision, nowMs);
    exchange.texts = undefined;
    this.decisions.end(decision);
  }

  /** What is under way is logged as it stands: the proxy ends. */
  logUnderWay(): void {
    if (this.access === undefined) return;
    for (const exchange of this.exchanges)
      if (exchange?.decision !== undefined)
        this.log(this.access, exchange, exchange.decision, this.engine.nowMs());
  }

  private log(access: AccessLog, exchange: Exchange, decision: Decision, nowMs: number): void {
    const { texts, requestBody, responseBody } = exchange;
    // It began while there was no log.
    if (texts === undefined && decision.method >= 0) return;
    const bytes = { request: texts === undefined ? 0 : requestBody.content, response: responseBody.content };
    access.add(decision, this.decisions.idOf(decision), texts, bytes, nowMs);
  }

  private exchangeOf({ client }: ProxyConnection): Exchange | undefined {
    return this.exchanges[indexOf(client)];
  }

  // --- requests

  requestHead(exchange: Exchange, head: Head): void {
    const nowMs = this.engine.nowMs();
    exchange.begin(head, nowMs);
    exchange.decision = this.decisions.begin(exchange.connection, head, nowMs);
    exchange.texts = this.access?.take(head);
    const path = pathOf(head);
    if (typeof path === 'number') return this.requestProblem(exchange, -path, 0);
    this.attempts.start(exchange, head, path, nowMs);
  }

  requestBytes(exchange: Exchange, bytes: Uint8Array, from: number, to: number): number {
    const end = this.attempts.pass(exchange, bytes, from, to);
    if (exchange.requestBody.done && exchange.phase === 'body') exchange.phase = 'answer';
    return end;
  }

  requestProblem(exchange: Exchange, problem: number, seenBytes: number): void {
    const { status, text } = describeProblem(problem, seenBytes);
    exchange.keepAlive = false;
    this.failed(exchange, status, 'bad_request', text);
  }

  requestLate(exchange: Exchange, part: RequestPart, afterMs: number): void {
    exchange.keepAlive = false;
    if (part === 'next') return this.clientDone(exchange);
    const what =
      part === 'head' ? 'the head of the request was not complete' : 'the body of the request stood still';
    this.failed(exchange, 408, 'head_timeout', `${what} after ${afterMs / 1000} s`);
  }

  requestCut(exchange: Exchange): void {
    this.attempts.abandon(exchange);
    this.clientDone(exchange);
  }

  clientDone(exchange: Exchange): void {
    exchange.phase = 'closing';
    this.engine.close(exchange.connection.client, exchange.last && exchange.requestBody.kind === BODY.none);
  }

  // --- responses

  /** Bytes of an endpoint. */
  upstreamData(upstream: HttpUpstream, offset: number, length: number): void {
    const { exchange } = upstream;
    if (upstream.closing) return;
    // Nobody has asked, or what was asked is still here: whatever it answers, it is not this (response queue poisoning).
    if (exchange === undefined || upstream.sentFlush === this.engine.flushes) {
      return this.attempts.poisoned(upstream);
    }
    this.responses.received(exchange, upstream, this.engine.slab, offset, offset + length);
  }

  /** The rest of the response's body has gone to the client, but for the last `rest` bytes: those will not. */
  upstreamPassed(upstream: HttpUpstream, rest: number): void {
    const { exchange } = upstream;
    if (exchange?.responseBody.passing !== true || (rest === 0 && upstream.closing)) return;
    exchange.responseBody.passed(rest);
    if (rest === 0) this.responseDone(exchange, upstream, false);
  }

  /** The rest of the request's body has gone to the endpoint, but for the last `rest` bytes: those will not. */
  clientPassed(connection: ProxyConnection, rest: number): void {
    const exchange = this.exchangeOf(connection);
    if (exchange?.requestBody.passing !== true) return;
    this.attempts.passed(exchange, rest);
    if (rest === 0 && exchange.phase === 'body') exchange.phase = 'answer';
  }

  /** An endpoint will send no more. */
  upstreamEnd(upstream: HttpUpstream): void {
    const { exchange } = upstream;
    if (upstream.closing) return;
    upstream.ended = true;
    if (exchange?.responseStarted && exchange.responseBody.kind === BODY.untilClose) {
      exchange.responseBody.done = true;
      return this.responseDone(exchange, upstream, false);
    }
    this.attempts.poisoned(upstream);
  }

  responseHead(exchange: Exchange, upstream: HttpUpstream, head: Head): void {
    if (head.status < 200) return this.interim(exchange, upstream, head);
    const { method, minor, responseBody } = exchange;
    this.attempts.answered(exchange, upstream);
    exchange.status = head.status;
    exchange.responseStarted = true;
    if (method === METHOD.connect && head.status < 300) return this.switchProtocols(exchange, head);
    // A tunnel that is refused: what the client sent for it must not be read as requests.
    const refused = exchange.phase === 'tunnel';
    if (refused) exchange.keepAlive = false;
    // The endpoint has seen enough, and the client may not send the rest, or not know where it ends.
    if (!exchange.requestBody.done && head.status >= 300) exchange.keepAlive = false;
    // Nor is it certain that a server that refuses a tunnel reads requests again.
    upstream.reusable = !head.close && !upstream.ended && !refused;
    upstream.saidMs = head.keepAliveTimeoutMs;
    responseBody.start(head.body, head.contentLength);
    // Towards HTTP/1.0 the end of the connection is the end of what has no length (RFC 9112 section 6.3).
    const endless = head.body === BODY.chunked || head.body === BODY.untilClose;
    exchange.responseChunked = endless && minor === 1;
    if (endless && minor === 0) exchange.keepAlive = false;
    if (this.draining.includes(exchange.connection.direction)) exchange.keepAlive = false;
    this.writeHead(exchange, head, exchange.responseChunked ? FRAMING.chunked : announced(head, minor));
  }

  responseBytes(exchange: Exchange, bytes: Uint8Array, from: number, to: number): number {
    const { responseBody, responseChunked, connection, upstream } = exchange;
    const end = passBody(this.engine, responseBody, bytes, from, to, connection.client, responseChunked);
    if (upstream === undefined) return end;
    if (!responseBody.done && !exchange.responseLinked) {
      exchange.responseLinked = true;
      this.engine.link(upstream.upstream, connection.client);
    }
    if (!responseChunked) passRest(this.engine, responseBody, upstream.upstream);
    return end;
  }

  responseDone(exchange: Exchange, upstream: HttpUpstream, more: boolean): void {
    const { client } = exchange.connection;
    if (exchange.responseChunked && exchange.responseBody.kind !== BODY.chunked)
      endChunks(this.engine, client);
    if (exchange.responseLinked) {
      exchange.responseLinked = false;
      this.engine.link(upstream.upstream, 0);
    }
    this.responded(exchange, true);
    const requestDone = exchange.requestBody.done;
    this.attempts.done(exchange, upstream, more);
    exchange.responseStarted = false;
    // Of a request that was answered before its end we do not want the rest.
    if (exchange.keepAlive && requestDone) this.requests.resume(exchange);
    else this.clientDone(exchange);
  }

  responseProblem(exchange: Exchange, upstream: HttpUpstream, problem: number, seenBytes: number): void {
    this.attempts.spoiled(exchange, upstream, describeProblem(problem, seenBytes).text);
  }

  switched(exchange: Exchange, upstream: HttpUpstream, bytes: Uint8Array, from: number, to: number): void {
    const { connection, held } = exchange;
    const { client } = connection;
    exchange.held = NO_BYTES;
    exchange.phase = 'closing';
    this.exchanges[indexOf(client)] = undefined;
    connection.stage = 'open';
    upstream.closing = true;
    this.responded(exchange, true);
    this.attempts.detach(exchange, upstream);
    this.engine.deadline(client, 0);
    this.engine.deadline(upstream.upstream, 0);
    if (held.length > 0) this.engine.unread(client, held);
    if (to > from) this.engine.unread(upstream.upstream, bytes.slice(from, to));
    this.engine.relay(client, upstream.upstream);
  }

  // --- what becomes of requests

  adoptUpstream(upstream: HttpUpstream): void {
    this.owner.adopt(upstream.upstream, upstream);
  }

  sent(exchange: Exchange): void {
    this.requests.goOnWithBody(exchange);
  }

  /** Answers for the endpoint, or resets a client that has part of an answer already. */
  failed(exchange: Exchange, status: number, reason: HttpErrorReason, message: string): void {
    const { connection, method } = exchange;
    const decision = this.refused(exchange, reason, message);
    this.attempts.abandon(exchange);
    this.metrics.failed(connection.direction, reason);
    if (exchange.responseStarted) return this.brokenOff(exchange);
    exchange.status = status;
    // HTTP/1.0 clients would have to be told that the connection goes on: it is not worth it.
    const last = !exchange.requestBody.done || exchange.phase === 'tunnel' || exchange.minor === 0;
    if (last || this.draining.includes(connection.direction)) exchange.keepAlive = false;
    const answer = { status, message, decision: this.decisions.idOf(decision) };
    const close = !exchange.keepAlive;
    const bytes = encodeAnswer(answer, exchange.json, method === METHOD.head, close);
    if (this.access !== undefined) exchange.responseBody.content = bodyLength(bytes);
    this.unanswered(exchange, 'refused');
    this.engine.send(connection.client, bytes);
    if (close) this.clientDone(exchange);
    else this.requests.resume(exchange);
  }

  /** Notes why; what could not even be read as a request is recorded too. */
  private refused(exchange: Exchange, reason: HttpErrorReason, message: string): Decision {
    exchange.decision ??= this.decisions.begin(exchange.connection, undefined, this.engine.nowMs());
    exchange.decision.error = reason;
    exchange.decision.message = message;
    return exchange.decision;
  }

  /** Ends the client's connection so that it cannot take what it has for a whole response. */
  brokenOff(exchange: Exchange): void {
    this.responded(exchange, false);
    exchange.phase = 'closing';
    this.engine.reset(exchange.connection.client);
  }

  private interim(exchange: Exchange, upstream: HttpUpstream, head: Head): void {
    if (head.status === 101) {
      if (exchange.phase === 'tunnel' && exchange.method !== METHOD.connect) {
        this.attempts.answered(exchange, upstream);
        exchange.status = head.status;
        return this.switchProtocols(exchange, head);
      }
      return this.attempts.spoiled(exchange, upstream, 'it switched protocols, which nobody had asked for');
    }
    // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
    if (exchange.minor === 1) this.writeHead(exchange, head, FRAMING.none);
  }

  private switchProtocols(exchange: Exchange, head: Head): void {
    exchange.switching = true;
    this.writeHead(exchange, head, FRAMING.none);
  }

  private writeHead(exchange: Exchange, head: Head, framing: number): void {
    const { engine, options } = this;
    options.framing = framing;
    options.contentLength = head.contentLength;
    options.connection = connectionOf(exchange, head.status);
    const at = engine.reserve(headRoom(head, options));
    engine.sendBuilt(exchange.connection.client, writeResponseHead(head, options, engine.slab, at));
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

function connectionOf({ keepAlive, minor }: Exchange, status: number): number {
  if (status < 200) return status === 101 ? CONNECTION.upgrade : CONNECTION.none;
  if (!keepAlive) return CONNECTION.close;
  return minor === 0 ? CONNECTION.keepAlive : CONNECTION.none;
}
