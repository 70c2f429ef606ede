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
import { AccessLines } from './forward/access-lines.ts';
import { AccessLog } from './forward/access-log.ts';
import { Dialler } from './forward/dial.ts';
import { HttpForward } from './forward/http.ts';
import { type ForwardOwner, TcpForward } from './forward/tcp.ts';
import type { AnyUpstream } from './forward/upstream.ts';
import { Inbound, type PolicySettings } from './inbound.ts';
import { Handshakes } from './metrics/handshakes.ts';
import { OpeningMetrics } from './metrics/opening.ts';
import { type RefusalReason, Refusals } from './metrics/refusals.ts';
import { MetricsSlab } from './metrics/slab.ts';
import type { AccessLogSetting } from './model/access.ts';
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

/** So many sweeps later idle authorities are looked for: a minute. */
const AUTHORITY_SWEEPS = 6;

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
  private readonly http: HttpForward;
  private readonly accessLines: AccessLines;
  private readonly inbound: Inbound;
  private readonly outbound: Outbound;
  private sweeps = 0;
  private readonly roles = new Map<number, ListenerRole>();
  /** By index of the socket; an accepted and a dialled socket point to the same connection, but for those of HTTP. */
  private readonly sockets: (ProxyConnection | AnyUpstream | undefined)[] = [];

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
    const dialler = new Dialler(this.engine, redirected, tlsClient);
    this.forward = new TcpForward(this.engine, dialler, this);
    const { multiplex } = settings.outbound;
    this.http = new HttpForward(
      this.engine,
      this.slab,
      dialler,
      { worker: settings.worker, multiplex },
      this,
    );
    const dropped = this.slab.counter('ferrule_access_log_dropped_total', {});
    this.accessLines = new AccessLines(
      (lines) => post({ type: 'access', lines, last: false }),
      (lines) => this.slab.add(dropped, lines),
    );
    this.logAccess(settings.log.access);
    const own = settings.ownAddresses.map((text) => required(parseSocketAddress(text), text));
    const parts = {
      engine: this.engine,
      slab: this.slab,
      host: new HostAddresses(own),
      forward: this.forward,
      http: this.http,
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
    const outbound = {
      ...settings.outbound,
      opaquePorts: new Set(settings.outbound.opaquePorts),
      identity: settings.identityEnabled,
    };
    this.outbound = new Outbound(outbound, parts, {
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
      case 'access-log':
        return this.logAccess(message.access);
      case 'access-written':
        return this.accessLines.written(message.whole);
      case 'access-end':
        this.http.logUnderWay();
        this.logAccess('off');
        return this.post({ type: 'access', lines: this.accessLines.take(), last: true });
      case 'identity':
        if (this.credentials.apply(message.identity)) this.post({ type: 'identity-taken' });
        return;
      case 'policies':
        return this.inbound.applyPolicies(policiesOf(message.policies), this.connectionsOf('inbound'));
      case 'draining':
        this.http.draining = message.sides;
        if (message.sides.includes('outbound')) this.http.closeIdle(this.connectionsOf('outbound'));
        return;
      case 'explain':
        return this.post({
          type: 'explained',
          call: message.call,
          explanations: this.http.explain(message.sequence),
        });
      case 'unlisten':
        this.unlisten(message.side);
        this.http.closeIdle(this.connectionsOf(message.side));
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
    const user = this.sockets[indexOf(id)];
    if (user?.kind === 'upstream') this.http.upstreamConnected(user, micros);
    else if (user?.upstream === id) this.forward.connected(user, micros);
  }

  connectFailed(id: ConnectionId, errno: number): void {
    const user = this.disown(id);
    if (user?.kind === 'upstream') return this.http.upstreamClosed(user, errno, 0);
    if (user?.upstream !== id) return;
    user.sockets--;
    this.forward.ended(user, errno);
    this.settle(user);
  }

  secured(id: ConnectionId, report: TlsReport): void {
    const user = this.sockets[indexOf(id)];
    if (user?.kind === 'upstream') this.http.upstreamSecured(user, report);
    else if (user?.client === id) this.inbound.secured(user, report);
    else if (user?.upstream === id) this.forward.secured(user, report);
  }

  tlsFailed(id: ConnectionId, report: TlsReport): void {
    const user = this.sockets[indexOf(id)];
    if (user?.kind === 'upstream') this.http.upstreamTlsFailed(user, report);
    else if (user?.client === id) this.inbound.tlsFailed(user, report);
    else if (user?.upstream === id) this.forward.tlsFailed(user, report);
  }

  closed(
    id: ConnectionId,
    errno: number,
    _byOther: boolean,
    _bytesRead: number,
    bytesWritten: number,
    alert: number,
  ): void {
    const user = this.disown(id);
    if (user === undefined) return;
    if (alert >= 0) this.alerted(user, id, alert);
    if (user.kind === 'upstream') return this.http.upstreamClosed(user, errno, bytesWritten);
    user.sockets--;
    if (user.client === id) {
      user.series?.closed(errno);
      // The client left while we were dialling for it.
      if (user.stage !== 'open' && user.upstream !== 0) this.engine.reset(user.upstream);
      this.http.clientGone(user, errno);
      user.end();
    } else {
      this.forward.ended(user, errno);
    }
    this.settle(user);
  }

  deadline(id: ConnectionId): void {
    const user = this.sockets[indexOf(id)];
    if (user === undefined) return;
    if (user.kind === 'upstream') this.http.upstreamTimedOut(user);
    else if (user.client !== id) this.forward.timedOut(user);
    else if (user.stage === 'http') this.http.timedOut(user);
    else this.spineOf(user).timedOut(user);
  }

  data(id: ConnectionId, offset: number, length: number): void {
    const user = this.sockets[indexOf(id)];
    if (user === undefined) return;
    if (user.kind === 'upstream') return this.http.upstreamData(user, offset, length);
    if (user.stage === 'http') return this.http.clientData(user, offset, length);
    this.spineOf(user).received(user, id, this.engine.slab.subarray(offset, offset + length));
  }

  end(id: ConnectionId): void {
    const user = this.sockets[indexOf(id)];
    if (user === undefined) return;
    if (user.kind === 'upstream') return this.http.upstreamEnd(user);
    if (user.stage === 'http') return this.http.clientEnd(user);
    this.spineOf(user).ended(user, id);
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

  passed(id: ConnectionId, rest: number): void {
    const user = this.sockets[indexOf(id)];
    if (user?.kind === 'upstream') this.http.upstreamPassed(user, rest);
    else if (user !== undefined) this.http.clientPassed(user, rest);
  }

  blocked(id: ConnectionId): void {
    this.blockedChanged(id, true);
  }

  drained(id: ConnectionId): void {
    this.blockedChanged(id, false);
  }

  /** Sockets end at any time, also between an event and our answer to it. */
  deadOperation(id: ConnectionId, operation: number, other: ConnectionId): void {
    if (log.debugEnabled) log.debug('operation on an ended socket', { socket: id, operation });
    if (operation === RELAY_OPERATION) this.engine.reset(other);
    else if (other === id) log.error('an operation that does not fit its socket', { socket: id, operation });
  }

  adopt(socket: ConnectionId, user: ProxyConnection | AnyUpstream): void {
    this.sockets[indexOf(socket)] = user;
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
    this.spineOf(connection).upstreamReady(connection);
  }

  gaveUp(connection: ProxyConnection, reason: RefusalReason, detail: string): void {
    if (reason === 'no_endpoints')
      return this.refuse(connection, reason, `service ${connection.target?.key} has no endpoints`);
    const promise = reason === 'connect' ? '' : '; an endpoint with an identity is never sent in plaintext';
    this.refuse(connection, reason, `no endpoint could be reached; last: ${detail}${promise}`);
  }

  /** Mutual TLS broke behind its handshake. A server that does not want us says so only here (RFC 8446 section 4.4.2.4). */
  private alerted(user: ProxyConnection | AnyUpstream, socket: ConnectionId, alert: number): void {
    const ours = alert >= OUR_ALERT;
    const number = ours ? alert - OUR_ALERT : alert;
    const client = user.kind === 'connection' && user.client === socket ? user : undefined;
    // Only outbound dials endpoints with TLS.
    const direction = client?.direction ?? 'outbound';
    this.handshakes.alerted(direction, client === undefined ? 'dst' : 'src', ours ? 'us' : 'peer', number);
    const line = this.lines.take('alert');
    if (line === undefined) return;
    log.warn(ours ? 'the peer broke TLS, and was cut off' : 'the peer ended TLS with an alert', {
      direction,
      peer: (client?.peer ?? user.endpoint?.address)?.toString(),
      alert: alertName(number),
      ...line,
    });
  }

  private logAccess(access: AccessLogSetting): void {
    this.http.access =
      access === 'off' ? undefined : new AccessLog(access, (line) => this.accessLines.add(line));
  }

  private *connectionsOf(side: Side): Iterable<ProxyConnection> {
    for (const user of new Set(this.sockets))
      if (user?.kind === 'connection' && user.direction === side) yield user;
  }

  private unlisten(side: Side): void {
    for (const [listener, role] of this.roles) {
      if (sideOf(role) !== side) continue;
      this.engine.unlisten(listener);
      this.roles.delete(listener);
    }
  }

  /** Relays wait by themselves, as does whoever is linked to a socket. */
  private blockedChanged(id: ConnectionId, blocked: boolean): void {
    const user = this.sockets[indexOf(id)];
    if (user?.kind === 'upstream') this.http.upstreamBlocked(user, blocked);
    else if (user?.stage === 'http') this.http.clientBlocked(user, blocked);
  }

  /** Takes a socket that ended out of the table. */
  private disown(id: ConnectionId): ProxyConnection | AnyUpstream | undefined {
    const user = this.sockets[indexOf(id)];
    this.sockets[indexOf(id)] = undefined;
    return user;
  }

  private spineOf(connection: ProxyConnection): Inbound | Outbound {
    return connection.direction === 'inbound' ? this.inbound : this.outbound;
  }

  /** Gives the target back when nothing of the connection is left. */
  private settle(connection: ProxyConnection): void {
    if (connection.sockets > 0 || connection.target === undefined) return;
    connection.target.users--;
    connection.target = undefined;
  }

  private sweep(): void {
    const nowMs = performance.now();
    this.inbound.evict(nowMs);
    this.outbound.evict(nowMs);
    this.http.endStuck();
    if (++this.sweeps % AUTHORITY_SWEEPS === 0) this.http.sweep();
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
