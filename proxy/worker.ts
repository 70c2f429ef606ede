/** A worker thread: one socket engine, both spines, and the table that says whose socket an event is about. */
import { parentPort, workerData } from 'node:worker_threads';
import { HostAddresses } from './accept/host.ts';
import {
  Cidr,
  type LocalAddress,
  type OriginalDestination,
  type PeerAddress,
  parseSocketAddress,
} from './core/address.ts';
import { errnoName } from './core/errno.ts';
import { LineBudget } from './core/line-budget.ts';
import { log } from './core/log.ts';
import { alertName } from './core/tls-alert.ts';
import { type ForwardOwner, TcpForward } from './forward/tcp.ts';
import { Inbound, type PolicySettings } from './inbound.ts';
import { Handshakes } from './metrics/handshakes.ts';
import { OpeningMetrics } from './metrics/opening.ts';
import { type RefusalReason, Refusals } from './metrics/refusals.ts';
import { MetricsSlab } from './metrics/slab.ts';
import type { ProxyConnection } from './model/connection.ts';
import {
  type FromWorker,
  type ListenerRole,
  type PolicyMessage,
  type Side,
  sideOf,
  type ToWorker,
  type WorkerSettings,
} from './model/messages.ts';
import type { SpineOwner } from './model/spine.ts';
import {
  type ConnectionId,
  Engine,
  type EngineHandler,
  indexOf,
  OUR_ALERT,
  RELAY_OPERATION,
} from './native/engine.ts';
import type { TlsReport } from './native/tls-report.ts';
import { Outbound } from './outbound.ts';
import { TlsClient } from './tls/client.ts';
import { Credentials } from './tls/credentials.ts';
import { TlsServer } from './tls/server.ts';

/** How often idle targets and metric series are looked for, in ms. Both live for a minute and more. */
const SWEEP_MS = 10_000;

class Worker implements EngineHandler, SpineOwner, ForwardOwner {
  private readonly post: (message: FromWorker) => void;
  private readonly slab: MetricsSlab;
  private readonly refusals: Refusals;
  private readonly engine: Engine;
  private readonly handshakes: Handshakes;
  private readonly credentials: Credentials;
  private readonly lines = new LineBudget();
  private readonly forward: TcpForward;
  private readonly inbound: Inbound;
  private readonly outbound: Outbound;
  private readonly roles = new Map<number, ListenerRole>();
  /** By index of the socket; an accepted and a dialled socket point to the same connection. */
  private readonly connections: (ProxyConnection | undefined)[] = [];

  constructor(settings: WorkerSettings, post: (message: FromWorker) => void) {
    this.post = post;
    this.slab = new MetricsSlab(
      settings.metrics,
      (definition) => post({ type: 'define', definition }),
      (slot) => post({ type: 'undefine', slot }),
    );
    this.refusals = new Refusals(this.slab);
    this.engine = new Engine(this, this.slab.values);
    const redirected = settings.listeners.some(({ role }) => role.kind === 'outbound');
    this.handshakes = new Handshakes(this.slab);
    this.credentials = new Credentials(this.engine, settings.identityEnabled, (version, problem, untilMs) =>
      post({ type: 'identity-refused', version, problem, untilMs }),
    );
    if (settings.identity !== undefined) this.credentials.apply(settings.identity);
    const tlsClient = new TlsClient(this.engine, this.credentials, this.handshakes);
    this.forward = new TcpForward(this.engine, redirected, tlsClient, this);
    const own = settings.ownAddresses.map((text) => required(parseSocketAddress(text), text));
    const parts = {
      engine: this.engine,
      slab: this.slab,
      host: new HostAddresses(own),
      forward: this.forward,
      owner: this,
    };
    this.inbound = new Inbound(
      {
        originalDst: settings.inbound.originalDst,
        opaquePorts: new Set(settings.inbound.opaquePorts),
        policies: policiesOf(settings.inbound.policies),
      },
      {
        ...parts,
        tls: new TlsServer(this.engine, this.credentials, this.handshakes),
        openings: new OpeningMetrics(this.slab),
      },
    );
    this.outbound = new Outbound({ ...settings.outbound, identity: settings.identityEnabled }, parts, {
      lookUp: (key) => post({ type: 'look-up', key }),
      release: (key) => post({ type: 'release', key }),
    });
    for (const { descriptor, role } of settings.listeners) {
      const transparent = role.kind === 'inbound' || role.kind === 'outbound';
      this.roles.set(this.engine.listen(descriptor, { transparent }), role);
    }
    setInterval(() => this.sweep(), SWEEP_MS).unref();
  }

  /** A message from main. */
  receive(message: ToWorker): void {
    switch (message.type) {
      case 'target':
        this.outbound.apply(message.key, message.snapshot);
        return this.post({ type: 'applied', key: message.key, version: message.version });
      case 'forgotten':
        return this.slab.forgotten(message.slot);
      case 'log-level':
        log.level = message.level;
        return;
      case 'identity':
        return this.credentials.apply(message.identity);
      case 'policies':
        return this.inbound.applyPolicies(policiesOf(message.policies), this.inboundConnections());
      case 'unlisten':
        this.unlisten(message.side);
        return this.post({ type: 'unlistened', side: message.side });
      default:
        throw new Error(`main sent a message this worker does not know: ${JSON.stringify(message)}`);
    }
  }

  accepted(
    id: ConnectionId,
    listener: number,
    peer: PeerAddress,
    local: LocalAddress | undefined,
    original: OriginalDestination | undefined,
    own: boolean,
  ): void {
    const role = this.roles.get(listener);
    // Taken before the listener was given up, or its socket is gone already and has no address any more.
    if (role === undefined) return this.engine.reset(id);
    switch (role.kind) {
      case 'outbound-service':
        return this.outbound.acceptFor(role.service, id, peer);
      case 'inbound-port':
        return this.inbound.acceptFor(role.place, id, peer);
      case 'outbound':
        return local === undefined
          ? this.engine.reset(id)
          : this.outbound.accept(id, peer, local, original, own);
      case 'inbound':
        return local === undefined ? this.engine.reset(id) : this.inbound.accept(id, peer, local, original);
    }
  }

  connected(id: ConnectionId, micros: number): void {
    const connection = this.connections[indexOf(id)];
    if (connection?.upstream === id) this.forward.connected(connection, micros);
  }

  connectFailed(id: ConnectionId, errno: number): void {
    const connection = this.disown(id);
    if (connection?.upstream !== id) return;
    connection.sockets--;
    this.forward.ended(connection, errno);
    this.settle(connection);
  }

  secured(id: ConnectionId, report: TlsReport): void {
    const connection = this.connections[indexOf(id)];
    if (connection?.client === id) this.inbound.secured(connection, report);
    else if (connection?.upstream === id) this.forward.secured(connection, report);
  }

  tlsFailed(id: ConnectionId, report: TlsReport): void {
    const connection = this.connections[indexOf(id)];
    if (connection?.client === id) this.inbound.tlsFailed(connection, report);
    else if (connection?.upstream === id) this.forward.tlsFailed(connection, report);
  }

  closed(
    id: ConnectionId,
    errno: number,
    _byOther: boolean,
    _bytesRead: number,
    _bytesWritten: number,
    alert: number,
  ): void {
    const connection = this.disown(id);
    if (connection === undefined) return;
    if (alert >= 0) this.alerted(connection, id, alert);
    connection.sockets--;
    if (connection.client === id) {
      connection.series?.closed(errno);
      // The client left while we were dialling for it.
      if (connection.stage !== 'open' && connection.upstream !== 0) this.engine.reset(connection.upstream);
      connection.end();
    } else {
      this.forward.ended(connection, errno);
    }
    this.settle(connection);
  }

  deadline(id: ConnectionId): void {
    const connection = this.connections[indexOf(id)];
    if (connection === undefined) return;
    if (connection.client !== id) this.forward.timedOut(connection);
    else if (connection.direction === 'inbound') this.inbound.timedOut(connection);
    else this.outbound.timedOut(connection);
  }

  data(id: ConnectionId, offset: number, length: number): void {
    const connection = this.connections[indexOf(id)];
    if (connection?.direction !== 'inbound') return this.unexpected(id, 'data');
    this.inbound.received(connection, id, this.engine.slab.subarray(offset, offset + length));
  }

  end(id: ConnectionId): void {
    const connection = this.connections[indexOf(id)];
    if (connection?.direction !== 'inbound') return this.unexpected(id, 'end');
    this.inbound.ended(connection, id);
  }

  acceptPaused(listener: number, errno: number): void {
    const line = this.lines.take('accept paused');
    if (line === undefined) return;
    log.warn('accepting paused: out of descriptors or memory; raise the limit of open files (ulimit -n)', {
      listener: this.roles.get(listener)?.kind,
      errno: errnoName(errno),
      ...line,
    });
  }

  acceptResumed(listener: number): void {
    const line = this.lines.take('accept resumed');
    if (line !== undefined)
      log.info('accepting again', { listener: this.roles.get(listener)?.kind, ...line });
  }

  // Connections are relayed natively: TypeScript sees neither their pauses nor, beyond their first bytes, what they carry.
  blocked(id: ConnectionId): void {
    this.unexpected(id, 'blocked');
  }

  drained(id: ConnectionId): void {
    this.unexpected(id, 'drained');
  }

  /** Sockets end at any time, also between an event and our answer to it. */
  deadOperation(id: ConnectionId, operation: number, other: ConnectionId): void {
    if (log.debugEnabled) log.debug('operation on an ended socket', { socket: id, operation });
    if (operation === RELAY_OPERATION) this.engine.reset(other);
  }

  adopt(socket: ConnectionId, connection: ProxyConnection): void {
    this.connections[indexOf(socket)] = connection;
  }

  refuse(connection: ProxyConnection, reason: RefusalReason, message: string): void {
    connection.end();
    this.refusals.record(connection.direction, reason, message, () => ({
      client: connection.peer.toString(),
      target: connection.destination?.toString(),
    }));
    this.engine.reset(connection.client);
  }

  upstreamReady(connection: ProxyConnection): void {
    this.inbound.upstreamReady(connection);
  }

  gaveUp(connection: ProxyConnection, reason: RefusalReason, detail: string): void {
    const promise = reason === 'connect' ? '' : '; an endpoint with an identity is never sent in plaintext';
    this.refuse(connection, reason, `no endpoint could be reached; last: ${detail}${promise}`);
  }

  /** Mutual TLS broke behind its handshake. A server that does not want us says so only here (RFC 8446 section 4.4.2.4). */
  private alerted(connection: ProxyConnection, socket: ConnectionId, alert: number): void {
    const ours = alert >= OUR_ALERT;
    const number = ours ? alert - OUR_ALERT : alert;
    const side = socket === connection.client ? 'src' : 'dst';
    this.handshakes.alerted(connection.direction, side, ours ? 'us' : 'peer', number);
    const line = this.lines.take('alert');
    if (line === undefined) return;
    log.warn(ours ? 'the peer broke TLS, and was cut off' : 'the peer ended TLS with an alert', {
      direction: connection.direction,
      peer: side === 'src' ? connection.peer.toString() : connection.endpoint?.address.toString(),
      alert: alertName(number),
      ...line,
    });
  }

  private *inboundConnections(): Iterable<ProxyConnection> {
    for (const connection of new Set(this.connections))
      if (connection?.direction === 'inbound') yield connection;
  }

  private unlisten(side: Side): void {
    for (const [listener, role] of this.roles) {
      if (sideOf(role) !== side) continue;
      this.engine.unlisten(listener);
      this.roles.delete(listener);
    }
  }

  /** Takes a socket that ended out of the table. */
  private disown(id: ConnectionId): ProxyConnection | undefined {
    const connection = this.connections[indexOf(id)];
    this.connections[indexOf(id)] = undefined;
    return connection;
  }

  /** Gives the target back when nothing of the connection is left. */
  private settle(connection: ProxyConnection): void {
    if (connection.sockets > 0 || connection.target === undefined) return;
    connection.target.users--;
    connection.target = undefined;
  }

  private unexpected(id: ConnectionId, event: string): void {
    throw new Error(`engine event ${event} for connection ${id}, which nobody reads`);
  }

  private sweep(): void {
    const nowMs = performance.now();
    this.inbound.evict(nowMs);
    this.outbound.evict(nowMs);
    this.slab.sweep(nowMs);
  }
}

function policiesOf({ defaultPolicy, ports, clusterNetworks }: PolicyMessage): PolicySettings {
  return {
    defaultPolicy,
    ports,
    clusterNetworks: clusterNetworks.map((text) => required(Cidr.parse(text), text)),
  };
}

function required<T>(value: T | undefined, text: string): T {
  if (value === undefined) throw new Error(`main sent a malformed address: ${text}`);
  return value;
}

function run(): void {
  const port = parentPort;
  if (port === null) throw new Error('worker.ts runs as a worker thread of main.ts');
  const settings = workerData as WorkerSettings;
  const post = (message: FromWorker): void => port.postMessage(message);
  log.level = settings.log.level;
  log.format = settings.log.format;
  log.sink = (line) => post({ type: 'log', line });
  const worker = new Worker(settings, post);
  port.on('message', (message: ToWorker) => worker.receive(message));
  post({ type: 'ready' });
}

run();
