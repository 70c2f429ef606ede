/** A proxied connection: the accepted side, where it goes, and how far it has come. */
import type { PeerAddress, SocketAddress } from '../core/address.ts';
import type { TransportSeries } from '../metrics/transport.ts';
import type { ConnectionId } from '../native/engine.ts';
import type { Endpoint, EndpointPicker } from './endpoint.ts';

/** Which way through the proxy. */
export type Direction = 'inbound' | 'outbound';

/**
 * How far it has come: `resolving` waits for discovery, `dialling` for an upstream, `open` is relayed, `ended` is over
 * for us, though the engine may not have told the end of both sockets yet.
 */
export type Stage = 'resolving' | 'dialling' | 'open' | 'ended';

/** Shared by all connections that had no failure: most of them. */
export const NO_ENDPOINTS: readonly Endpoint[] = [];

/** What a connection counts as a user of, and may wait for. */
export interface ConnectionTarget {
  users: number;
  /** Connections held until discovery answers. */
  readonly waiting?: Set<ProxyConnection>;
}

/** One per accepted connection, from accept until both sockets have ended. */
export class ProxyConnection {
  readonly direction: Direction;
  /** The accepted socket. */
  readonly client: ConnectionId;
  readonly peer: PeerAddress;
  /** Where the client wants to go; undefined for a listener that names a service. */
  readonly destination: SocketAddress | undefined;
  stage: Stage = 'resolving';
  /** The dialled socket; 0 while there is none. */
  upstream: ConnectionId = 0;
  /** Sockets the engine has not told the end of: the accepted one, and the dialled one while there is one. */
  sockets = 1;
  /** The upstream answered, so that its end is counted. */
  established = false;
  /** Given back when both sockets have ended. */
  target: ConnectionTarget | undefined;
  /** Metrics of the accepted side; undefined while the target is not known. */
  series: TransportSeries | undefined;
  endpoint: Endpoint | undefined;
  picker: EndpointPicker | undefined;
  /** Endpoints that failed for this connection. */
  tried: readonly Endpoint[] = NO_ENDPOINTS;
  /** When dialling began, in ms of `performance.now()`. */
  diallingSinceMs = 0;

  constructor(
    direction: Direction,
    client: ConnectionId,
    peer: PeerAddress,
    destination: SocketAddress | undefined,
  ) {
    this.direction = direction;
    this.client = client;
    this.peer = peer;
    this.destination = destination;
  }

  /** Over for us: nothing starts for it any more. The sockets may still have to end. */
  end(): void {
    this.stage = 'ended';
    this.target?.waiting?.delete(this);
  }
}
