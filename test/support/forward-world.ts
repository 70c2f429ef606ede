/**
 * The forwarder between clients and servers in memory, where things happen in an order that chance decides: what one order gets wrong,
 * a seed finds again.
 */

import type { PeerAddress } from '../../proxy/core/address.ts';
import { Dialler } from '../../proxy/forward/dial.ts';
import { HttpForward } from '../../proxy/forward/http.ts';
import type { AnyUpstream } from '../../proxy/forward/upstream.ts';
import { OwnFields } from '../../proxy/http/h2/own-fields.ts';
import { NO_BYTES, ProxyConnection } from '../../proxy/model/connection.ts';
import type { Endpoint } from '../../proxy/model/endpoint.ts';
import type { Engine } from '../../proxy/native/engine.ts';
import { createEndpoint, seeded, snapshots } from './balance.ts';
import { at } from './engine.ts';
import { FakeEngine, type FakeSocket } from './forward-engine.ts';
import {
  type Call,
  type ClientPeer,
  MOST_BODY,
  OWN_FIELD,
  pathOf,
  type ServerPeer,
} from './forward-peers.ts';
import { testSlab } from './slab.ts';

const ECONNREFUSED = 111;
const ECONNRESET = 104;

const OWN = new OwnFields([OWN_FIELD]);

/** What `EngineHandler.data` promises. */
const FREE_BYTES = 16;

/** Which sides speak what. */
export interface Cast {
  readonly client: (clock: () => number) => ClientPeer;
  readonly server: (clock: () => number) => ServerPeer;
}

/** A client's connection. */
export interface ClientEnd {
  readonly peer: ClientPeer;
  readonly connection: ProxyConnection;
}

/** See above. */
export class World {
  readonly engine = new FakeEngine();
  readonly http: HttpForward;
  readonly calls: Call[] = [];
  /** All that have ever been, by the sockets that lead to them. */
  readonly clients = new Map<number, ClientEnd>();
  readonly servers = new Map<number, ServerPeer>();
  readonly upstreams = new Map<number, AnyUpstream>();
  readonly gone: Endpoint[] = [];
  private readonly everyServer: ServerPeer[] = [];
  endpoints: Endpoint[];
  /** Servers misbehave, connections are lost, endpoints come and go. */
  isRough = true;
  private readonly cast: Cast;
  private readonly chance: () => number;
  private events: (() => void)[] = [];

  constructor(seed: number, cast: Cast) {
    this.cast = cast;
    this.chance = seeded(seed);
    this.endpoints = snapshots(1, 1, 1).map((snapshot) => createEndpoint(snapshot));
    const engine = this.engine as unknown as Engine;
    const tls = { lack: () => undefined, start: () => undefined, judge: () => undefined, explain: () => '' };
    this.http = new HttpForward(
      engine,
      testSlab().slab,
      new Dialler(engine, false, tls),
      { worker: 0, multiplex: true },
      this,
    );
    for (let n = 0; n < 3; n++) this.connect();
  }

  adopt(socket: number, upstream: AnyUpstream): void {
    this.upstreams.set(socket, upstream);
  }

  /** One or a few things happen in a batch. */
  step(): void {
    for (let n = this.pick(4); n >= 0; n--) this.choose();
    this.run();
    for (const { figures } of [...this.endpoints, ...this.gone]) {
      if (figures.requests.inFlight < 0) throw new Error('an endpoint has fewer than no requests');
    }
  }

  /** Everybody behaves from now on, until nothing happens any more. */
  settle(): void {
    if (this.isRough) for (const server of this.servers.values()) server.limit(100);
    this.isRough = false;
    for (let quiet = 0; quiet < 3; ) quiet = this.proceed() ? 0 : quiet + 1;
  }

  /** Every client asks for something. @returns what did not get its answer */
  ask(): Call[] {
    const from = this.calls.length;
    this.connect();
    for (const { peer } of this.clients.values())
      for (let n = 0; n < 3; n++) if (peer.canAsk) this.request(peer);
    this.settle();
    return this.calls.slice(from).filter(({ outcome, status }) => outcome !== 'answered' || status !== 200);
  }

  /** Everything that a client has sent arrives, and nothing else happens. */
  arrive(client: ClientEnd): void {
    this.toProxy(this.engine.sockets.get(client.connection.client)!, 65_536);
    this.run();
  }

  /** The connections to all servers are lost. `bytes`: the kernel took so many more before. */
  loseServers(bytes: number): void {
    for (const id of [...this.servers.keys()]) {
      this.engine.take(this.engine.sockets.get(id)!, bytes);
      this.losePeer(id);
    }
    this.run();
  }

  /** All clients leave. */
  leave(): void {
    for (const id of this.clients.keys()) this.losePeer(id);
    this.run();
    this.settle();
  }

  /** Calls whose client waits in vain. */
  hanging(): Call[] {
    return this.calls.filter(({ outcome }) => outcome === undefined);
  }

  /** Calls that must not be sent twice, and that more than one server has to do something for. */
  repeated(): Call[] {
    const times = this.calls.map(() => 0);
    for (const { services } of this.everyServer)
      for (const { id, undone } of services) if (!undone) times[id]++;
    return this.calls.filter(({ id, method }) => method === 'POST' && times[id] > 1);
  }

  private get clock(): () => number {
    return () => this.engine.ms;
  }

  private connect(): void {
    const { engine, http } = this;
    const id = engine.accept();
    const connection = new ProxyConnection('outbound', id, at('127.0.0.1:1000') as PeerAddress, undefined);
    const picker = { pick: () => undefined, pickForRequest: this.pickEndpoint, last: undefined };
    connection.picker = picker;
    connection.target = { key: 'app:80', users: 1 };
    const peer = this.cast.client(this.clock);
    connection.held = NO_BYTES;
    this.clients.set(id, { peer, connection });
    engine.batch(() => http.start(connection, peer.protocol, OWN));
  }

  private readonly pickEndpoint = (tried: readonly Endpoint[]): Endpoint | undefined =>
    this.anyOf(this.endpoints.filter((endpoint) => !tried.includes(endpoint)));

  // --- what may happen

  private choose(): void {
    const what = this.pick(100);
    const socket = this.anyOf([...this.engine.sockets.values()]);
    if (socket === undefined) return;
    if (what < 22) this.toProxy(socket);
    else if (what < 44) this.fromProxy(socket);
    else if (what < 50) this.dialled();
    else if (what < 56) this.finish(socket);
    else if (what < 74) this.clientActs();
    else if (what < 96) this.serverActs();
    else if (this.isRough) this.accident(socket, what);
  }

  private accident(socket: FakeSocket, what: number): void {
    if (what === 96 && this.pick(4) === 0) this.losePeer(socket.id);
    else if (what === 97) this.timePasses(socket);
    else if (what === 98 && this.pick(3) === 0) this.replaceEndpoint();
    else if (what === 99) this.leaveServer(this.servers.get(socket.id));
  }

  /** Everything that can go on does, a little. */
  private proceed(): boolean {
    let busy = this.engine.dialled.length > 0;
    const before = this.events.length;
    while (this.engine.dialled.length > 0) this.dialled();
    for (const socket of [...this.engine.sockets.values()]) {
      const peer = this.peerOf(socket.id);
      this.toProxy(socket, 1e6);
      this.fromProxy(socket, 1e6);
      this.finish(socket);
      if (peer === undefined || peer.isLost) continue;
      if ('calls' in peer) busy = this.finishCalls(peer) || busy;
      else busy = this.finishServices(peer) || busy;
    }
    busy ||= this.events.length > before;
    this.run();
    return busy;
  }

  private finishCalls(peer: ClientPeer): boolean {
    let busy = false;
    for (const call of peer.calls) {
      const { sent, sentEnd, held } = call;
      peer.sendMore(call, 1e6, true);
      peer.consume(call);
      busy ||= sent !== call.sent || sentEnd !== call.sentEnd || held !== call.held;
    }
    return busy;
  }

  private finishServices(peer: ServerPeer): boolean {
    let busy = false;
    for (const service of peer.services) {
      const { sent, headSent, over, held } = service;
      peer.consume(service);
      if (!headSent) peer.interim(service);
      if (service.requestDone) peer.respond(service, 1e6);
      busy ||=
        sent !== service.sent ||
        service.headSent !== headSent ||
        headSent !== service.headSent ||
        over !== service.over ||
        held > 0;
    }
    return busy;
  }

  private clientActs(): void {
    const { peer } = this.anyOf([...this.clients.values()])!;
    if (peer.isLost) return;
    const call = this.anyOf(peer.calls.slice(-8));
    const what = this.pick(10);
    if (what < 4 && this.isRough && peer.canAsk) return this.request(peer);
    if (call === undefined) return;
    if (what < 7) peer.sendMore(call, 1 + this.pick(60_000), this.pick(2) === 0);
    else if (what < 9) peer.consume(call);
    else if (this.pick(3) === 0) peer.cancel(call);
  }

  private request(peer: ClientPeer): void {
    const id = this.calls.length;
    const method = this.anyOf(['GET', 'PUT', 'POST'])!;
    const length = method === 'GET' ? 0 : this.bodyLength();
    const hasTrailers = this.pick(5) === 0 && length > 0;
    const responseLength = this.bodyLength();
    const padding = this.anyOf([0, 0, 0, 0, 0, 0, 0, 20_000, 50_000])!;
    const path = pathOf(id, length, responseLength, this.pick(4) === 0, padding);
    const state = { sent: 0, sentEnd: false, got: 0, held: 0, status: 0, outcome: undefined };
    const call: Call = { id, method, path, length, hasTrailers, responseLength, padding, ...state };
    this.calls.push(call);
    peer.ask(call);
  }

  private serverActs(): void {
    const peer = this.anyOf([...this.servers.values()]);
    const service = this.anyOf(peer?.services.slice(-12) ?? []);
    if (peer === undefined || service === undefined || peer.isLost) return;
    const what = this.pick(20);
    if (what < 6) peer.consume(service);
    else if (what === 6) peer.interim(service);
    else if (what === 7 && this.isRough) peer.fail(service, this.anyOf([0, 2, 7, 7, 8, 11])!);
    // Now and then before it has the whole request.
    else if (service.requestDone || this.pick(12) === 0) peer.respond(service, 1 + this.pick(90_000));
  }

  private leaveServer(peer: ServerPeer | undefined): void {
    const how = this.pick(8);
    if (how === 0) peer?.leave();
    else if (how === 1) peer?.leaveUndone(this.pick(peer.services.length));
    else if (how < 6) peer?.limit(this.anyOf([0, 0, 1, 100])!);
  }

  private replaceEndpoint(): void {
    const at = this.pick(this.endpoints.length);
    const [old] = this.endpoints.splice(at, 1);
    this.gone.push(old);
    this.endpoints.push(createEndpoint(old.snapshot));
    this.events.push(() => this.http.connections.retire(old));
  }

  private timePasses(socket: FakeSocket): void {
    if (socket.deadlineMs === 0) return;
    this.engine.ms += socket.deadlineMs;
    socket.deadlineMs = 0;
    const client = this.clients.get(socket.id);
    const upstream = this.upstreams.get(socket.id);
    this.events.push(() => {
      if (client !== undefined) this.http.timedOut(client.connection);
      else if (upstream !== undefined) this.http.upstreamTimedOut(upstream);
    });
  }

  // --- sockets

  private peerOf(id: number): ClientPeer | ServerPeer | undefined {
    return this.clients.get(id)?.peer ?? this.servers.get(id);
  }

  private toProxy(socket: FakeSocket, most = 1 + this.pick(70_000)): void {
    const peer = this.peerOf(socket.id);
    if (peer === undefined || peer.isLost || !this.engine.isReading(socket)) return;
    const bytes = peer.toProxy.slice(0, Math.min(most, 65_536));
    peer.toProxy = peer.toProxy.slice(bytes.length);
    const ends = peer.leaves && peer.toProxy.length === 0;
    if (bytes.length > 0) this.events.push(() => this.arrived(socket.id, bytes));
    if (!ends) return;
    socket.paused = true;
    this.events.push(() => this.ended(socket.id));
  }

  private arrived(id: number, bytes: Uint8Array): void {
    const client = this.clients.get(id);
    const upstream = this.upstreams.get(id);
    // The engine reads to the slab, each time to another place, and leaves room before it.
    const { slab } = this.engine;
    slab.fill(0xee, 0, FREE_BYTES);
    slab.set(bytes, FREE_BYTES);
    if (client !== undefined) this.http.clientData(client.connection, FREE_BYTES, bytes.length);
    else if (upstream !== undefined) this.http.upstreamData(upstream, FREE_BYTES, bytes.length);
  }

  private ended(id: number): void {
    const client = this.clients.get(id);
    const upstream = this.upstreams.get(id);
    if (client !== undefined) this.http.clientEnd(client.connection);
    else if (upstream !== undefined) this.http.upstreamEnd(upstream);
  }

  private fromProxy(socket: FakeSocket, most = 1 + this.pick(70_000)): void {
    const peer = this.peerOf(socket.id);
    if (peer === undefined || peer.isLost || socket.ending === 'reset') return;
    const bytes = this.engine.take(socket, most);
    if (bytes.length > 0) peer.receive(bytes);
    const blocked = this.engine.blockedChange(socket);
    if (blocked === undefined) return;
    const client = this.clients.get(socket.id);
    const upstream = this.upstreams.get(socket.id);
    this.events.push(() => {
      if (client !== undefined) this.http.clientBlocked(client.connection, blocked);
      else if (upstream !== undefined) this.http.upstreamBlocked(upstream, blocked);
    });
  }

  private dialled(): void {
    const id = this.engine.dialled.shift();
    const upstream = id === undefined ? undefined : this.upstreams.get(id);
    if (id === undefined || upstream === undefined) return;
    if (this.isRough && this.pick(6) === 0) return this.close(id, ECONNREFUSED);
    const server = this.cast.server(this.clock);
    this.servers.set(id, server);
    this.everyServer.push(server);
    this.events.push(() => this.http.upstreamConnected(upstream, 100));
  }

  /** Tells the end of a socket that is being ended, when everything is out. */
  private finish(socket: FakeSocket): void {
    if (socket.ending === 'no' || (socket.ending === 'close' && socket.pending.length > 0)) return;
    this.close(socket.id, 0);
  }

  private losePeer(id: number): void {
    if (this.peerOf(id)?.isLost === false) this.close(id, ECONNRESET);
  }

  private close(id: number, errno: number): void {
    const socket = this.engine.sockets.get(id);
    const client = this.clients.get(id);
    const upstream = this.upstreams.get(id);
    if (socket === undefined) return;
    this.engine.sockets.delete(id);
    const { written } = socket;
    this.peerOf(id)?.lost();
    this.clients.delete(id);
    this.servers.delete(id);
    if (client !== undefined) {
      for (const call of client.peer.calls) call.outcome ??= 'reset';
      if (this.isRough) this.connect();
    }
    this.events.push(() => {
      if (client !== undefined) this.http.clientGone(client.connection, errno);
      else if (upstream !== undefined) this.http.upstreamClosed(upstream, errno, written);
    });
  }

  private run(): void {
    const { events } = this;
    this.events = [];
    this.engine.batch(() => {
      for (const event of events) event();
    });
  }

  private bodyLength(): number {
    return this.anyOf([0, 1, 100, 20_000, this.pick(MOST_BODY)])!;
  }

  private pick(below: number): number {
    return Math.floor(this.chance() * below);
  }

  private anyOf<T>(all: readonly T[]): T | undefined {
    return all[this.pick(all.length)];
  }
}
