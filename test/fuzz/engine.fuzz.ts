/**
 * A fuzzer of the socket engine: random peers, events and operations over real loopback sockets, driven by a seed. A
 * model (model.ts) knows what must hold: every connection ends once; what arrives is a prefix of what was sent, and the
 * whole where the end was orderly; counters agree; nothing is left afterwards.
 */

import type { PeerAddress } from '../../proxy/core/address.ts';
import { ENGINE_FIGURES } from '../../proxy/metrics/families.ts';
import { SLAB_SLOTS } from '../../proxy/metrics/slab.ts';
import { type ConnectionId, Engine, type EngineHandler, indexOf } from '../../proxy/native/engine.ts';
import { closeListener, listenerPort, openListener } from '../../proxy/native/listener.ts';
import { at, until } from '../support/engine.ts';
import { bytesOf, isStream } from '../support/engine-peers.ts';
import type { ScriptOptions } from '../support/tls-script.ts';
import { FuzzHandshakes } from './handshakes.ts';
import { type FuzzBench, FuzzConnection, type FuzzPeer, type FuzzSummary, Random } from './model.ts';
import { nonsense } from './nonsense.ts';
import { FuzzPasses } from './passes.ts';
import { FuzzPeers, garbageOf, type PeerOwner } from './peers.ts';
import { FuzzRelays, turn } from './relays.ts';

/** `send` and `relay` as `deadOperation` names them; engine.h has the numbers. */
const SEND = 1;
const RELAY = 8;

/** Open connections a round keeps at most: enough to meet each other, few enough that each gets far. */
const MOST_CONNECTIONS = 14;

const STEPS_PER_ROUND = 400;

const LOOPBACK = at('127.0.0.1:0');

/** The number of the engine's listener where it speaks TLS. */
const TLS_LISTENER = 1;

/** Percent of connections over TLS. */
const TLS_SHARE = 50;

/** One round. */
export class Fuzzer implements EngineHandler, PeerOwner, FuzzBench {
  readonly random: Random;
  readonly summary: FuzzSummary;
  readonly metrics = new Float64Array(SLAB_SLOTS);
  readonly engine: Engine;
  private readonly listeners: readonly number[];
  private readonly peers: FuzzPeers;
  private readonly handshakes: FuzzHandshakes;
  private readonly relays: FuzzRelays;
  private readonly passes: FuzzPasses;
  private readonly connections = new Map<ConnectionId, FuzzConnection>();
  private readonly everyConnection: FuzzConnection[] = [];
  /** Broken promises found where throwing would go to the wrong place. */
  private readonly faults: Error[] = [];
  private streams = 1;
  private inBatch = false;
  private settling = false;
  private stopped = false;

  constructor(seed: number, summary: FuzzSummary, identity: ScriptOptions) {
    this.random = new Random(seed);
    this.summary = summary;
    this.engine = new Engine(this.guarded(), this.metrics);
    this.peers = new FuzzPeers(this, this.random, identity);
    this.handshakes = new FuzzHandshakes(this, identity);
    this.relays = new FuzzRelays(this, this.peers);
    this.passes = new FuzzPasses(this);
    // Number TLS_LISTENER is the second.
    this.listeners = [openListener(LOOPBACK), openListener(LOOPBACK)];
    for (const listener of this.listeners) {
      this.engine.listen(listener, { transparent: this.random.chance(50) });
    }
  }

  async run(): Promise<void> {
    await this.peers.listen();
    for (let step = 0; step < STEPS_PER_ROUND; step++) {
      await this.step();
      if (this.random.chance(40)) await turn();
      this.checkFaults();
    }
    // A stop in the middle must look like a failure to every peer, never like an end.
    if (this.random.chance(25)) this.stop();
    else await this.settle();
    await this.peers.judge();
    this.checkFaults();
    this.summary.bytes += this.peers.bytes;
    this.summary.failures += this.peers.failures;
  }

  async dispose(): Promise<void> {
    this.stop();
    await this.peers.dispose();
    // The thread is free for another engine when libuv has closed the handles of this one.
    await turn();
    await turn();
  }

  // --- for the peers

  newStream(): number {
    return this.streams++;
  }

  connection(number: number): FuzzConnection {
    return this.everyConnection[number];
  }

  guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.faults.push(error instanceof Error ? error : new Error(String(error)));
    }
  }

  failed(): boolean {
    return this.faults.length > 0;
  }

  /** What a handler throws would leave the engine's batch as an uncaught exception that names no seed. */
  private guarded(): EngineHandler {
    return new Proxy<EngineHandler>(this, {
      get: (handler, name) => {
        const member: unknown = Reflect.get(handler, name);
        if (typeof member !== 'function') return member;
        return (...values: unknown[]) => {
          this.inBatch = true;
          this.guard(() => Reflect.apply(member, handler, values));
          this.inBatch = false;
        };
      },
    });
  }

  // --- events of the engine

  accepted(id: ConnectionId, listener: number, peer: PeerAddress): void {
    const connection = this.track(id, listener === TLS_LISTENER);
    connection.state = 'open';
    this.peers.accepted(peer.port, connection);
    if (connection.tls) this.handshakes.accepted(connection);
    if (this.settling) this.engine.reset(id);
    else if (this.random.chance(80)) this.engine.resume(id);
  }

  connected(id: ConnectionId): void {
    const connection = this.of(id);
    connection.state = 'open';
    if (connection.tls) this.handshakes.connected(connection);
    if (this.random.chance(80)) this.engine.resume(id);
  }

  connectFailed(id: ConnectionId): void {
    this.ended(this.of(id));
  }

  data(id: ConnectionId, offset: number, length: number): void {
    const connection = this.of(id);
    if (connection.peer === undefined) this.peers.match();
    const { slab } = this.engine;
    const bytes = slab.subarray(offset, offset + length);
    // They are free, and nobody else's.
    slab.fill(0xee, offset - 16, offset);
    if (this.handshakes.looked(connection, bytes)) return;
    const { peer } = connection;
    if (peer === undefined) throw new Error('bytes from a peer that has not said a word');
    if (!isStream(peer.stream, connection.read, bytes)) throw new Error(`wrong bytes at ${connection.read}`);
    const from = connection.read;
    connection.read += length;
    this.passes.data(connection, offset, length);
    const all = [...this.connections.values()];
    if (this.random.chance(4)) this.passes.makeBehind(connection, all);
    const other = this.random.chance(30) ? this.random.pick(all) : undefined;
    if (other !== undefined && other.passedFrom === undefined && this.maySend(other)) {
      other.wire.add(peer.stream, from, length);
      this.engine.sendRange(other.id, offset, length);
    }
    if (this.random.chance(3)) this.operate();
  }

  end(id: ConnectionId): void {
    const connection = this.of(id);
    if (this.handshakes.looked(connection, Buffer.alloc(0))) return;
    if (++connection.ends > 1) throw new Error('the end was told twice');
    this.passes.settle(connection);
    if (connection.relayedTo === undefined && connection.read !== connection.peer?.endedAt) {
      throw new Error(`an end after ${connection.read} bytes of ${connection.peer?.endedAt}`);
    }
    if (this.random.chance(50)) this.shutdown(connection);
    this.closeRestLater();
  }

  blocked(id: ConnectionId): void {
    this.of(id);
    if (this.random.chance(20)) this.operate();
  }

  passed(id: ConnectionId, rest: number): void {
    this.passes.passed(this.of(id), rest);
    this.closeRestLater();
  }

  drained(id: ConnectionId): void {
    this.of(id);
    // Microtasks come between the batch and what it asked for.
    if (this.random.chance(30)) queueMicrotask(() => this.guard(() => this.operate()));
  }

  closed(
    id: ConnectionId,
    errno: number,
    _byOther: boolean,
    bytesRead: number,
    bytesWritten: number,
    alert: number,
  ): void {
    const connection = this.of(id);
    this.handshakes.judge(connection, alert);
    if (errno === 0) this.summary.orderlyEnds++;
    const { slot, baseRead, baseWritten } = connection;
    if (
      this.metrics[slot] - baseRead !== bytesRead ||
      this.metrics[slot + 1] - baseWritten !== bytesWritten
    ) {
      throw new Error('the slab and the record of the end disagree');
    }
    if (bytesRead < connection.read) throw new Error('more was delivered than read');
    this.ended(connection);
  }

  deadline(id: ConnectionId): void {
    this.of(id);
    if (this.random.chance(50)) this.operate();
  }

  secured(id: ConnectionId): void {
    this.handshakes.secured(this.of(id));
  }

  tlsFailed(id: ConnectionId): void {
    this.handshakes.failed(this.of(id));
  }

  acceptPaused(): void {
    throw new Error('out of descriptors: the fuzzer is to stay below the limit');
  }

  acceptResumed(): void {
    throw new Error('resumed without a pause');
  }

  deadOperation(id: ConnectionId, operation: number): void {
    this.summary.deadOperations++;
    if (operation === RELAY) this.relays.refused();
    if (operation !== SEND) return;
    const connection = this.everyConnection.findLast((candidate) => candidate.id === id);
    if (connection === undefined) return;
    if (connection.refusals > 0) connection.refusals--;
    else connection.wire.unreliable = true;
  }

  // --- operations

  private async step(): Promise<void> {
    const { random } = this;
    const live = this.connections.size;
    if (live < MOST_CONNECTIONS && random.chance(12))
      return random.chance(60) ? this.dial(random.chance(TLS_SHARE)) : this.connect(random.chance(TLS_SHARE));
    const all = [...this.connections.values()];
    if (random.chance(10)) return this.relays.make(all.filter(({ passes }) => !passes));
    if (random.chance(5)) return this.unread();
    if (random.chance(6)) return this.passes.make(all);
    if (random.chance(1)) return this.handshakes.renew();
    if (random.chance(50)) return this.disturbPeer();
    this.operate();
  }

  private disturbPeer(): void {
    const { random } = this;
    const peer = random.pick(
      this.peers.all.filter(({ closed, connection, tls }) => !closed && (connection !== undefined || tls)),
    );
    if (peer === undefined) return;
    // One that has no connection yet is in its handshake, or about to be.
    const early = peer.connection === undefined;
    const what = early ? 90 + random.int(30) : random.int(101);
    if (what >= 105) return;
    if (what >= 100 && peer.tls) return this.spoil(peer);
    if (what < 75) peer.write(random.length());
    else if (what < 82) peer.socket.pause();
    else if (what < 92) peer.socket.resume();
    else if (what < 97) peer.end();
    else peer.reset();
  }

  private spoil(peer: FuzzPeer): void {
    peer.spoil(this.random.chance(30) ? 'end' : garbageOf(this.random));
    if (peer.spoiled) this.summary.spoiled++;
  }

  private operate(): void {
    // A connection that is paused, linked or taken out of its relay now would never end.
    if (this.settling) return;
    const { random, engine } = this;
    const connection = random.pick([...this.connections.values()]);
    if (connection === undefined || random.chance(4)) return this.nonsense();
    // How much was passed on is known between batches only.
    if (this.inBatch && connection.passes) return;
    const what = random.int(100);
    if (what < 40) return this.send(connection, random.length());
    if (what < 50) return engine.pause(connection.id);
    if (what < 66) return engine.resume(connection.id);
    if (what < 72) return this.link(connection);
    if (what < 80) return engine.deadline(connection.id, random.int(300), random.chance(50));
    if (what < 92) return this.relays.unmake(connection);
    if (what < 95) return this.shutdown(connection);
    if (what < 98) return this.close(connection);
    this.passes.settle(connection);
    engine.reset(connection.id);
    connection.closing = true;
  }

  private link(connection: FuzzConnection): void {
    const other = this.random.chance(90) ? this.random.pick([...this.connections.values()]) : undefined;
    // See `operate`.
    if (this.inBatch && other?.passes) return;
    this.passes.link(connection, other?.id ?? 0, other);
  }

  private nonsense(): void {
    const live = this.random.pick([...this.connections.values()]);
    const dead = this.random.pick(this.everyConnection)?.id ?? 0;
    const id = this.random.chance(50) || this.connections.has(dead) ? -1 - this.random.int(1 << 30) : dead;
    nonsense(this, id, live);
  }

  private dial(tls: boolean): void {
    this.peers.dial(LOOPBACK.withPort(listenerPort(this.listeners[tls ? TLS_LISTENER : 0])), tls);
  }

  private connect(tls: boolean): void {
    const refused = this.random.chance(10);
    const address = tls ? this.peers.tlsAddress : this.peers.address;
    const id = this.engine.connect(refused ? address.withPort(1) : address, true);
    if (id < 0) return;
    const connection = this.track(id, tls);
    const number = Buffer.alloc(4);
    number.writeUInt32BE(this.everyConnection.length - 1);
    if (tls) connection.greeting = number;
    else this.engine.send(id, number);
    if (this.random.chance(20)) this.engine.deadline(id, 1 + this.random.int(100));
    if (this.random.chance(20)) this.engine.resume(id);
  }

  private track(id: ConnectionId, tls: boolean): FuzzConnection {
    // The engine's own figures are below slot 100; 2 slots per index are more than a round needs.
    const slot = 100 + 2 * indexOf(id);
    const connection = new FuzzConnection(id, this.newStream(), slot, this.metrics);
    if (tls) this.handshakes.expect(connection);
    this.engine.count(id, slot, slot + 1);
    this.connections.set(id, connection);
    this.everyConnection.push(connection);
    this.summary.connections++;
    return connection;
  }

  private maySend(connection: FuzzConnection): boolean {
    const { shut, closing, doubtful, relayedTo } = connection;
    return !shut && !closing && !doubtful && relayedTo === undefined;
  }

  private send(connection: FuzzConnection, length: number): void {
    if (connection.doubtful) return;
    const bytes = bytesOf(connection.stream, connection.sent, length);
    if (this.maySend(connection)) {
      this.passes.settle(connection.passedFrom);
      connection.wire.add(connection.stream, connection.sent, length);
      connection.sent += length;
    } else {
      connection.refusals++;
    }
    this.engine.send(connection.id, bytes);
  }

  private shutdown(connection: FuzzConnection): void {
    connection.shut = true;
    // A relay is broken by it.
    if (connection.relayedTo !== undefined) connection.doubtful = connection.relayedTo.doubtful = true;
    this.engine.shutdown(connection.id);
  }

  private close(connection: FuzzConnection): void {
    this.passes.settle(connection);
    connection.shut = connection.closing = true;
    if (connection.relayedTo !== undefined) connection.relayedTo.doubtful = true;
    // Rarely: a peer that has more to say than sockets hold is waited for, 2 s.
    this.engine.close(connection.id, this.random.chance(2) ? 'unread' : 'discarded');
  }

  /** Only from steps: within a batch, later bytes may be on their way to us. */
  private unread(): void {
    const { random, engine } = this;
    const connection = random.pick([...this.connections.values()]);
    if (connection?.peer === undefined || !this.mayUnread(connection)) return;
    this.passes.settle(connection);
    const length = Math.min(connection.read, random.length());
    engine.unread(connection.id, bytesOf(connection.peer.stream, connection.read - length, length));
    engine.flush();
    connection.read -= length;
    this.passes.rewound(connection);
    this.summary.unreadBytes += length;
    // An end behind these bytes is told again.
    if (length > 0) connection.ends = 0;
  }

  private mayUnread(connection: FuzzConnection): boolean {
    const { state, closing, shut, doubtful, relayedTo, unrelayed, ends, peer } = connection;
    if (state !== 'open' || closing || doubtful || relayedTo !== undefined) return false;
    // With the end of our side the connection has ended, of which we have yet to hear.
    if (shut && ends > 0) return false;
    return !unrelayed || ends > 0 || peer?.endedAt === undefined;
  }

  // --- the end of a round

  /** Lets everything flow and end, and sees that nothing is left. */
  private async settle(): Promise<void> {
    const { random, engine } = this;
    this.settling = true;
    for (const connection of this.connections.values()) {
      if (!connection.passes) engine.link(connection.id, 0);
      engine.deadline(connection.id, 0);
      engine.resume(connection.id);
    }
    for (const connection of [...this.connections.values()]) {
      if ((connection.relayedTo !== undefined || connection.passes) && random.chance(70)) continue;
      if (random.chance(70)) this.close(connection);
      else engine.reset(connection.id);
    }
    for (const peer of this.peers.all) {
      peer.socket.resume();
      if (random.chance(80)) peer.end();
      else peer.reset();
    }
    await until(() => this.connections.size === 0 || this.failed(), 'every connection ends');
    this.checkFaults();
    const nothing = ['connections', 'relays', 'queued_bytes', 'timers'];
    await until(() => nothing.every((name) => this.figure(name) === 0), `none left of ${nothing}`);
    if (this.figure('pipes') > 4) throw new Error(`${this.figure('pipes')} pipes are kept`);
  }

  /** At the end of a round: when this batch is over. */
  private closeRestLater(): void {
    if (this.settling) queueMicrotask(() => this.guard(() => this.closeRest()));
  }

  /** Ends what passed on until its source ended, or one of both did. */
  private closeRest(): void {
    for (const connection of [...this.connections.values()]) {
      const { state, closing, relayedTo, passing, passedFrom } = connection;
      if (state !== 'open' || closing || relayedTo !== undefined || this.stopped) continue;
      const goesOn = (passing !== undefined && connection.ends === 0) || passedFrom?.ends === 0;
      if (!goesOn) this.close(connection);
    }
  }

  private stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.guard(() => this.passes.stop(this.everyConnection));
    this.summary.splicedBytes += this.figure('spliced_bytes_total');
    this.engine.stop();
    for (const listener of this.listeners) closeListener(listener);
  }

  private figure(name: string): number {
    return this.metrics[ENGINE_FIGURES.findIndex((figure) => figure.name === `ferrule_engine_${name}`)];
  }

  private ended(connection: FuzzConnection): void {
    connection.state = 'gone';
    connection.closing = true;
    this.connections.delete(connection.id);
    this.passes.gone(connection);
    this.closeRestLater();
  }

  private of(id: ConnectionId): FuzzConnection {
    const connection = this.connections.get(id);
    if (connection === undefined) throw new Error(`an event for a connection that is not there: ${id}`);
    return connection;
  }

  private checkFaults(): void {
    this.guard(() => this.passes.check());
    if (this.faults.length > 0) throw this.faults[0];
  }
}
