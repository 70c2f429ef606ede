/**
 * What becomes of requests, whatever protocols carry them: each is recorded, sent, counted, logged, and answered by the endpoint
 * or by the proxy.
 */
import { LineBudget } from '../core/line-budget.ts';
import { log } from '../core/log.ts';
import type { FieldList } from '../http/h2/field.ts';
import { errorName, H2_ERROR } from '../http/h2/frames.ts';
import type { H2Head } from '../http/h2/head.ts';
import type { Head } from '../http/head.ts';
import type { HttpErrorReason, HttpWorkerMetrics } from '../metrics/http-worker.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import type { Direction, ProxyConnection } from '../model/connection.ts';
import type { Decision } from '../model/decision.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Exchange } from '../model/exchange.ts';
import { type DecisionOutcome, type Explanation, LATEST } from '../model/explanation.ts';
import type { Side } from '../model/messages.ts';
import type { Engine } from '../native/engine.ts';
import type { AccessLog } from './access-log.ts';
import { CallDeadlines, type CallDeadlinesOwner } from './call-deadlines.ts';
import { Decisions } from './decisions.ts';
import type { Dialler } from './dial.ts';
import { explain } from './explanation.ts';
import { type AttemptsOwner, HttpAttempts } from './http-attempts.ts';
import type { AnyUpstream } from './upstream.ts';

/** What differs from worker to worker, and from proxy to proxy. */
export interface HttpSettings {
  /** The worker's number, for the ids of decisions. */
  readonly worker: number;
  /** HTTP/1 requests go to sidecars that take it as streams of HTTP/2. */
  readonly multiplex: boolean;
}

/** What exchanges ask of the worker. */
export interface ExchangesOwner {
  /** Remembers whose socket this is. */
  adoptUpstream(upstream: AnyUpstream): void;
}

/** Exchanges of one worker. */
export class Exchanges implements AttemptsOwner, CallDeadlinesOwner {
  /** Clients of these sides are told that their connections do not last. */
  draining: readonly Side[] = [];
  /** Where requests are logged; undefined where they are not. */
  access: AccessLog | undefined;
  readonly attempts: HttpAttempts;
  private readonly engine: Engine;
  private readonly metrics: HttpWorkerMetrics;
  private readonly owner: ExchangesOwner;
  private readonly decisions: Decisions;
  private readonly deadlines: CallDeadlines;
  private readonly lines = new LineBudget();

  constructor(
    engine: Engine,
    slab: MetricsSlab,
    metrics: HttpWorkerMetrics,
    dialler: Dialler,
    settings: HttpSettings,
    owner: ExchangesOwner,
  ) {
    this.engine = engine;
    this.metrics = metrics;
    this.owner = owner;
    this.decisions = new Decisions(settings.worker);
    this.deadlines = new CallDeadlines(engine, this);
    this.attempts = new HttpAttempts(engine, slab, dialler, settings.multiplex, this);
  }

  /** Clients of its side are told that their connections do not last. */
  isDraining({ direction }: ProxyConnection): boolean {
    return this.draining.includes(direction);
  }

  /** A request's head is there. */
  begin(exchange: Exchange, head: Head | H2Head, nowMs: number): void {
    exchange.decision = this.decisions.begin(exchange.connection, head, nowMs);
    exchange.texts = this.access?.take(head);
  }

  /** A gRPC call is to be over so many ms after it began. */
  limit(exchange: Exchange, timeoutMs: number): void {
    exchange.dueMs = exchange.startedMs + timeoutMs;
    if (exchange.decision !== undefined) exchange.decision.deadlineMs = timeoutMs;
    this.deadlines.add(exchange);
  }

  overdue(exchange: Exchange): void {
    const afterMs = exchange.decision?.deadlineMs;
    const message = `the deadline of the call has passed, ${afterMs} ms after it began (grpc-timeout)`;
    this.failed(exchange, 504, 'response timeout', message);
  }

  /** Its head is kept, and it can go out. */
  send(exchange: Exchange, nowMs: number): void {
    this.attempts.start(exchange, nowMs);
  }

  /** Bytes of its body were passed on, as they came. */
  keep(exchange: Exchange, bytes: Uint8Array, from: number, to: number): void {
    this.attempts.keep(exchange, bytes, from, to);
  }

  /** Its trailers were. */
  keepTrailers(exchange: Exchange, trailers: FieldList): void {
    this.attempts.keepTrailers(exchange, trailers);
  }

  /** Nobody wants its answer any more. */
  abandon(exchange: Exchange): void {
    this.attempts.abandon(exchange);
  }

  /** Its client has ended, or does not want the answer any more. */
  clientLeft(exchange: Exchange): void {
    this.attempts.abandon(exchange);
    this.unanswered(exchange, 'client left');
  }

  /** The response is complete. */
  responded(exchange: Exchange): void {
    this.answered(exchange, true);
    exchange.responseStarted = false;
    exchange.client.finished(exchange);
  }

  /** Both sides have agreed on another protocol; that is the end of what there is to record. */
  switched(exchange: Exchange): void {
    this.answered(exchange, true);
  }

  /** The response broke off in the middle. */
  brokenOff(exchange: Exchange, why: string): void {
    const { client } = exchange;
    client.breakOff(exchange, why);
    this.answered(exchange, false);
  }

  /** Answers for the endpoint, or breaks off an answer of which the client has a part already. */
  failed(exchange: Exchange, status: number, reason: HttpErrorReason, message: string): void {
    const { connection } = exchange;
    if (exchange.isOpenTunnel) {
      this.attempts.abandon(exchange);
      return this.brokenOff(exchange, message);
    }
    // What could not even be read as a request is recorded too.
    exchange.decision ??= this.unread(exchange);
    const { decision } = exchange;
    decision.error = reason;
    decision.message = message;
    this.attempts.abandon(exchange);
    this.metrics.failed(connection.direction, reason);
    if (exchange.responseStarted) return this.brokenOff(exchange, message);
    exchange.status = status;
    const answer = { status, message, decision: this.idOf(decision) };
    exchange.responseBody.content = exchange.client.answer(exchange, answer);
    this.unanswered(exchange, 'refused');
    exchange.client.finished(exchange);
  }

  endpointFailed({ address, series }: Endpoint, code: number, reason: string, ours: boolean): void {
    const direction = series.labels.direction === 'inbound' ? 'inbound' : 'outbound';
    this.sessionEnded(direction, 'dst', address.toString(), code, reason, ours);
  }

  /** An HTTP/2 connection has ended. `peer`: a client is `src`, an endpoint `dst`; for the rest see `SessionOwner.ended`. */
  sessionEnded(
    direction: Direction,
    peer: 'src' | 'dst',
    address: string,
    code: number,
    reason: string,
    ours: boolean,
  ): void {
    if (code === H2_ERROR.noError || code === H2_ERROR.connectionLost) return;
    const error = errorName(code);
    this.metrics.connectionFailed(direction, peer, error, ours ? 'us' : 'peer');
    const line = this.lines.take(peer);
    if (line === undefined) return;
    const message = ours ? 'an HTTP/2 connection was given up' : 'a peer gave an HTTP/2 connection up';
    log.warn(message, { direction, peer: address, error, reason, ...line });
  }

  /** What people ask for a decision by. */
  idOf(decision: Decision): string {
    return this.decisions.idOf(decision);
  }

  adoptUpstream(upstream: AnyUpstream): void {
    this.owner.adoptUpstream(upstream);
  }

  waitingChanged(by: number): void {
    this.metrics.waitingChanged(by);
  }

  /** What was decided for the request of that sequence number, or for the newest ones; newest first. */
  explain(sequence: number | undefined, underWay: Iterable<Exchange>): readonly Explanation[] {
    const decisions = [...underWay].flatMap(({ decision }) => decision ?? []);
    const known = this.decisions.newestFirst(decisions);
    const asked =
      sequence === undefined
        ? known.slice(0, LATEST)
        : known.filter((decision) => decision.sequence === sequence);
    return asked.map((decision) => explain(decision, this.decisions.idOf(decision)));
  }

  /** What is under way is logged as it stands: the proxy ends. */
  logUnderWay(exchanges: Iterable<Exchange>): void {
    for (const exchange of exchanges) this.log(exchange, this.engine.nowMs());
  }

  /** The record of what could not be read as a request. */
  private unread({ connection, isHttp2 }: Exchange): Decision {
    const decision = this.decisions.begin(connection, undefined, this.engine.nowMs());
    decision.isHttp2 = isHttp2;
    return decision;
  }

  private answered(exchange: Exchange, whole: boolean): void {
    const nowMs = this.engine.nowMs();
    const { series, status, startedMs, grpcStatus } = exchange;
    series?.responded(status, nowMs - startedMs, whole, grpcStatus);
    this.settle(exchange, whole ? 'answered' : 'broken off', nowMs);
  }

  private unanswered(exchange: Exchange, outcome: 'refused' | 'client left'): void {
    exchange.series?.abandoned();
    this.settle(exchange, outcome, this.engine.nowMs());
  }

  private settle(exchange: Exchange, outcome: DecisionOutcome, nowMs: number): void {
    const { decision } = exchange;
    exchange.series = undefined;
    if (exchange.deadlinePlace >= 0) this.deadlines.remove(exchange);
    if (decision === undefined) return;
    decision.outcome = outcome;
    decision.status = exchange.status;
    decision.grpcStatus = exchange.grpcStatus;
    decision.endedMs = nowMs;
    this.log(exchange, nowMs);
    exchange.decision = exchange.texts = undefined;
    this.decisions.end(decision);
  }

  private log({ decision, texts, requestBody, responseBody }: Exchange, nowMs: number): void {
    if (this.access === undefined || decision === undefined) return;
    // It began while there was no log.
    if (texts === undefined && decision.method >= 0) return;
    const bytes = { request: texts === undefined ? 0 : requestBody.content, response: responseBody.content };
    this.access.add(decision, this.decisions.idOf(decision), texts, bytes, nowMs);
  }
}
