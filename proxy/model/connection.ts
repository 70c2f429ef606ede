/** A proxied connection: the accepted side, where it goes, and how far it has come. */
import type { PeerAddress, SocketAddress } from '../core/address.ts';
import type { PeerIdentity } from '../core/identity.ts';
import type { TransportSeries } from '../metrics/transport.ts';
import type { ConnectionId } from '../native/engine.ts';
import type { UpstreamFault, UpstreamStage } from './dialling.ts';
import type { Endpoint } from './endpoint.ts';
import type { PortPlace } from './messages.ts';
import type { EndpointPicker } from './pick.ts';

/** Which way through the proxy. */
export type Direction = 'inbound' | 'outbound';

/**
 * How far it has come on the client's side: `resolving` waits for discovery, `opening` for the client's first bytes,
 * `handshaking` for its TLS, `header` for the transport header behind that, `dialling` for the upstream alone; `open` is
 * relayed; `http` passes one request after the other, see `Exchange`; `ended` is over for us, though the engine may not have told the end of both sockets yet.
 */
export type Stage =
  | 'resolving'
  | 'opening'
  | 'handshaking'
  | 'header'
  | 'dialling'
  | 'open'
  | 'http'
  | 'ended';

/** Shared by all connections that had no failure: most of them. */
export const NO_ENDPOINTS: readonly Endpoint[] = [];

/** What a client speaks, where it is not TLS for us. */
export type Protocol = 'http1' | 'http2' | 'opaque';

/** What a connection counts as a user of, and may wait for. */
export interface ConnectionTarget {
  /** What it is called: an address, or a service. */
  readonly key: string;
  users: number;
  /** Connections held until discovery answers. */
  readonly waiting?: Set<ProxyConnection>;
}

/** Shared by all connections of which nothing is held: nearly all. */
export const NO_BYTES = new Uint8Array(0);

/** What first bytes are looked at for. */
export interface OpeningSearch {
  /** TLS that may be meant for us. */
  readonly tls: boolean;
  /** HTTP; everything is opaque otherwise. */
  readonly http: boolean;
  /** The upstream may be dialled while the client is silent, since it may be one whose server speaks first. */
  readonly race: boolean;
  /** … and probably is: do not wait at all. */
  readonly atOnce: boolean;
}

/** One per accepted connection, from accept until both sockets have ended. */
export class ProxyConnection {
  readonly kind = 'connection';
  readonly direction: Direction;
  /** The accepted socket. */
  readonly client: ConnectionId;
  readonly peer: PeerAddress;
  /**
   * Where the client wants to go; undefined for a listener that names a service. Of a direct connection our own port, until
   * its transport header has come.
   */
  destination: SocketAddress | undefined;
  stage: Stage = 'resolving';
  /** The dialled socket; 0 while there is none. */
  upstream: ConnectionId = 0;
  upstreamStage: UpstreamStage = 'none';
  /** Sockets the engine has not told the end of: the accepted one, and the dialled one while there is one. */
  sockets = 1;
  /** The upstream is counted as open, so that its end is counted too. */
  established = false;
  /** Why the upstream's handshake failed; the end of its socket follows. */
  upstreamFault: UpstreamFault | undefined;
  /** Given back when both sockets have ended. */
  target: ConnectionTarget | undefined;
  /** Metrics of the accepted side; undefined while the target is not known. */
  series: TransportSeries | undefined;
  endpoint: Endpoint | undefined;
  picker: EndpointPicker | undefined;
  /** Endpoints that failed for this connection. */
  tried: readonly Endpoint[] = NO_ENDPOINTS;
  /** What the client has sent and nobody has passed on. */
  held: Uint8Array = NO_BYTES;
  /** It is the engine's memory, until the batch is over. */
  borrowed = false;
  /** The same of an upstream that may speak first. */
  heldUpstream: Uint8Array = NO_BYTES;
  /** A look at what is held is due at the end of the batch. */
  looking = false;
  /** The client, or an upstream that may speak first, will send no more. */
  clientEnded = false;
  upstreamEnded = false;
  /** When the client's first bytes were waited for, in ms of `performance.now()`. */
  openingSinceMs = 0;
  /** How long it took to tell what the client speaks, in ms. */
  detectedAfterMs = 0;
  /** What its first bytes are looked at for. */
  search: OpeningSearch | undefined;
  /** The client has begun to say what it wants, and its time runs. */
  openingDue = false;
  /** So many of its first bytes may become HTTP. */
  scanned = 0;
  /** Who the client has proved to be; undefined without mutual TLS. */
  clientIdentity: PeerIdentity | undefined;
  /** The explicit inbound listener it came to, whose policy holds; undefined for the others. */
  place: PortPlace | undefined;
  /** It went to the inbound port itself, and says in a transport header what it wants. */
  direct = false;
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

  /** Holds received bytes, which are the engine's until the batch is over; by then `keep` must have been called. */
  hold(socket: ConnectionId, bytes: Uint8Array): void {
    if (socket !== this.client) {
      this.heldUpstream = joined(this.heldUpstream, bytes);
      return;
    }
    this.keep();
    // Nearly always they are all that is needed, and used up in this very batch.
    this.borrowed = this.held.length === 0;
    this.held = this.borrowed ? bytes : joined(this.held, bytes);
  }

  /** Copies what is held to memory of our own. */
  keep(): void {
    if (!this.borrowed) return;
    this.borrowed = false;
    if (this.held.length > 0) this.held = this.held.slice();
  }

  /** Over for us: nothing starts for it any more. The sockets may still have to end. */
  end(): void {
    this.stage = 'ended';
    this.target?.waiting?.delete(this);
  }
}

/** `before` and `bytes` in memory of our own, which grows by doubling: a peer may send its bytes one by one. */
export function joined(before: Uint8Array, bytes: Uint8Array): Uint8Array {
  const length = before.length + bytes.length;
  const room = before.buffer.byteLength - before.byteOffset;
  // NO_BYTES has no room at all.
  const into = length <= room ? before : new Uint8Array(Math.max(length, 2 * before.length));
  const whole = new Uint8Array(into.buffer, into.byteOffset, length);
  if (into !== before) whole.set(before);
  whole.set(bytes, before.length);
  return whole;
}

/** The host of a request that names none, as those of HTTP/1.0; null when its client was not redirected either. */
export function hostOf({ destination }: ProxyConnection): Uint8Array | null {
  return destination === undefined ? null : Buffer.from(destination.toString(), 'latin1');
}
