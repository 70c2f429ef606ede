/**
 * A fuzzer of the socket engine: random peers, events and operations over real loopback sockets, driven by a seed. A
 * model (model.ts) knows what must hold: every connection ends once; what arrives is a prefix of what was sent, and the
 * whole where the end was orderly; counters agree; nothing is left afterwards.
 */

import type { PeerAddress, SocketAddress } from '../../proxy/core/address.ts';
import { ENGINE_FIGURES } from '../../proxy/metrics/families.ts';
import { SLAB_SLOTS } from '../../proxy/metrics/slab.ts';
import { type ConnectionId, Engine, type EngineHandler, indexOf } from '../../proxy/native/engine.ts';
import { closeListener, listenerPort, openListener } from '../../proxy/native/listener.ts';
import { at, until } from '../support/engine.ts';
import { bytesOf, isStream } from '../support/engine-peers.ts';
import { FuzzConnection, type FuzzSummary, Random } from './model.ts';
import { FuzzPeers, type PeerOwner } from './peers.ts';

/** `send` and `relay` as `deadOperation` names them; engine.h has the numbers. */
const SEND = 1;
const RELAY = 8;

/** Open connections a round keeps at most: enough to meet each other, few enough that each gets far. */
const MOST_CONNECTIONS = 14;

const STEPS_PER_ROUND = 400;

/** One round. */
export class Fuzzer implements EngineHandler, PeerOwner {
  private readonly random: Random;
  private readonly summary: FuzzSummary;
  private readonly metrics = new Float64Array(SLAB_SLOTS);
  private readonly engine: Engine;
  private readonly listener: number;
  private readonly address: SocketAddress;
  private readonly peers = new FuzzPeers(this);
  private readonly connections = new Map<ConnectionId, FuzzConnection>();
  private readonly everyConnection: FuzzConnection[] = [];
  /** Broken promises found where throwing would go to the wrong place. */
  private readonly faults: Error[] = [];
  private streams = 1;
  private refusedRelays = 0;
  /** Both sides of a relay of which the engine may yet tell that it was refused. */
  private unsettled: readonly FuzzConnection[] = [];
  private settling = false;
  private stopped = false;

  constructor(seed: number, summary: FuzzSummary) {
    this.random = new Random(seed);
    this.summary = summary;
    this.engine = new Engine(this.guarded(), this.metrics);
    const loopback = at('127.0.0.1:0');
    this.listener = openListener(loopback);
    this.engine.listen(this.listener, { transparent: this.random.chance(50) });
    this.address = loopback.withPort(listenerPort(this.listener));
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
        return (...values: unknown[]) => this.guard(() => Reflect.apply(member, handler, values));
      },
    });
  }

  // --- events of the engine

  accepted(id: ConnectionId, _listener: number, peer: PeerAddress): void {
    const connection = this.track(id);
    connection.state = 'open';
    this.peers.accepted(peer.port, connection);
    if (this.settling) this.engine.reset(id);
    else if (this.random.chance(80)) this.engine.resume(id);
  }

  connected(id: ConnectionId): void {
    this.of(id).state = 'open';
    if (this.random.chance(80)) this.engine.resume(id);
  }

  connectFailed(id: ConnectionId): void {
    this.ended(this.of(id));
  }

  data(id: ConnectionId, offset: number, length: number): void {
    const connection = this.of(id);
    if (connection.peer === undefined) this.peers.match();
    const { peer } = connection;
    if (peer === undefined) throw new Error('bytes from a peer that has not said a word');
    const bytes = this.engine.slab.subarray(offset, offset + length);
    if (!isStream(peer.stream, connection.read, bytes)) throw new Error(`wrong bytes at ${connection.read}`);
    const from = connection.read;
    connection.read += length;
    const other = this.random.chance(30) ? this.random.pick([...this.connections.values()]) : undefined;
    if (other !== undefined && this.maySend(other)) {
      other.wire.add(peer.stream, from, length);
      this.engine.sendRange(other.id, offset, length);
    }
    if (this.random.chance(3)) this.operate();
  }

  end(id: ConnectionId): void {
    const connection = this.of(id);
    if (++connection.ends > 1) throw new Error('the end was told twice');
    if (connection.relayedTo === undefined && connection.read !== connection.peer?.endedAt) {
      throw new Error(`an end after ${connection.read} bytes of ${connection.peer?.endedAt}`);
    }
    if (this.random.chance(50)) this.shutdown(connection);
  }

  blocked(id: ConnectionId): void {
    this.of(id);
    if (this.random.chance(20)) this.operate();
  }

  drained(id: ConnectionId): void {
    this.of(id);
    // Microtasks come between the batch and what it asked for.
    if (this.random.chance(30)) queueMicrotask(() => this.guard(() => this.operate()));
  }

  closed(id: ConnectionId, errno: number, _byOther: boolean, bytesRead: number, bytesWritten: number): void {
    const connection = this.of(id);
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
    throw new Error(`nobody asked for TLS on ${id}`);
  }

  tlsFailed(id: ConnectionId): void {
    throw new Error(`nobody asked for TLS on ${id}`);
  }

  acceptPaused(): void {
    throw new Error('out of descriptors: the fuzzer is to stay below the limit');
  }

  acceptResumed(): void {
    throw new Error('resumed without a pause');
  }

  deadOperation(id: ConnectionId, operation: number): void {
    this.summary.deadOperations++;
    if (operation === RELAY) this.refusedRelays++;
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
      return random.chance(60) ? this.peers.dial(this.address) : this.connect();
    if (random.chance(10)) return this.relay();
    if (random.chance(50)) return this.disturbPeer();
    this.operate();
  }

  private disturbPeer(): void {
    const { random } = this;
    const peer = random.pick(
      this.peers.all.filter(({ closed, connection }) => !closed && connection !== undefined),
    );
    if (peer === undefined) return;
    const what = random.int(100);
    if (what < 75) peer.write(random.length());
    else if (what < 82) peer.socket.pause();
    else if (what < 92) peer.socket.resume();
    else if (what < 97) peer.end();
    else peer.reset();
  }

  private operate(): void {
    const { random, engine } = this;
    const connection = random.pick([...this.connections.values()]);
    if (connection === undefined || random.chance(4)) return this.nonsense();
    const what = random.int(100);
    if (what < 40) return this.send(connection, random.length());
    if (what < 50) return engine.pause(connection.id);
    if (what < 66) return engine.resume(connection.id);
    if (what < 72) return engine.link(connection.id, random.pick([...this.connections.keys(), 0]) ?? 0);
    if (what < 80) return engine.deadline(connection.id, random.int(300), random.chance(50));
    if (what < 92) return this.unrelay(connection);
    if (what < 95) return this.shutdown(connection);
    if (what < 98) return this.close(connection);
    engine.reset(connection.id);
    connection.closing = true;
  }

  /** Operations that must be harmless: ids that mean nothing, ranges outside the slab, states that do not fit. */
  private nonsense(): void {
    const { random, engine } = this;
    const live = random.pick([...this.connections.values()]);
    const dead = random.pick(this.everyConnection)?.id ?? 0;
    const id = random.chance(50) || this.connections.has(dead) ? -1 - random.int(1 << 30) : dead;
    engine.resume(id);
    engine.sendRange(id, random.int(1 << 22), random.int(1 << 22));
    engine.link(id, live?.id ?? 0);
    engine.unrelay(id);
    engine.count(id, random.int(1 << 20), random.int(1 << 20));
    if (live === undefined) return;
    engine.link(live.id, id);
    live.refusals++;
    engine.sendRange(live.id, -1 - random.int(1 << 20), random.int(1 << 22));
  }

  private connect(): void {
    const refused = this.random.chance(10);
    const id = this.engine.connect(refused ? this.peers.address.withPort(1) : this.peers.address, true);
    if (id < 0) return;
    this.track(id);
    const number = Buffer.alloc(4);
    number.writeUInt32BE(this.everyConnection.length - 1);
    this.engine.send(id, number);
    if (this.random.chance(20)) this.engine.deadline(id, 1 + this.random.int(100));
    if (this.random.chance(20)) this.engine.resume(id);
  }

  private track(id: ConnectionId): FuzzConnection {
    // The engine's own figures are below slot 100; 2 slots per index are more than a round needs.
    const slot = 100 + 2 * indexOf(id);
    const connection = new FuzzConnection(id, this.newStream(), slot, this.metrics);
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
    connection.shut = connection.closing = true;
    if (connection.relayedTo !== undefined) connection.relayedTo.doubtful = true;
    this.engine.close(connection.id);
  }

  /** Only from steps, one at a time: so a refusal is known to be of this relay. */
  private async relay(): Promise<void> {
    const all = [...this.connections.values()];
    const a = this.random.pick(all);
    const b = this.random.pick(all);
    if (a === undefined || b === undefined) return;
    this.peers.match();
    this.engine.flush();
    if (a.doubtful || b.doubtful) return;
    const impossible = a === b || [a, b].some(({ relayedTo, closing }) => relayedTo !== undefined || closing);
    const certain = [a, b].every(({ state, peer }) => state === 'open' && peer !== undefined);
    if (!impossible && !certain) return;
    if (!impossible) {
      for (const [from, to] of [
        [a, b],
        [b, a],
      ]) {
        if (this.metrics[from.slot] - from.baseRead !== from.read)
          throw new Error('bytes read but not delivered');
        if (from.peer !== undefined) to.wire.open(from.peer, from.read);
        // What cannot be delivered any more is never read.
        if (to.shut) to.wire.unreliable = true;
        from.relayedTo = to;
        from.doubtful = true;
      }
    }
    const before = this.refusedRelays;
    this.unsettled = [a, b];
    this.engine.relay(a.id, b.id);
    this.engine.flush();
    // Nothing was read since the counters were compared, so this tells what was moved even where the relay was refused.
    if (!impossible && this.random.chance(5)) {
      for (const side of [a, b]) side.doubtful = side.shut;
      this.takeApart(a, b);
    }
    await turn();
    await turn();
    this.unsettled = [];
    const refused = this.refusedRelays > before;
    if (impossible && !refused) throw new Error('an impossible relay was made');
    if (refused) this.summary.refusedRelays++;
    else this.summary.relays++;
    // Taken apart at once.
    if (impossible || a.relayedTo !== b || b.relayedTo !== a) return;
    // Whoever broke it meanwhile made it doubtful for good.
    for (const side of [a, b]) side.doubtful = side.shut || side.closing;
    if (!refused) return;
    for (const side of [a, b]) {
      side.wire.close(0);
      side.relayedTo = undefined;
    }
  }

  private unrelay(connection: FuzzConnection): void {
    const other = connection.relayedTo;
    // Where the relay was refused, the counters have bytes that this very batch has yet to bring.
    if (this.unsettled.includes(connection)) return;
    if (other === undefined) return this.engine.unrelay(connection.id);
    this.takeApart(connection, other);
  }

  private takeApart(connection: FuzzConnection, other: FuzzConnection): void {
    this.engine.unrelay(connection.id);
    // Run it now: the counters tell how much the relay moved.
    this.engine.flush();
    this.summary.unrelays++;
    for (const side of [connection, other]) {
      const moved = this.metrics[side.slot] - side.baseRead - side.read;
      side.read += moved;
      side.relayedTo?.wire.close(moved);
      // The relay may have carried the end over.
      if (side.peer?.endedAt !== undefined && side.relayedTo !== undefined) side.relayedTo.doubtful = true;
    }
    connection.relayedTo = other.relayedTo = undefined;
  }

  // --- the end of a round

  /** Lets everything flow and end, and sees that nothing is left. */
  private async settle(): Promise<void> {
    const { random, engine } = this;
    this.settling = true;
    for (const connection of this.connections.values()) {
      engine.link(connection.id, 0);
      engine.deadline(connection.id, 0);
      engine.resume(connection.id);
    }
    for (const connection of [...this.connections.values()]) {
      if (connection.relayedTo !== undefined && random.chance(70)) continue;
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

  private stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.summary.splicedBytes += this.figure('spliced_bytes_total');
    this.engine.stop();
    closeListener(this.listener);
  }

  private figure(name: string): number {
    return this.metrics[ENGINE_FIGURES.findIndex((figure) => figure.name === `ferrule_engine_${name}`)];
  }

  private ended(connection: FuzzConnection): void {
    connection.state = 'gone';
    connection.closing = true;
    this.connections.delete(connection.id);
  }

  private of(id: ConnectionId): FuzzConnection {
    const connection = this.connections.get(id);
    if (connection === undefined) throw new Error(`an event for a connection that is not there: ${id}`);
    return connection;
  }

  private checkFaults(): void {
    if (this.faults.length > 0) throw this.faults[0];
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
