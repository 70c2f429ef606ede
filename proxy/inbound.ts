/**
 * The way of a connection into the application:
 *
 *   accept → destination → port policy → connect to the application → relay → account
 *
 * The policy is judged before the first byte passes. The application is dialled at the address the client used, so that
 * it sees its usual one; at loopback only for explicit ports.
 */
import { destinationOf, type OriginalDstMode } from './accept/destination.ts';
import type { HostAddresses } from './accept/host.ts';
import { judge } from './accept/policy.ts';
import { InOrder } from './balance/in-order.ts';
import type { AddressKey, Cidr, LocalAddress, OriginalDestination, PeerAddress } from './core/address.ts';
import { SocketAddress } from './core/address.ts';
import { IdleCache } from './core/idle-cache.ts';
import { log } from './core/log.ts';
import type { TcpForward } from './forward/tcp.ts';
import type { MetricsSlab } from './metrics/slab.ts';
import { destinationLabels, sourceLabels, TransportSeries } from './metrics/transport.ts';
import { ProxyConnection } from './model/connection.ts';
import { DEFAULT_CONNECT_MS, Endpoint } from './model/endpoint.ts';
import type { Policy } from './model/policy.ts';
import type { SpineOwner } from './model/spine.ts';
import type { ConnectionId } from './native/engine.ts';

/**
 * Application ports a worker keeps in mind: each may be named with every address of the host, and a scanner names all.
 */
const MAX_PORTS = 10_000;

/** An unused one is forgotten after this time, in ms; making it again costs microseconds. */
const PORT_IDLE_MS = 60_000;

/** The part of the configuration this spine follows. */
export interface InboundSettings {
  readonly originalDst: OriginalDstMode;
  readonly defaultPolicy: Policy;
  readonly clusterNetworks: readonly Cidr[];
}

/** One address and port of the application. */
interface ApplicationPort {
  readonly series: TransportSeries;
  readonly endpoints: readonly Endpoint[];
  readonly picker: InOrder;
  users: number;
  usedMs: number;
}

/** Inbound connections of one worker. */
export class Inbound {
  private readonly settings: InboundSettings;
  private readonly slab: MetricsSlab;
  private readonly host: HostAddresses;
  private readonly forward: TcpForward;
  private readonly owner: SpineOwner;
  private readonly ports = new IdleCache<AddressKey, ApplicationPort>(MAX_PORTS, PORT_IDLE_MS, (port) => {
    port.series.release();
    for (const endpoint of port.endpoints) endpoint.series.release();
  });

  constructor(
    settings: InboundSettings,
    parts: { slab: MetricsSlab; host: HostAddresses; forward: TcpForward; owner: SpineOwner },
  ) {
    this.settings = settings;
    this.slab = parts.slab;
    this.host = parts.host;
    this.forward = parts.forward;
    this.owner = parts.owner;
  }

  /** A redirected connection: the application is at its original destination. */
  accept(
    client: ConnectionId,
    peer: PeerAddress,
    local: LocalAddress,
    original: OriginalDestination | undefined,
  ): void {
    const destination = destinationOf(this.settings.originalDst, local, original);
    const connection = new ProxyConnection('inbound', client, peer, destination);
    this.owner.adopt(client, connection);
    if (destination === undefined) {
      return this.owner.refuse(
        connection,
        'not_redirected',
        'connection to the inbound port was not redirected',
      );
    }
    if (this.host.isOwn(destination)) {
      return this.owner.refuse(connection, 'own_port', 'the destination is a port of this proxy');
    }
    if (!this.host.isLocal(destination)) {
      const message =
        'the original destination is not an address of this host; forwarding it would make an open proxy';
      return this.owner.refuse(connection, 'not_this_host', message);
    }
    this.proceed(connection, this.settings.defaultPolicy, destination, [destination]);
  }

  /** A connection to an explicit port: the application listens on loopback, of whichever family. */
  acceptFor(port: number, policy: Policy, client: ConnectionId, peer: PeerAddress): void {
    const v4 = new SocketAddress(4, 0, 0, 0, 0x7f000001, port);
    const connection = new ProxyConnection('inbound', client, peer, v4);
    this.owner.adopt(client, connection);
    const candidates = [v4, new SocketAddress(6, 0, 0, 0, 1, port)];
    const application = candidates.filter((address) => !this.host.isOwn(address));
    if (application.length === 0) {
      return this.owner.refuse(connection, 'own_port', "the application's port is one of this proxy");
    }
    this.proceed(connection, policy, v4, application);
  }

  /** Forgets idle ports; called every few seconds. */
  evict(nowMs: number): void {
    this.ports.evict(nowMs);
  }

  private proceed(
    connection: ProxyConnection,
    policy: Policy,
    destination: SocketAddress,
    addresses: readonly SocketAddress[],
  ): void {
    const verdict = judge(policy, connection.peer, this.settings.clusterNetworks);
    if (verdict === 'deny') {
      return this.owner.refuse(connection, 'policy', `policy ${policy} does not let this client in`);
    }
    if (verdict === 'audit')
      log.info('audit', { client: connection.peer.toString(), target: destination.toString() });
    const port = this.ports.obtain(destination.key, performance.now(), () =>
      this.open(destination, addresses),
    );
    if (port === undefined) {
      return this.owner.refuse(
        connection,
        'too_many_waiting',
        'every place for an application port is in use',
      );
    }
    port.users++;
    port.series.opened();
    connection.target = port;
    connection.series = port.series;
    connection.picker = port.picker;
    this.forward.start(connection);
  }

  private open(destination: SocketAddress, addresses: readonly SocketAddress[]): ApplicationPort {
    const endpoints = addresses.map((address) => {
      const series = new TransportSeries(this.slab, destinationLabels('inbound', address, {}));
      const snapshot = { ip: address.ip, port: address.port, weight: 1, labels: {} };
      return new Endpoint(snapshot, series, DEFAULT_CONNECT_MS, performance.now());
    });
    return {
      series: new TransportSeries(this.slab, sourceLabels('inbound', destination, destination.toString())),
      endpoints,
      picker: new InOrder(endpoints),
      users: 0,
      usedMs: 0,
    };
  }
}
