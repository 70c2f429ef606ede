/**
 * The way of a connection out of the application:
 *
 *   accept → target → look-up (held) → HTTP? → balance → connect → (mutual TLS → transport header) → relay → account,
 *          or for each request: balance → pool → forward → account
 *
 * The destination is what the kernel says it was before the redirect, or the service of an explicit listener; nothing the
 * client sends changes it.
 */
import { destinationOf, type OriginalDstMode } from './accept/destination.ts';
import type { HostAddresses } from './accept/host.ts';
import { Balancer } from './balance/balancer.ts';
import {
  isLoopback,
  type LocalAddress,
  type OriginalDestination,
  type PeerAddress,
  parseIp,
  type SocketAddress,
} from './core/address.ts';
import { log } from './core/log.ts';
import { isTelling, Opening, type OpeningOwner } from './detect/opening.ts';
import type { HttpForward } from './forward/http.ts';
import type { TcpForward } from './forward/tcp.ts';
import type { MetricsSlab } from './metrics/slab.ts';
import { destinationLabels, sourceLabels, TransportSeries } from './metrics/transport.ts';
import { type Protocol, ProxyConnection } from './model/connection.ts';
import { Endpoint } from './model/endpoint.ts';
import type { SpineOwner } from './model/spine.ts';
import type { EndpointSnapshot, Labels, TargetKey, TargetSnapshot } from './model/target.ts';
import type { ConnectionId, Engine } from './native/engine.ts';
import { type Target, Targets } from './route/targets.ts';
import { endpointTls } from './tls/client.ts';

/** The part of the configuration this spine follows. */
export interface OutboundSettings {
  readonly originalDst: OriginalDstMode;
  /** Ports whose protocols are known not to be HTTP, many with a server that speaks first. */
  readonly opaquePorts: ReadonlySet<number>;
  readonly requireIdentity: boolean;
  /** This proxy has an identity of its own. */
  readonly identity: boolean;
  readonly unknown: 'forward' | 'refuse';
  readonly discoveryTimeoutMs: number;
  /** Topology zone of this proxy; undefined when it is in none. */
  readonly zone: string | undefined;
}

/** What the spine is made of. */
export interface OutboundParts {
  readonly engine: Engine;
  readonly slab: MetricsSlab;
  readonly host: HostAddresses;
  readonly forward: TcpForward;
  readonly http: HttpForward;
  readonly owner: SpineOwner;
}

/** Asks main to follow a target, or to stop. */
export interface LookUps {
  lookUp(key: TargetKey): void;
  release(key: TargetKey): void;
}

/** Outbound connections of one worker. */
export class Outbound implements OpeningOwner {
  private readonly settings: OutboundSettings;
  private readonly engine: Engine;
  private readonly slab: MetricsSlab;
  private readonly host: HostAddresses;
  private readonly forward: TcpForward;
  private readonly http: HttpForward;
  private readonly opening: Opening;
  private readonly owner: SpineOwner;
  private readonly targets: Targets;

  constructor(settings: OutboundSettings, parts: OutboundParts, lookUps: LookUps) {
    this.settings = settings;
    this.engine = parts.engine;
    this.slab = parts.slab;
    this.host = parts.host;
    this.forward = parts.forward;
    this.http = parts.http;
    this.opening = new Opening(parts.engine, this);
    this.owner = parts.owner;
    this.targets = new Targets({
      lookUp: (key) => lookUps.lookUp(key),
      release: (key) => lookUps.release(key),
      openSeries: (key, destination) =>
        new TransportSeries(this.slab, sourceLabels('outbound', destination, key, this.clientLabels)),
      retire: (target) => {
        target.series.release();
        for (const endpoint of target.endpoints) this.retire(endpoint);
      },
    });
  }

  /** A redirected connection: its target is its original destination. */
  accept(
    client: ConnectionId,
    peer: PeerAddress,
    local: LocalAddress,
    original: OriginalDestination | undefined,
    own: boolean,
  ): void {
    const destination = destinationOf(this.settings.originalDst, local, original);
    const connection = new ProxyConnection('outbound', client, peer, destination);
    this.owner.adopt(client, connection);
    if (destination === undefined) {
      return this.owner.refuse(
        connection,
        'not_redirected',
        'connection to the outbound port was not redirected',
      );
    }
    if (!isLoopback(peer) && !this.host.isLocal(peer)) {
      return this.owner.refuse(connection, 'foreign_client', 'the outbound port serves this host only');
    }
    if (own) return this.owner.refuse(connection, 'loop', loopMessage());
    if (this.host.isOwn(destination)) {
      return this.owner.refuse(connection, 'own_port', 'the destination is a port of this proxy');
    }
    this.proceed(connection, this.targets.ofAddress(destination, performance.now()));
  }

  /** A connection to an explicit listener: its target is the listener's service. */
  acceptFor(service: TargetKey, client: ConnectionId, peer: PeerAddress): void {
    const connection = new ProxyConnection('outbound', client, peer, undefined);
    this.owner.adopt(client, connection);
    this.proceed(connection, this.targets.ofService(service, performance.now()));
  }

  /** Main's newest word on a target: held connections go on. */
  apply(key: TargetKey, snapshot: TargetSnapshot): void {
    const target = this.targets.get(key);
    if (target === undefined) return;
    target.snapshot = snapshot;
    this.compile(target, performance.now());
    const waiting = [...target.waiting];
    target.waiting.clear();
    for (const connection of waiting) this.resolved(connection, target, snapshot);
  }

  /** Bytes of the client, or of an endpoint that may speak first. */
  received(connection: ProxyConnection, socket: ConnectionId, bytes: Uint8Array): void {
    this.opening.received(connection, socket, bytes);
  }

  /** The end of either. */
  ended(connection: ProxyConnection, socket: ConnectionId): void {
    this.opening.ended(connection, socket);
  }

  /** An upstream dialled for a silent client is there. */
  upstreamReady(connection: ProxyConnection): void {
    if (connection.stage === 'opening') this.opening.listenToUpstream(connection);
  }

  look(connection: ProxyConnection): void {
    if (connection.stage === 'opening') this.opening.decide(connection);
  }

  sawTls(connection: ProxyConnection): void {
    // Not looked for: on its way out it is the application's own.
    this.forward.proceed(connection);
  }

  sawProtocol(connection: ProxyConnection, protocol: Protocol): void {
    const target = connection.target as Target | undefined;
    if (target !== undefined && isTelling(connection)) target.opaque = protocol === 'opaque';
    this.http.detected(connection, protocol);
    if (protocol === 'opaque') return this.forward.proceed(connection);
    this.forward.abandon(connection);
    this.http.start(connection, protocol, undefined);
  }

  silent(connection: ProxyConnection): void {
    this.forward.dial(connection);
  }

  unreadable(connection: ProxyConnection): void {
    this.forward.proceed(connection);
  }

  stalled(connection: ProxyConnection, afterMs: number): void {
    this.http.stalled(connection, afterMs);
  }

  /** The client's deadline has passed: the look-up took too long, and is refused rather than sent on by accident. */
  timedOut(connection: ProxyConnection): void {
    if (connection.stage === 'opening') return this.opening.timedOut(connection);
    if (connection.stage !== 'resolving') return;
    const waited = this.settings.discoveryTimeoutMs;
    this.owner.refuse(
      connection,
      'discovery_timeout',
      `discovery has not answered within outbound.discoveryTimeout (${waited} ms)`,
    );
  }

  /** Forgets idle targets; called every few seconds. */
  evict(nowMs: number): void {
    this.targets.evict(nowMs);
  }

  private proceed(connection: ProxyConnection, target: Target | undefined): void {
    if (target === undefined) {
      return this.owner.refuse(connection, 'too_many_waiting', 'every place for a target is in use');
    }
    target.users++;
    connection.target = target;
    connection.series = target.series;
    target.series.opened();
    if (target.snapshot !== undefined) return this.resolved(connection, target, target.snapshot);
    if (!this.targets.hold(target, connection)) {
      return this.owner.refuse(connection, 'too_many_waiting', 'too many connections wait for discovery');
    }
    this.engine.deadline(connection.client, this.settings.discoveryTimeoutMs);
  }

  private resolved(connection: ProxyConnection, target: Target, snapshot: TargetSnapshot): void {
    if (snapshot.kind === 'conflict') {
      const [one, other] = snapshot.services;
      return this.owner.refuse(
        connection,
        'service_conflict',
        `services ${one} and ${other} share this address`,
      );
    }
    if (
      snapshot.kind === 'unknown' &&
      (target.destination === undefined || this.settings.unknown === 'refuse')
    ) {
      const message = `no discovery source knows ${target.key}`;
      return this.owner.refuse(connection, 'unknown_destination', message);
    }
    // Of a service without any, requests wait for one; everything else is refused when it is to be dialled.
    if (target.endpoints.length === 0 && endpointsOf(target, snapshot).length > 0)
      return this.refuseEndpoints(connection, target, snapshot);
    this.engine.deadline(connection.client, 0);
    connection.picker = target.picker;
    if (this.settings.opaquePorts.has(portOf(target))) return this.forward.proceed(connection);
    this.opening.start(connection, { tls: false, http: true, race: true, atOnce: target.opaque });
  }

  /** Endpoints there are, but none that may be dialled. */
  private refuseEndpoints(connection: ProxyConnection, target: Target, snapshot: TargetSnapshot): void {
    const own = endpointsOf(target, snapshot).every((endpoint) => this.host.isOwn(addressOf(endpoint)));
    if (own) return this.owner.refuse(connection, 'own_port', 'every endpoint is a port of this proxy');
    const message = 'no endpoint has an identity, and outbound.requireIdentity is set';
    this.owner.refuse(connection, 'identity_required', message);
  }

  /** Makes the endpoints of a snapshot; those that stay keep their figures. */
  private compile(target: Target, nowMs: number): void {
    const snapshot = target.snapshot as TargetSnapshot;
    const usable = endpointsOf(target, snapshot).filter((endpoint) => this.usable(endpoint, snapshot));
    const balancer = target.picker instanceof Balancer ? target.picker : new Balancer(this.settings);
    const shared: Labels = snapshot.kind === 'service' ? snapshot.labels : {};
    const policy = (snapshot.kind === 'service' ? snapshot.balance : undefined) ?? 'ewma';
    const gone = balancer.update(usable, policy, nowMs, (endpoint, figures) => {
      const series = new TransportSeries(
        this.slab,
        destinationLabels('outbound', addressOf(endpoint), {
          ...this.endpointLabels(endpoint),
          ...shared,
          ...endpoint.labels,
        }),
      );
      return new Endpoint(endpoint, series, endpointTls(endpoint), figures);
    });
    for (const endpoint of gone) this.retire(endpoint);
    target.endpoints = balancer.endpoints;
    target.picker = balancer;
    if (usable.length > 0) this.http.endpointsCame(balancer);
    if (log.debugEnabled)
      log.debug('target', { target: target.key, kind: snapshot.kind, endpoints: usable.length });
  }

  /** Nothing new goes to it; what is open goes on. */
  private retire(endpoint: Endpoint): void {
    this.http.connections.retire(endpoint);
    endpoint.series.release();
  }

  private usable(endpoint: EndpointSnapshot, snapshot: TargetSnapshot): boolean {
    const mayBePlain = !this.settings.requireIdentity || snapshot.kind === 'unknown';
    return (endpoint.identity !== undefined || mayBePlain) && !this.host.isOwn(addressOf(endpoint));
  }

  /** Labels as linkerd2-proxy has them: who dials us here is on this host. */
  private get clientLabels(): Labels {
    return this.settings.identity ? { tls: 'no_identity', no_tls_reason: 'loopback' } : { tls: 'disabled' };
  }

  private endpointLabels({ identity }: EndpointSnapshot): Labels {
    if (identity !== undefined) return { tls: 'true', server_id: identity };
    return this.settings.identity
      ? { tls: 'no_identity', no_tls_reason: 'not_provided_by_service_discovery' }
      : { tls: 'disabled' };
  }
}

/** What a snapshot lets us dial. The unknown are dialled where they were going. */
function endpointsOf(target: Target, snapshot: TargetSnapshot): readonly EndpointSnapshot[] {
  switch (snapshot.kind) {
    case 'service':
      return snapshot.endpoints;
    case 'endpoint':
      return [snapshot.endpoint];
    case 'conflict':
      return [];
    case 'unknown': {
      const destination = target.destination;
      return destination === undefined
        ? []
        : [{ ip: destination.ip, port: destination.port, weight: 1, labels: {} }];
    }
  }
}

/** The port the client asked for: of a service its own, not that of its endpoints. */
function portOf({ key, destination }: Target): number {
  return destination?.port ?? Number(key.slice(key.lastIndexOf(':') + 1));
}

/** Where an endpoint is dialled. */
function addressOf(endpoint: EndpointSnapshot): SocketAddress {
  const address = parseIp(endpoint.ip, endpoint.proxyPort ?? endpoint.port);
  if (address === undefined)
    throw new Error(`discovery gave an endpoint without an IP literal: ${endpoint.ip}`);
  return address;
}

function loopMessage(): string {
  const uid = process.getuid?.() ?? 0;
  return `this proxy's own connection came back to it: it runs as uid ${uid}; install the rules with: ferrule init --proxy-uid ${uid}`;
}
