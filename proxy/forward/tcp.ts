/**
 * Opens the upstream of a connection and joins the two. A try that fails goes to the next endpoint at once; one that hangs,
 * after a second. When no endpoint is left the client is reset, so that it never takes a failure for an empty answer.
 */
import { ERRNO } from '../core/errno.ts';
import type { RefusalReason } from '../metrics/refusals.ts';
import { NO_BYTES, NO_ENDPOINTS, type ProxyConnection } from '../model/connection.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';
import type { DialFailure, Dialler } from './dial.ts';

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

const NOTHING_TRIED: DialFailure = { errno: 0, detail: '', reason: 'no_endpoints' };

/** Connects and relays for one worker. */
export class TcpForward {
  private readonly engine: Engine;
  private readonly dialler: Dialler;
  private readonly owner: ForwardOwner;

  constructor(engine: Engine, dialler: Dialler, owner: ForwardOwner) {
    this.engine = engine;
    this.dialler = dialler;
    this.owner = owner;
  }

  /** Starts dialling what the connection's picker offers, whatever the client is doing meanwhile. */
  dial(connection: ProxyConnection): void {
    connection.diallingSinceMs = this.engine.nowMs();
    this.tryNext(connection, NOTHING_TRIED);
  }

  /** The client is ready to be relayed: joins it with its upstream, dialled now unless it was before. */
  proceed(connection: ProxyConnection): void {
    connection.stage = 'dialling';
    if (connection.upstreamStage === 'ready') this.join(connection);
    else if (connection.upstreamStage === 'none') this.dial(connection);
  }

  /** The client turned out to need no relay: an upstream that was dialled for its silence is not for it. */
  abandon(connection: ProxyConnection): void {
    if (connection.upstream !== 0) this.engine.reset(connection.upstream);
  }

  /** The upstream accepted. */
  connected(connection: ProxyConnection, micros: number): void {
    if (isOver(connection)) return;
    if (this.dialler.connected(connection, micros)) this.ready(connection);
  }

  /** Its handshake succeeded; whether it is who it should be is another question. */
  secured(connection: ProxyConnection, report: TlsReport): void {
    if (isOver(connection)) return;
    if (this.dialler.secured(connection, report)) this.ready(connection);
  }

  /** Its handshake failed; the socket ends next. */
  tlsFailed(connection: ProxyConnection, report: TlsReport): void {
    this.dialler.tlsFailed(connection, report);
  }

  /** Its handshake took too long. */
  timedOut(connection: ProxyConnection): void {
    this.dialler.timedOut(connection);
  }

  /** The dialled socket ended, or never was; `errno` is 0 for an orderly end. */
  ended(connection: ProxyConnection, errno: number): void {
    const { endpoint, upstreamStage } = connection;
    const over = isOver(connection) || connection.stage === 'open';
    if (!over && !connection.established && endpoint !== undefined) {
      connection.tried = [...connection.tried, endpoint];
    }
    const failure = this.dialler.ended(connection, errno, !over);
    if (over || failure === undefined) return;
    const late = this.engine.nowMs() - connection.diallingSinceMs >= TOTAL_MS;
    // One that was ready and left before the client had said a word may have lost bytes of its own.
    if (upstreamStage === 'ready' || late) this.owner.gaveUp(connection, failure.reason, failure.detail);
    else this.tryNext(connection, failure);
  }

  private ready(connection: ProxyConnection): void {
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

  private tryNext(connection: ProxyConnection, last: DialFailure): void {
    let failure = last;
    for (;;) {
      const endpoint = this.next(connection, failure.errno);
      if (endpoint === undefined) return this.owner.gaveUp(connection, failure.reason, failure.detail);
      const problem = this.dialler.open(connection, endpoint, connection.direction === 'outbound');
      if (problem === undefined) {
        connection.sockets++;
        return this.owner.adopt(connection.upstream, connection);
      }
      failure = problem;
      connection.tried = [...connection.tried, endpoint];
      // Out of descriptors is our own trouble: another endpoint does not help.
      if (failure.errno === ERRNO.emfile || failure.errno === ERRNO.enfile) {
        return this.owner.gaveUp(connection, failure.reason, failure.detail);
      }
    }
  }

  private next(connection: ProxyConnection, lastErrno: number): Endpoint | undefined {
    if (connection.tried.length >= MAX_TRIES) return undefined;
    const nowMs = this.engine.nowMs();
    const endpoint = connection.picker?.pick(connection.tried, nowMs);
    if (endpoint !== undefined || lastErrno !== ERRNO.etimedout) return endpoint;
    // Everyone was tried and the last one did not answer: packets may have been lost, and there is time left.
    connection.tried = NO_ENDPOINTS;
    return connection.picker?.pick(connection.tried, nowMs);
  }
}

/** Nothing is dialled for it any more: it ended, or its requests find upstreams of their own. */
function isOver({ stage }: ProxyConnection): boolean {
  return stage === 'ended' || stage === 'http';
}
