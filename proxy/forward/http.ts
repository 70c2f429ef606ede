/**
 * HTTP of one worker: whose bytes are these?
 *
 *   client ─▶ http1-clients, http2-client ─▶ exchanges ─▶ http-attempts ─▶ http1-upstreams, http2-upstream ─▶ endpoint
 *   client ◀─ http1-clients, http2-client ◀────────────────────────────── http1-upstreams, http2-upstream ◀── endpoint
 */
import type { OwnFields } from '../http/h2/own-fields.ts';
import type { HttpSeries } from '../metrics/http.ts';
import { HttpWorkerMetrics } from '../metrics/http-worker.ts';
import type { MetricsSlab } from '../metrics/slab.ts';
import type { Protocol, ProxyConnection } from '../model/connection.ts';
import type { Exchange } from '../model/exchange.ts';
import type { Explanation } from '../model/explanation.ts';
import type { Side } from '../model/messages.ts';
import type { EndpointPicker } from '../model/pick.ts';
import { type ConnectionId, type Engine, indexOf } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';
import type { AccessLog } from './access-log.ts';
import type { Dialler } from './dial.ts';
import { Exchanges, type HttpSettings } from './exchanges.ts';
import type { HttpConnections } from './http-connections.ts';
import { Http1Writer } from './http1-body.ts';
import { Http1Clients } from './http1-clients.ts';
import { Http1Exchange } from './http1-exchange.ts';
import { Http2Client } from './http2-client.ts';
import { Http2Upstream } from './http2-upstream.ts';
import type { AnyUpstream } from './upstream.ts';

/** What HTTP asks of the worker. */
export interface HttpOwner {
  /** Remembers whose socket this is. */
  adopt(socket: ConnectionId, upstream: AnyUpstream): void;
}

const DETECTIONS = { http1: 'http/1', http2: 'h2', opaque: 'not_http' } as const;

/** See above. */
export class HttpForward {
  private readonly engine: Engine;
  private readonly owner: HttpOwner;
  private readonly dialler: Dialler;
  /** What is counted apart from destinations. */
  private readonly metrics: HttpWorkerMetrics;
  private readonly exchanges: Exchanges;
  private readonly http1: Http1Clients;
  /** By index of the client's socket. */
  private readonly clients: (Http1Exchange | Http2Client | undefined)[] = [];
  private clientCount = 0;

  constructor(engine: Engine, slab: MetricsSlab, dialler: Dialler, settings: HttpSettings, owner: HttpOwner) {
    this.engine = engine;
    this.owner = owner;
    this.dialler = dialler;
    this.metrics = new HttpWorkerMetrics(slab);
    this.exchanges = new Exchanges(engine, slab, this.metrics, dialler, settings, this);
    this.http1 = new Http1Clients(engine, this.exchanges, this);
  }

  /** Clients of these sides are told that their connections do not last. */
  set draining(sides: readonly Side[]) {
    this.exchanges.draining = sides;
    this.retireUnused();
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

  /** Lets go of clients that never finish what they begin to say, and of requests that wait in vain; about every ten seconds. */
  endStuck(): void {
    this.connections.endQueued();
    for (const client of this.clients) if (client instanceof Http2Client) client.endStuck();
  }

  /** Lets go of what nobody asks for any more; about once a minute. */
  sweep(): void {
    this.connections.sweep();
    for (const client of this.clients) if (client instanceof Http2Client) client.sweep();
  }

  // --- clients

  /**
   * A client speaks HTTP.
   * @param own fields added to each of its requests
   * @param clientSeries metrics of its requests, where they are counted by who sends them
   */
  start(
    connection: ProxyConnection,
    protocol: 'http1' | 'http2',
    own: OwnFields | undefined,
    clientSeries?: HttpSeries,
  ): void {
    const { client, series } = connection;
    connection.stage = 'http';
    if (series !== undefined) {
      series.received(connection.held.length);
      this.engine.count(client, series.readSlot, series.writeSlot);
    }
    if (protocol === 'http1')
      return this.http1.requests.start(this.adoptHttp1(connection, own, clientSeries));
    const multiplexed = new Http2Client(this.engine, this.exchanges, connection, own, clientSeries);
    this.keep(client, multiplexed);
    multiplexed.start();
  }

  /** A client stopped in the middle of its first request line. */
  stalled(connection: ProxyConnection, afterMs: number): void {
    connection.stage = 'http';
    const exchange = this.adoptHttp1(connection, undefined, undefined);
    this.detected(connection, undefined);
    this.http1.requestLate(exchange, 'head', afterMs);
  }

  /** Closes soon those of the connections that wait for a request, and tells the others that they do not last. */
  closeIdle(connections: Iterable<ProxyConnection>): void {
    for (const connection of connections) {
      const client = this.clientOf(connection);
      if (client instanceof Http2Client) client.drain();
      else if (client?.phase === 'head' && client.held.length === 0) this.http1.requests.closeSoon(client);
    }
  }

  clientData(connection: ProxyConnection, offset: number, length: number): void {
    const client = this.clientOf(connection);
    if (client instanceof Http2Client) client.received(this.engine.slab, offset, offset + length, true);
    else if (client !== undefined)
      this.http1.requests.received(client, this.engine.slab, offset, offset + length);
  }

  clientEnd(connection: ProxyConnection): void {
    const client = this.clientOf(connection);
    if (client instanceof Http2Client) client.clientEnded();
    else if (client !== undefined) this.http1.requests.ended(client);
  }

  /** The rest of a request's body has gone to the endpoint, but for the last `rest` bytes: those will not. */
  clientPassed(connection: ProxyConnection, rest: number): void {
    const client = this.clientOf(connection);
    if (client instanceof Http1Exchange) this.http1.passed(client, rest);
  }

  /** The client does not read as fast as it is sent to (true), or does again. */
  clientBlocked(connection: ProxyConnection, blocked: boolean): void {
    const client = this.clientOf(connection);
    if (client instanceof Http2Client) return client.session.setBlocked(blocked);
    if (client === undefined) return;
    client.writer.full = blocked;
    const { carrier } = client;
    if (!blocked && carrier !== undefined) carrier.side.goOn(client, carrier);
  }

  timedOut(connection: ProxyConnection): void {
    const client = this.clientOf(connection);
    if (client instanceof Http2Client) client.timedOut();
    else if (client !== undefined) this.http1.requests.timedOut(client);
  }

  /** The client's socket has ended; `errno` is 0 for an orderly end. */
  clientGone(connection: ProxyConnection, errno: number): void {
    const client = this.clientOf(connection);
    if (client === undefined) return;
    this.forget(connection);
    if (client instanceof Http2Client) client.gone();
    else this.http1.gone(client, errno);
    this.retireUnused();
  }

  /** It speaks no HTTP any more. */
  forget({ client }: ProxyConnection): void {
    this.clients[indexOf(client)] = undefined;
    this.clientCount--;
  }

  // --- endpoints

  upstreamConnected(upstream: AnyUpstream, micros: number): void {
    if (upstream instanceof Http2Upstream) this.exchanges.attempts.http2.connected(upstream, micros);
    else this.connections.connected(upstream, micros);
  }

  upstreamSecured(upstream: AnyUpstream, report: TlsReport): void {
    if (upstream instanceof Http2Upstream) this.exchanges.attempts.http2.secured(upstream, report);
    else this.connections.secured(upstream, report);
  }

  upstreamTlsFailed(upstream: AnyUpstream, report: TlsReport): void {
    this.dialler.tlsFailed(upstream, report);
  }

  upstreamTimedOut(upstream: AnyUpstream): void {
    if (upstream instanceof Http2Upstream) this.exchanges.attempts.http2.timedOut(upstream);
    else this.connections.timedOut(upstream);
  }

  /** Its socket ended, or never was. `written`: bytes that the kernel took. */
  upstreamClosed(upstream: AnyUpstream, errno: number, written: number): void {
    if (upstream instanceof Http2Upstream) this.exchanges.attempts.http2.closed(upstream, errno, written);
    else this.connections.ended(upstream, errno, written);
  }

  /** Bytes of an endpoint. */
  upstreamData(upstream: AnyUpstream, offset: number, length: number): void {
    if (upstream instanceof Http2Upstream)
      upstream.session.receive(this.engine.slab, offset, offset + length, true);
    else this.exchanges.attempts.http1.received(upstream, offset, length);
  }

  /** An endpoint will send no more. */
  upstreamEnd(upstream: AnyUpstream): void {
    if (upstream instanceof Http2Upstream) this.engine.reset(upstream.upstream);
    else this.exchanges.attempts.http1.endpointEnded(upstream);
  }

  /** The rest of the response's body has gone to the client, but for the last `rest` bytes: those will not. */
  upstreamPassed(upstream: AnyUpstream, rest: number): void {
    if (upstream instanceof Http2Upstream) return;
    this.exchanges.attempts.http1.passed(upstream, rest);
  }

  /** The endpoint does not read as fast as it is sent to (true), or does again. */
  upstreamBlocked(upstream: AnyUpstream, blocked: boolean): void {
    if (upstream instanceof Http2Upstream) return upstream.session.setBlocked(blocked);
    upstream.writer.full = blocked;
    const { exchange } = upstream;
    if (!blocked && exchange !== undefined) exchange.client.goOn(exchange);
  }

  adoptUpstream(upstream: AnyUpstream): void {
    this.owner.adopt(upstream.upstream, upstream);
  }

  private adoptHttp1(
    connection: ProxyConnection,
    own: OwnFields | undefined,
    clientSeries: HttpSeries | undefined,
  ): Http1Exchange {
    const { client } = connection;
    const writer = new Http1Writer(this.engine, client);
    const exchange = new Http1Exchange(connection, this.http1, writer, own, clientSeries);
    this.keep(client, exchange);
    return exchange;
  }

  private keep(socket: ConnectionId, client: Http1Exchange | Http2Client): void {
    this.clients[indexOf(socket)] = client;
    this.clientCount++;
  }

  private clientOf({ client }: ProxyConnection): Http1Exchange | Http2Client | undefined {
    return this.clients[indexOf(client)];
  }

  /** Connections to endpoints do not outlive the last client of a proxy that ends. */
  private retireUnused(): void {
    if (!this.exchanges.draining.includes('outbound')) return;
    if (this.clientCount === 0) this.connections.retireAll();
  }

  private *underWay(): Iterable<Exchange> {
    for (const client of this.clients) {
      if (client instanceof Http2Client) yield* client.underWay;
      else if (client !== undefined) yield client;
    }
  }
}
