/**
 * HTTP of one worker: whose bytes are these?
 *
 *   client ─▶ http1-clients ─▶ exchanges ─▶ http-attempts ─▶ http1-upstreams ─▶ endpoint
 *   client ◀─ http1-clients ◀───────────────────────────── http1-upstreams ◀── endpoint
 */
import type { HttpSeries } from '../metrics/http.ts';
import { HttpWorkerMetrics } from '../metrics/http-worker.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import { NO_BYTES, type Protocol, type ProxyConnection } from '../model/connection.ts';
import type { Explanation } from '../model/explanation.ts';
import type { Side } from '../model/messages.ts';
import type { EndpointPicker } from '../model/pick.ts';
import { type ConnectionId, type Engine, indexOf } from '../native/engine.ts';
import type { AccessLog } from './access-log.ts';
import type { Dialler } from './dial.ts';
import { Exchanges } from './exchanges.ts';
import type { HttpConnections } from './http-connections.ts';
import { Http1Writer } from './http1-body.ts';
import { Http1Clients } from './http1-clients.ts';
import { Http1Exchange } from './http1-exchange.ts';
import type { HttpUpstream } from './upstream.ts';

/** What HTTP asks of the worker. */
export interface HttpOwner {
  /** Remembers whose socket this is. */
  adopt(socket: ConnectionId, upstream: HttpUpstream): void;
}

const DETECTIONS = { http1: 'http/1', http2: 'h2', opaque: 'not_http' } as const;

/** See above. */
export class HttpForward {
  private readonly engine: Engine;
  private readonly owner: HttpOwner;
  /** What is counted apart from destinations. */
  private readonly metrics: HttpWorkerMetrics;
  private readonly exchanges: Exchanges;
  private readonly http1: Http1Clients;
  /** By index of the client's socket. */
  private readonly clients: (Http1Exchange | undefined)[] = [];

  /** @param worker its number, for the ids of decisions */
  constructor(engine: Engine, slab: MetricsSlab, dialler: Dialler, worker: number, owner: HttpOwner) {
    this.engine = engine;
    this.owner = owner;
    this.metrics = new HttpWorkerMetrics(slab);
    this.exchanges = new Exchanges(engine, slab, this.metrics, dialler, worker, this);
    this.http1 = new Http1Clients(engine, this.exchanges, this);
  }

  /** Clients of these sides are told that their connections do not last. */
  set draining(sides: readonly Side[]) {
    this.exchanges.draining = sides;
  }

  /** Where requests are logged; undefined where they are not. */
  set access(access: AccessLog | undefined) {
    this.exchanges.access = access;
  }

  /** Connections to endpoints. */
  get connections(): HttpConnections {
    return this.exchanges.attempts.connections;
  }

  /** A picker has endpoints: requests that waited for one go on. */
  endpointsCame(picker: EndpointPicker): void {
    this.exchanges.attempts.endpointsCame(picker);
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
    return this.exchanges.explain(sequence, this.underWay());
  }

  /** What is under way is logged as it stands: the proxy ends. */
  logUnderWay(): void {
    this.exchanges.logUnderWay(this.underWay());
  }

  // --- clients

  /** A client speaks HTTP/1; see `Http1Exchange` for the parameters. */
  start(connection: ProxyConnection, fields: Uint8Array, clientSeries?: HttpSeries): void {
    const { client, series } = connection;
    const exchange = this.adoptClient(connection, fields, clientSeries);
    if (series !== undefined) {
      series.received(connection.held.length);
      this.engine.count(client, series.readSlot, series.writeSlot);
    }
    this.http1.requests.start(exchange);
  }

  /** A client stopped in the middle of its first request line. */
  stalled(connection: ProxyConnection, afterMs: number): void {
    const exchange = this.adoptClient(connection, NO_BYTES, undefined);
    this.detected(connection, undefined);
    this.http1.requestLate(exchange, 'head', afterMs);
  }

  /** Closes soon those of the connections that wait for a request. */
  closeIdle(connections: Iterable<ProxyConnection>): void {
    for (const connection of connections) {
      const exchange = this.clientOf(connection);
      if (exchange?.phase === 'head' && exchange.held.length === 0) this.http1.requests.closeSoon(exchange);
    }
  }

  clientData(connection: ProxyConnection, offset: number, length: number): void {
    const exchange = this.clientOf(connection);
    if (exchange !== undefined)
      this.http1.requests.received(exchange, this.engine.slab, offset, offset + length);
  }

  clientEnd(connection: ProxyConnection): void {
    const exchange = this.clientOf(connection);
    if (exchange !== undefined) this.http1.requests.ended(exchange);
  }

  /** The rest of a request's body has gone to the endpoint, but for the last `rest` bytes: those will not. */
  clientPassed(connection: ProxyConnection, rest: number): void {
    const exchange = this.clientOf(connection);
    if (exchange !== undefined) this.http1.passed(exchange, rest);
  }

  timedOut(connection: ProxyConnection): void {
    const exchange = this.clientOf(connection);
    if (exchange !== undefined) this.http1.requests.timedOut(exchange);
  }

  /** The client's socket has ended. */
  clientGone(connection: ProxyConnection): void {
    const exchange = this.clientOf(connection);
    if (exchange === undefined) return;
    this.forget(connection);
    this.http1.gone(exchange);
  }

  /** It speaks no HTTP any more. */
  forget({ client }: ProxyConnection): void {
    this.clients[indexOf(client)] = undefined;
  }

  // --- endpoints

  /** Bytes of an endpoint. */
  upstreamData(upstream: HttpUpstream, offset: number, length: number): void {
    this.exchanges.attempts.http1.received(upstream, offset, length);
  }

  /** An endpoint will send no more. */
  upstreamEnd(upstream: HttpUpstream): void {
    this.exchanges.attempts.http1.endpointEnded(upstream);
  }

  /** The rest of the response's body has gone to the client, but for the last `rest` bytes: those will not. */
  upstreamPassed(upstream: HttpUpstream, rest: number): void {
    this.exchanges.attempts.http1.passed(upstream, rest);
  }

  adoptUpstream(upstream: HttpUpstream): void {
    this.owner.adopt(upstream.upstream, upstream);
  }

  private adoptClient(
    connection: ProxyConnection,
    fields: Uint8Array,
    clientSeries: HttpSeries | undefined,
  ): Http1Exchange {
    const { client } = connection;
    const writer = new Http1Writer(this.engine, client);
    const exchange = new Http1Exchange(connection, this.http1, writer, fields, clientSeries);
    connection.stage = 'http';
    this.clients[indexOf(client)] = exchange;
    return exchange;
  }

  private clientOf({ client }: ProxyConnection): Http1Exchange | undefined {
    return this.clients[indexOf(client)];
  }

  private *underWay(): Iterable<Http1Exchange> {
    for (const exchange of this.clients) if (exchange !== undefined) yield exchange;
  }
}
