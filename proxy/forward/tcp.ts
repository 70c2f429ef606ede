/**
 * Opens the upstream of a connection and joins the two. A connect that fails goes to the next endpoint at once; one that
 * hangs, after a second. When no endpoint is left the client is reset, so that it never takes a failure for an empty answer.
 */
import { ERRNO, errnoName } from '../core/errno.ts';
import { NO_ENDPOINTS, type ProxyConnection } from '../model/connection.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';

/** One try, in ms: Linkerd's; a SYN that was lost is sent again after 1 s, so a fresh try loses nothing. */
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
  /** No endpoint could be reached: refuse the connection. `detail` says what failed last. */
  gaveUp(connection: ProxyConnection, detail: string): void;
}

/** Connects and relays for one worker. */
export class TcpForward {
  private readonly engine: Engine;
  private readonly track: boolean;
  private readonly owner: ForwardOwner;

  /** @param track make outbound sockets recognisable should the redirect send them back to us */
  constructor(engine: Engine, track: boolean, owner: ForwardOwner) {
    this.engine = engine;
    this.track = track;
    this.owner = owner;
  }

  /** Starts dialling what the connection's picker offers. */
  start(connection: ProxyConnection): void {
    connection.stage = 'dialling';
    connection.diallingSinceMs = performance.now();
    this.dial(connection, 0, 'no endpoint to try');
  }

  /** The upstream answered: relay until both sides have ended. */
  connected(connection: ProxyConnection, micros: number): void {
    const endpoint = connection.endpoint;
    if (connection.stage !== 'dialling' || endpoint === undefined) return;
    endpoint.observe(micros / 1000, performance.now());
    endpoint.series.opened();
    connection.established = true;
    connection.stage = 'open';
    const { client, upstream, series } = connection;
    if (series !== undefined) this.engine.count(client, series.readSlot, series.writeSlot);
    this.engine.count(upstream, endpoint.series.readSlot, endpoint.series.writeSlot);
    this.engine.relay(client, upstream);
  }

  /** A try failed: on to the next endpoint, unless the client has gone meanwhile. */
  failed(connection: ProxyConnection, errno: number): void {
    const endpoint = connection.endpoint;
    connection.upstream = 0;
    connection.sockets--;
    if (endpoint === undefined) return;
    connection.endpoint = undefined;
    const abandoned = connection.stage !== 'dialling';
    if (!abandoned) this.record(connection, endpoint, errno);
    endpoint.letGo();
    if (abandoned) return;
    const detail = `${endpoint.address}: ${errnoName(errno)}`;
    if (performance.now() - connection.diallingSinceMs >= TOTAL_MS) this.owner.gaveUp(connection, detail);
    else this.dial(connection, errno, detail);
  }

  /** The dialled socket ended; `errno` is 0 for an orderly end. */
  ended(connection: ProxyConnection, errno: number): void {
    const endpoint = connection.endpoint;
    connection.endpoint = undefined;
    connection.upstream = 0;
    if (endpoint === undefined) return;
    if (connection.established) endpoint.series.closed(errno);
    endpoint.letGo();
  }

  private dial(connection: ProxyConnection, lastErrno: number, lastFailure: string): void {
    let errno = lastErrno;
    let detail = lastFailure;
    for (;;) {
      const endpoint = this.next(connection, errno);
      if (endpoint === undefined) return this.owner.gaveUp(connection, detail);
      const upstream = this.engine.connect(
        endpoint.address,
        this.track && connection.direction === 'outbound',
      );
      if (upstream > 0) {
        endpoint.hold();
        connection.endpoint = endpoint;
        connection.upstream = upstream;
        connection.sockets++;
        this.engine.deadline(upstream, TRY_MS);
        return this.owner.adopt(upstream, connection);
      }
      errno = -upstream;
      detail = `${endpoint.address}: ${errnoName(errno)}`;
      this.record(connection, endpoint, errno);
      // Out of descriptors is our own trouble: another endpoint does not help.
      if (errno === ERRNO.emfile || errno === ERRNO.enfile) return this.owner.gaveUp(connection, detail);
    }
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
    endpoint.observe(TRY_MS, performance.now());
    endpoint.series.connectFailed(errno);
    connection.tried = [...connection.tried, endpoint];
  }
}
