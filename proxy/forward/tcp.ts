/**
 * Opens the upstream of a connection, secures it where the endpoint has an identity, and joins the two. A try that fails goes
 * to the next endpoint at once; one that hangs, after a second. When no endpoint is left the client is reset, so that it never
 * takes a failure for an empty answer.
 */
import { ERRNO, errnoName } from '../core/errno.ts';
import type { RefusalReason } from '../metrics/refusals.ts';
import { NO_BYTES, NO_ENDPOINTS, type ProxyConnection } from '../model/connection.ts';
import type { Endpoint, EndpointTls } from '../model/endpoint.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';

/**
 * One try, TLS included, in ms: Linkerd's; a SYN that was lost is sent again after 1 s, so a fresh try loses nothing.
 */
const TRY_MS = 1_000;

/**
 * All tries together, in ms. Long enough for a lost SYN or a dead endpoint or two, shorter than any client's patience.
 */
const TOTAL_MS = 5_000;

/**
 * Endpoints tried for one connection. A failure makes the balancer avoid an endpoint, so ten in a row mean that the service
 * is down; going through hundreds would turn every client into a storm of connects.
 */
const MAX_TRIES = 10;

/** What forwarding asks of its owner. */
export interface ForwardOwner {
  /** Remembers whose socket this is. */
  adopt(socket: ConnectionId, connection: ProxyConnection): void;
  /** The upstream can carry bytes, but the client is not that far: see `proceed`. */
  upstreamReady(connection: ProxyConnection): void;
  /** No endpoint could be reached: refuse the connection. `detail` says what failed last. */
  gaveUp(connection: ProxyConnection, reason: RefusalReason, detail: string): void;
}

/** Mutual TLS towards endpoints. */
export interface UpstreamTls {
  /** Why no handshake can start, our own certificate missing or expired; undefined when one can. */
  lack(): string | undefined;
  start(upstream: ConnectionId, tls: EndpointTls): void;
  /** What is wrong with the peer of a finished handshake; undefined when it is who it should be. */
  judge(report: TlsReport, tls: EndpointTls): string | undefined;
  /** Why a handshake failed; the report is undefined when its time was up. */
  explain(report: TlsReport | undefined): string;
}

interface Failure {
  readonly errno: number;
  readonly detail: string;
  readonly reason: RefusalReason;
}

const NOTHING_TRIED: Failure = { errno: 0, detail: 'no endpoint to try', reason: 'connect' };

/** Connects and relays for one worker. */
export class TcpForward {
  private readonly engine: Engine;
  private readonly track: boolean;
  private readonly tls: UpstreamTls;
  private readonly owner: ForwardOwner;

  /** @param track make outbound sockets recognisable should the redirect send them back to us */
  constructor(engine: Engine, track: boolean, tls: UpstreamTls, owner: ForwardOwner) {
    this.engine = engine;
    this.track = track;
    this.tls = tls;
    this.owner = owner;
  }

  /** Starts dialling what the connection's picker offers, whatever the client is doing meanwhile. */
  dial(connection: ProxyConnection): void {
    connection.diallingSinceMs = performance.now();
    this.tryNext(connection, NOTHING_TRIED);
  }

  /** The client is ready to be relayed: joins it with its upstream, dialled now unless it was before. */
  proceed(connection: ProxyConnection): void {
    connection.stage = 'dialling';
    if (connection.upstreamStage === 'ready') this.join(connection);
    else if (connection.upstreamStage === 'none') this.dial(connection);
  }

  /** The upstream accepted. */
  connected(connection: ProxyConnection, micros: number): void {
    const { endpoint, upstream } = connection;
    if (connection.stage === 'ended' || endpoint === undefined) return;
    if (endpoint.tls === undefined) return this.ready(connection, endpoint, micros);
    connection.upstreamStage = 'securing';
    this.tls.start(upstream, endpoint.tls);
    this.engine.deadline(upstream, Math.max(1, TRY_MS - micros / 1000));
  }

  /** Its handshake succeeded; whether it is who it should be is another question. */
  secured(connection: ProxyConnection, report: TlsReport): void {
    const { endpoint, upstream } = connection;
    if (connection.stage === 'ended' || endpoint?.tls === undefined) return;
    const problem = this.tls.judge(report, endpoint.tls);
    if (problem !== undefined) {
      connection.upstreamFault = { detail: problem, errno: ERRNO.eproto };
      return this.engine.reset(upstream);
    }
    this.engine.deadline(upstream, 0);
    if (endpoint.tls.header.length > 0) this.engine.send(upstream, endpoint.tls.header);
    this.ready(connection, endpoint, report.micros);
  }

  /** Its handshake failed; the socket ends next. */
  tlsFailed(connection: ProxyConnection, report: TlsReport): void {
    connection.upstreamFault = { detail: this.tls.explain(report), errno: ERRNO.eproto };
  }

  /** Its handshake took too long. */
  timedOut(connection: ProxyConnection): void {
    if (connection.upstreamStage !== 'securing') return;
    connection.upstreamFault = { detail: this.tls.explain(undefined), errno: ERRNO.etimedout };
    this.engine.reset(connection.upstream);
  }

  /** The dialled socket ended, or never was; `errno` is 0 for an orderly end. */
  ended(connection: ProxyConnection, errno: number): void {
    const { endpoint, upstreamStage, upstreamFault } = connection;
    connection.endpoint = undefined;
    connection.upstream = 0;
    connection.upstreamStage = 'none';
    connection.upstreamFault = undefined;
    if (endpoint === undefined) return;
    const failure = {
      errno: upstreamFault?.errno ?? errno,
      detail: `${endpoint.address}: ${upstreamFault?.detail ?? errnoName(errno)}`,
      reason: upstreamFault === undefined ? 'connect' : 'upstream_tls',
    } as const;
    const over = connection.stage === 'ended' || connection.stage === 'open';
    if (connection.established) {
      connection.established = false;
      endpoint.series.closed(errno);
    } else if (!over) {
      this.record(connection, endpoint, failure.errno);
    }
    endpoint.letGo();
    if (over) return;
    const late = performance.now() - connection.diallingSinceMs >= TOTAL_MS;
    // One that was ready and left before the client had said a word may have lost bytes of its own.
    if (upstreamStage === 'ready' || late) this.owner.gaveUp(connection, failure.reason, failure.detail);
    else this.tryNext(connection, failure);
  }

  private ready(connection: ProxyConnection, endpoint: Endpoint, micros: number): void {
    endpoint.connected(micros / 1000, performance.now());
    endpoint.series.opened();
    connection.established = true;
    connection.upstreamStage = 'ready';
    if (connection.stage === 'dialling') this.join(connection);
    else this.owner.upstreamReady(connection);
  }

  /** From here on the engine moves the bytes, those that are held first. */
  private join(connection: ProxyConnection): void {
    const { client, upstream, series, endpoint, held, heldUpstream } = connection;
    connection.stage = 'open';
    connection.held = connection.heldUpstream = NO_BYTES;
    // Before they are counted: giving back what was read undoes its count.
    if (held.length > 0) this.engine.unread(client, held);
    if (heldUpstream.length > 0) this.engine.unread(upstream, heldUpstream);
    if (series !== undefined) this.engine.count(client, series.readSlot, series.writeSlot);
    if (endpoint !== undefined)
      this.engine.count(upstream, endpoint.series.readSlot, endpoint.series.writeSlot);
    this.engine.relay(client, upstream);
  }

  private tryNext(connection: ProxyConnection, last: Failure): void {
    let failure = last;
    for (;;) {
      const endpoint = this.next(connection, failure.errno);
      if (endpoint === undefined) return this.owner.gaveUp(connection, failure.reason, failure.detail);
      const lack = endpoint.tls === undefined ? undefined : this.tls.lack();
      if (lack !== undefined) {
        // Nothing is wrong with the endpoint; without TLS it is not an endpoint for us.
        connection.tried = [...connection.tried, endpoint];
        failure = { errno: 0, detail: `${endpoint.address}: ${lack}`, reason: 'mtls_unavailable' };
        continue;
      }
      const upstream = this.engine.connect(
        endpoint.address,
        this.track && connection.direction === 'outbound',
      );
      if (upstream > 0) return this.dialled(connection, endpoint, upstream);
      failure = {
        errno: -upstream,
        detail: `${endpoint.address}: ${errnoName(-upstream)}`,
        reason: 'connect',
      };
      this.record(connection, endpoint, failure.errno);
      // Out of descriptors is our own trouble: another endpoint does not help.
      if (failure.errno === ERRNO.emfile || failure.errno === ERRNO.enfile) {
        return this.owner.gaveUp(connection, failure.reason, failure.detail);
      }
    }
  }

  private dialled(connection: ProxyConnection, endpoint: Endpoint, upstream: ConnectionId): void {
    endpoint.hold();
    connection.endpoint = endpoint;
    connection.upstream = upstream;
    connection.upstreamStage = 'connecting';
    connection.sockets++;
    this.engine.deadline(upstream, TRY_MS);
    this.owner.adopt(upstream, connection);
  }

  private next(connection: ProxyConnection, lastErrno: number): Endpoint | undefined {
    if (connection.tried.length >= MAX_TRIES) return undefined;
    const nowMs = performance.now();
    const endpoint = connection.picker?.pick(connection.tried, nowMs);
    if (endpoint !== undefined || lastErrno !== ERRNO.etimedout) return endpoint;
    // Everyone was tried and the last one did not answer: packets may have been lost, and there is time left.
    connection.tried = NO_ENDPOINTS;
    return connection.picker?.pick(connection.tried, nowMs);
  }

  private record(connection: ProxyConnection, endpoint: Endpoint, errno: number): void {
    // As if the connect had taken the whole time of a try: others are preferred until that fades.
    endpoint.connectFailed(TRY_MS, performance.now());
    endpoint.series.connectFailed(errno);
    connection.tried = [...connection.tried, endpoint];
  }
}
