/**
 * The way of a connection into the application:
 *
 *   accept → destination → port policy → TLS? → (handshake → transport header) → authorize → HTTP?
 *          → connect → relay → account, or for each request: pool → forward → account
 *
 * No byte passes before the policy of the port has allowed it. The application is dialled at the address the client used, so
 * that it sees its usual one; at the accepted address for direct connections; at loopback only for explicit ports.
 */
import { destinationOf, type OriginalDstMode } from './accept/destination.ts';
import type { HostAddresses } from './accept/host.ts';
import { judge, type Verdict } from './accept/policy.ts';
import { InOrder } from './balance/in-order.ts';
import {
  type AddressKey,
  type Cidr,
  type LocalAddress,
  type OriginalDestination,
  type PeerAddress,
  SocketAddress,
  sameSocketAddress,
} from './core/address.ts';
import type { PeerIdentity } from './core/identity.ts';
import { IdleCache } from './core/idle-cache.ts';
import { LineBudget } from './core/line-budget.ts';
import { log } from './core/log.ts';
import { isTelling, Opening, type OpeningOwner } from './detect/opening.ts';
import type { HttpForward } from './forward/http.ts';
import type { TcpForward } from './forward/tcp.ts';
import { OwnFields } from './http/h2/own-fields.ts';
import { HttpSeries } from './metrics/http.ts';
import type { OpeningMetrics } from './metrics/opening.ts';
import type { MetricsSlab } from './metrics/slab.ts';
import { destinationLabels, sourceLabels, TransportSeries } from './metrics/transport.ts';
import { NO_BYTES, type OpeningSearch, type Protocol, ProxyConnection } from './model/connection.ts';
import { Endpoint } from './model/endpoint.ts';
import type { PolicyMessage, PortPlace } from './model/messages.ts';
import type { Policy } from './model/policy.ts';
import type { SpineOwner } from './model/spine.ts';
import type { Labels } from './model/target.ts';
import type { ConnectionId, Engine } from './native/engine.ts';
import type { TlsReport } from './native/tls-report.ts';
import type { TlsServer } from './tls/server.ts';
import { readTransportHeader, TRANSPORT_ALPN } from './tls/transport-header.ts';

/**
 * Application ports a worker keeps in mind: each may be named with every address of the host, and a scanner names all.
 */
const MAX_PORTS = 10_000;

/** An unused one is forgotten after this time, in ms; making it again costs microseconds, learning it again 50 ms. */
const PORT_IDLE_MS = 60_000;

/** How long the transport header may take once TLS is there, in ms: Linkerd's. */
const HEADER_MS = 10_000;

/** So many characters of a name that a client made up are worth a place in the log. */
const SHOWN_NAME = 100;

/** Who may connect; see `PolicyMessage`. */
export interface PolicySettings {
  readonly defaultPolicy: Policy;
  readonly ports: PolicyMessage['ports'];
  readonly clusterNetworks: readonly Cidr[];
}

/** The part of the configuration this spine follows. */
export interface InboundSettings {
  readonly originalDst: OriginalDstMode;
  /** Ports whose protocols are known not to be HTTP, many with a server that speaks first. */
  readonly opaquePorts: ReadonlySet<number>;
  readonly policies: PolicySettings;
}

/** What the spine is made of. */
export interface InboundParts {
  readonly engine: Engine;
  readonly slab: MetricsSlab;
  readonly host: HostAddresses;
  readonly forward: TcpForward;
  readonly http: HttpForward;
  readonly tls: TlsServer;
  readonly openings: OpeningMetrics;
  readonly owner: SpineOwner;
}

/** One address and port of the application. */
interface ApplicationPort {
  readonly key: string;
  readonly destination: SocketAddress;
  /** Of the clients' side, by what their TLS was. */
  readonly series: Map<string, TransportSeries>;
  /** Of their requests. */
  readonly requests: Map<TransportSeries, HttpSeries>;
  readonly endpoints: readonly Endpoint[];
  readonly picker: InOrder;
  /** What came last, and said something, was no HTTP. Only shortens the wait of what comes next. */
  opaque: boolean;
  users: number;
  usedMs: number;
}

/** Inbound connections of one worker. */
export class Inbound implements OpeningOwner {
  private readonly settings: InboundSettings;
  private readonly parts: InboundParts;
  private readonly engine: Engine;
  private readonly owner: SpineOwner;
  private readonly opening: Opening;
  private policies: PolicySettings;
  private readonly auditLines = new LineBudget();
  private readonly ports = new IdleCache<AddressKey, ApplicationPort>(MAX_PORTS, PORT_IDLE_MS, (port) => {
    for (const series of port.series.values()) series.release();
    for (const requests of port.requests.values()) requests.release();
    for (const endpoint of port.endpoints) {
      this.parts.http.connections.retire(endpoint);
      endpoint.series.release();
    }
  });

  constructor(settings: InboundSettings, parts: InboundParts) {
    this.settings = settings;
    this.policies = settings.policies;
    this.parts = parts;
    this.engine = parts.engine;
    this.owner = parts.owner;
    this.opening = new Opening(parts.engine, this);
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
      const message = 'connection to the inbound port was not redirected';
      return this.owner.refuse(connection, 'not_redirected', message);
    }
    if (this.parts.host.isOwn(destination)) {
      // To this very port: from a peer that puts the application's port into a transport header.
      if (this.parts.tls.enabled && sameSocketAddress(destination, local))
        return this.acceptDirect(connection);
      return this.owner.refuse(connection, 'own_port', 'the destination is a port of this proxy');
    }
    if (!this.parts.host.isLocal(destination)) {
      const message =
        'the original destination is not an address of this host; forwarding it would make an open proxy';
      return this.owner.refuse(connection, 'not_this_host', message);
    }
    this.proceed(connection, destination, [destination]);
  }

  /** A connection to an explicit port: the application listens on loopback, of whichever family. */
  acceptFor(place: PortPlace, client: ConnectionId, peer: PeerAddress): void {
    const { port } = this.policies.ports[place];
    const v4 = new SocketAddress(4, 0, 0, 0, 0x7f000001, port);
    const connection = new ProxyConnection('inbound', client, peer, v4);
    connection.place = place;
    this.owner.adopt(client, connection);
    const candidates = [v4, new SocketAddress(6, 0, 0, 0, 1, port)];
    const application = candidates.filter((address) => !this.parts.host.isOwn(address));
    if (application.length === 0) {
      return this.owner.refuse(connection, 'own_port', "the application's port is one of this proxy");
    }
    this.proceed(connection, v4, application);
  }

  /** Bytes of the client, or of an application that may speak first. */
  received(connection: ProxyConnection, socket: ConnectionId, bytes: Uint8Array): void {
    this.opening.received(connection, socket, bytes);
  }

  /** The end of either. */
  ended(connection: ProxyConnection, socket: ConnectionId): void {
    this.opening.ended(connection, socket);
  }

  /** The client's deadline has passed. */
  timedOut(connection: ProxyConnection): void {
    if (connection.stage === 'opening') return this.opening.timedOut(connection);
    if (connection.stage === 'handshaking') {
      return this.owner.refuse(connection, 'tls_handshake', this.parts.tls.explain(undefined));
    }
    if (connection.stage === 'header')
      this.refuseHeader(connection, `it did not come within ${HEADER_MS} ms`);
  }

  /** The client's handshake is over. */
  secured(connection: ProxyConnection, report: TlsReport): void {
    if (connection.stage !== 'handshaking') return;
    const verdict = this.parts.tls.judge(connection.client, report);
    if ('problem' in verdict) return this.owner.refuse(connection, 'tls_identity', verdict.problem);
    connection.clientIdentity = verdict.identity;
    if (connection.direct && verdict.identity === undefined) {
      return this.owner.refuse(connection, 'policy', 'a direct connection needs a client with an identity');
    }
    if (report.alpn === TRANSPORT_ALPN) {
      connection.stage = 'header';
      this.engine.resume(connection.client);
      return this.engine.deadline(connection.client, HEADER_MS);
    }
    if (connection.direct)
      return this.refuseHeader(connection, `the client does not speak ${TRANSPORT_ALPN}`);
    this.enterApplication(connection);
  }

  /** The client's handshake failed; its socket ends next. */
  tlsFailed(connection: ProxyConnection, report: TlsReport): void {
    this.owner.refuse(connection, 'tls_handshake', this.parts.tls.explain(report));
  }

  /** An upstream dialled for a silent client is there. */
  upstreamReady(connection: ProxyConnection): void {
    if (connection.stage === 'opening') this.opening.listenToUpstream(connection);
  }

  look(connection: ProxyConnection): void {
    if (connection.stage === 'opening') this.opening.decide(connection);
    else if (connection.stage === 'header') this.readHeader(connection);
  }

  sawTls(connection: ProxyConnection, serverName: string): void {
    this.parts.openings.saw('tls', connection.openingSinceMs);
    if (!this.parts.tls.isOurs(serverName)) {
      // The application's own TLS. For us the client is nobody.
      if (this.admit(connection, OPAQUE_TLS)) this.parts.forward.proceed(connection);
      return;
    }
    connection.stage = 'handshaking';
    this.engine.unread(connection.client, connection.held);
    connection.held = NO_BYTES;
    const lack = this.parts.tls.start(connection.client);
    if (lack !== undefined) this.owner.refuse(connection, 'mtls_unavailable', lack);
  }

  sawProtocol(connection: ProxyConnection, protocol: Protocol, first: 'client' | 'server'): void {
    const port = connection.target as ApplicationPort | undefined;
    if (port !== undefined && isTelling(connection)) port.opaque = protocol === 'opaque';
    if (connection.series === undefined) {
      this.parts.openings.saw(first, connection.openingSinceMs);
      if (!this.admit(connection, NO_CLIENT_HELLO)) return;
    }
    this.parts.http.detected(connection, protocol);
    if (protocol === 'opaque') return this.parts.forward.proceed(connection);
    this.parts.forward.abandon(connection);
    const { clientIdentity } = connection;
    this.parts.http.start(connection, protocol, clientFields(clientIdentity), this.requestsOf(connection));
  }

  silent(connection: ProxyConnection): void {
    this.parts.openings.raced();
    this.parts.forward.dial(connection);
  }

  unreadable(connection: ProxyConnection, message: string): void {
    this.owner.refuse(connection, 'tls_hello', message);
  }

  stalled(connection: ProxyConnection, afterMs: number): void {
    const admitted = connection.series !== undefined || this.admit(connection, NO_CLIENT_HELLO);
    if (admitted) this.parts.http.stalled(connection, afterMs);
  }

  /** Newer policies: an open connection they do not allow any more is cut. */
  applyPolicies(policies: PolicySettings, open: Iterable<ProxyConnection>): void {
    this.policies = policies;
    for (const connection of open) {
      const admitted = connection.series !== undefined && connection.stage !== 'ended';
      if (!admitted || this.verdict(connection, connection.clientIdentity !== undefined) !== 'deny') continue;
      this.owner.refuse(connection, 'policy', `${this.denial(connection)}, since the policy has changed`);
    }
  }

  /** Forgets idle ports; called every few seconds. */
  evict(nowMs: number): void {
    this.ports.evict(nowMs);
  }

  private acceptDirect(connection: ProxyConnection): void {
    connection.direct = true;
    this.opening.start(connection, { tls: true, http: false, race: false, atOnce: false });
  }

  private readHeader(connection: ProxyConnection): void {
    const read = readTransportHeader(connection.held);
    if (read.kind === 'more') {
      if (connection.clientEnded) this.refuseHeader(connection, 'the client ended in the middle of it');
      return;
    }
    if (read.kind === 'malformed') return this.refuseHeader(connection, read.why);
    this.engine.deadline(connection.client, 0);
    this.engine.pause(connection.client);
    connection.held = connection.held.subarray(read.length);
    const { port, name } = read.header;
    if (name !== undefined && name !== '') {
      return this.refuseHeader(
        connection,
        `it names ${JSON.stringify(name.slice(0, SHOWN_NAME))}: this proxy is no gateway`,
      );
    }
    const at = connection.destination?.withPort(port);
    if (at === undefined) return this.refuseHeader(connection, 'there is no address to go with its port');
    if (!connection.direct) {
      if (port === connection.destination?.port) return this.enterApplication(connection);
      return this.refuseHeader(connection, `it names port ${port}, and the connection went to another`);
    }
    if (this.parts.host.isOwn(at)) {
      return this.owner.refuse(
        connection,
        'own_port',
        `the transport header names port ${port} of this proxy`,
      );
    }
    connection.destination = at;
    if (this.enter(connection, at, [at])) this.enterApplication(connection);
  }

  private refuseHeader(connection: ProxyConnection, why: string): void {
    this.owner.refuse(connection, 'transport_header', `the transport header: ${why}`);
  }

  private proceed(
    connection: ProxyConnection,
    destination: SocketAddress,
    addresses: readonly SocketAddress[],
  ): void {
    connection.destination = destination;
    const plain = this.verdict(connection, false);
    const { enabled } = this.parts.tls;
    if (plain === 'deny' && !(enabled && this.verdict(connection, true) !== 'deny')) {
      return this.owner.refuse(connection, 'policy', this.denial(connection));
    }
    if (!this.enter(connection, destination, addresses)) return;
    if (!enabled) return this.enterApplication(connection, DISABLED);
    this.opening.start(connection, { ...this.searchFor(connection), tls: true, race: plain !== 'deny' });
  }

  /** Who the client is, is known: judges, and sees what it speaks. `labels` are of a client without mutual TLS. */
  private enterApplication(connection: ProxyConnection, labels?: Labels): void {
    if (!this.admit(connection, labels)) return;
    const search = this.searchFor(connection);
    if (search.http) this.opening.start(connection, search);
    else this.parts.forward.proceed(connection);
  }

  private searchFor(connection: ProxyConnection): OpeningSearch {
    const port = connection.target as ApplicationPort;
    const http = !this.settings.opaquePorts.has(port.destination.port);
    return { tls: false, http, race: true, atOnce: port.opaque || !http };
  }

  /** Makes the connection one of its application port; false when it was refused. */
  private enter(
    connection: ProxyConnection,
    destination: SocketAddress,
    addresses: readonly SocketAddress[],
  ): boolean {
    const port = this.ports.obtain(destination.key, performance.now(), () =>
      this.open(destination, addresses),
    );
    if (port === undefined) {
      this.owner.refuse(connection, 'too_many_waiting', 'every place for an application port is in use');
      return false;
    }
    port.users++;
    connection.target = port;
    connection.picker = port.picker;
    return true;
  }

  /** Judges the client; false when it was refused. `labels` are of one without mutual TLS. */
  private admit(connection: ProxyConnection, labels?: Labels): boolean {
    if (connection.direct && labels !== undefined) {
      const message = 'to the inbound port itself only mutual TLS with this proxy is let in';
      this.owner.refuse(connection, 'own_port', message);
      return false;
    }
    const verdict = this.verdict(connection, connection.clientIdentity !== undefined);
    if (verdict === 'deny') {
      this.owner.refuse(connection, 'policy', this.denial(connection));
      return false;
    }
    if (verdict === 'audit') this.audit(connection);
    const port = connection.target as ApplicationPort;
    connection.series = this.seriesOf(port, labels ?? mutualTls(connection.clientIdentity?.text));
    connection.series.opened();
    return true;
  }

  private audit(connection: ProxyConnection): void {
    const line = this.auditLines.take('audit');
    if (line === undefined) return;
    log.info('audit', {
      client: connection.peer.toString(),
      identity: connection.clientIdentity?.text,
      target: connection.destination?.toString(),
      ...line,
    });
  }

  private policyOf(connection: ProxyConnection): Policy {
    const { ports, defaultPolicy } = this.policies;
    const { place, destination } = connection;
    const entry = place === undefined ? ports.find(({ port }) => port === destination?.port) : ports[place];
    return entry?.policy ?? defaultPolicy;
  }

  private verdict(connection: ProxyConnection, authenticated: boolean): Verdict {
    return judge(this.policyOf(connection), connection.peer, authenticated, this.policies.clusterNetworks);
  }

  private denial(connection: ProxyConnection): string {
    const who = connection.clientIdentity?.text ?? 'no identity';
    return `policy ${this.policyOf(connection)} does not let this client in (${who})`;
  }

  private seriesOf(port: ApplicationPort, labels: Labels): TransportSeries {
    const key = `${labels.tls} ${labels.client_id ?? ''}`;
    let series = port.series.get(key);
    if (series === undefined) {
      const { destination } = port;
      series = new TransportSeries(
        this.parts.slab,
        sourceLabels('inbound', destination, destination.toString(), labels),
      );
      port.series.set(key, series);
    }
    return series;
  }

  /** Metrics of requests, by who sends them as those of connections are. */
  private requestsOf({ target, series }: ProxyConnection): HttpSeries | undefined {
    const port = target as ApplicationPort | undefined;
    if (port === undefined || series === undefined) return undefined;
    let requests = port.requests.get(series);
    if (requests === undefined) {
      const { peer: _peer, ...labels } = series.labels;
      const { direction, target_addr } = labels;
      const fine = this.parts.slab.histogram('ferrule_response_latency_seconds', { direction, target_addr });
      requests = new HttpSeries(this.parts.slab, labels, fine);
      this.parts.slab.release(fine.slot);
      port.requests.set(series, requests);
    }
    return requests;
  }

  private open(destination: SocketAddress, addresses: readonly SocketAddress[]): ApplicationPort {
    const labels = this.parts.tls.enabled ? LOOPBACK : DISABLED;
    const endpoints = addresses.map((address) => {
      const series = new TransportSeries(this.parts.slab, destinationLabels('inbound', address, labels));
      const snapshot = { ip: address.ip, port: address.port, weight: 1, labels: {} };
      return new Endpoint(snapshot, series);
    });
    const picker = new InOrder(endpoints);
    const maps = { series: new Map(), requests: new Map() };
    return {
      key: destination.toString(),
      destination,
      ...maps,
      endpoints,
      picker,
      opaque: false,
      users: 0,
      usedMs: 0,
    };
  }
}

/** Labels as linkerd2-proxy has them. */
const DISABLED: Labels = { tls: 'disabled' };
const LOOPBACK: Labels = { tls: 'no_identity', no_tls_reason: 'loopback' };
const NO_CLIENT_HELLO: Labels = { tls: 'no_identity', no_tls_reason: 'no_tls_from_remote' };
const OPAQUE_TLS: Labels = { tls: 'opaque' };

/** What the application may rely on: who the client is, or that nobody proved anything. */
function clientFields(identity: PeerIdentity | undefined): OwnFields | undefined {
  return identity === undefined ? undefined : new OwnFields([['l5d-client-id', identity.text]]);
}

function mutualTls(clientId = ''): Labels {
  return { tls: 'true', client_id: clientId };
}
