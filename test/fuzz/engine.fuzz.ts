/**
 * A fuzzer of the socket engine: random peers, events and operations over real loopback sockets, driven by a seed. A
 * model (model.ts) knows what must hold: every connection ends once; what arrives is a prefix of what was sent, and the
 * whole where the end was orderly; counters agree; nothing is left afterwards.
 */

import { createServer, connect as dialNet, type Server, type Socket } from 'node:net';
import type { PeerAddress, SocketAddress } from '../../proxy/core/address.ts';
import { ENGINE_FIGURES } from '../../proxy/metrics/families.ts';
import { SLAB_SLOTS } from '../../proxy/metrics/slab.ts';
import {
  type ConnectionId,
  closeListener,
  Engine,
  type EngineHandler,
  indexOf,
  listenerPort,
  openListener,
} from '../../proxy/native/engine.ts';
import { at, until } from '../support/engine.ts';
import { bytesOf, isStream } from '../support/engine-peers.ts';
import { FuzzConnection, FuzzPeer, Random } from './model.ts';

/** `send` and `relay` as `deadOperation` names them; engine.h has the numbers. */
const SEND = 1;
const RELAY = 8;

/** Open connections a round keeps at most: enough to meet each other, few enough that each gets far. */
const MOST_CONNECTIONS = 14;

const STEPS_PER_ROUND = 400;

/** What a run did, so that a test can see that it did something. */
export interface FuzzSummary {
  connections: number;
  bytes: number;
  relays: number;
  unrelays: number;
  refusedRelays: number;
  orderlyEnds: number;
  failures: number;
  deadOperations: number;
  splicedBytes: number;
}

/**
 * Runs `rounds` rounds, the first with `seed`, the next with `seed + 1`, …
 * @throws at the first broken promise, naming the round's seed
 */
export async function fuzz(seed: number, rounds: number): Promise<FuzzSummary> {
  const summary: FuzzSummary = {
    connections: 0,
    bytes: 0,
    relays: 0,
    unrelays: 0,
    refusedRelays: 0,
    orderlyEnds: 0,
    failures: 0,
    deadOperations: 0,
    splicedBytes: 0,
  };
  for (let round = 0; round < rounds; round++) {
    const fuzzer = new Fuzzer(seed + round, summary);
    try {
      await fuzzer.run();
    } catch (error) {
      throw new Error(`round with seed ${seed + round}: ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    } finally {
      await fuzzer.dispose();
    }
  }
  return summary;
}

class Fuzzer implements EngineHandler {
  private readonly random: Random;
  private readonly summary: FuzzSummary;
  private readonly metrics = new Float64Array(SLAB_SLOTS);
  private readonly engine: Engine;
  private readonly listener: number;
  private readonly address: SocketAddress;
  private readonly server: Server;
  private readonly peers: FuzzPeer[] = [];
  private readonly peersByPort = new Map<number, FuzzPeer>();
  private readonly connections = new Map<ConnectionId, FuzzConnection>();
  private readonly everyConnection: FuzzConnection[] = [];
  /** Broken promises found where throwing would go to the wrong place. */
  private readonly faults: Error[] = [];
  private streams = 1;
  private serverAddress: SocketAddress = at('127.0.0.1:0');
  private refusedRelays = 0;
  private settling = false;
  private stopped = false;

  constructor(seed: number, summary: FuzzSummary) {
    this.random = new Random(seed);
    this.summary = summary;
    this.engine = new Engine(this, this.metrics);
    const loopback = at('127.0.0.1:0');
    this.listener = openListener(loopback);
    this.engine.listen(this.listener, { transparent: this.random.chance(50) });
    this.address = loopback.withPort(listenerPort(this.listener));
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.serve(socket));
  }

  async run(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    const bound = this.server.address();
    if (bound === null || typeof bound === 'string') throw new Error('a server without a port');
    this.serverAddress = this.serverAddress.withPort(bound.port);
    for (let step = 0; step < STEPS_PER_ROUND; step++) {
      await this.step();
      if (this.random.chance(40)) await turn();
      this.checkFaults();
    }
    // A stop in the middle must look like a failure to every peer, never like an end.
    if (this.random.chance(25)) await this.stop();
    else await this.settle();
    this.checkFaults();
  }

  async dispose(): Promise<void> {
    await this.stop();
    for (const peer of this.peers) peer.socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  // --- peers

  private serve(socket: Socket): void {
    const peer = this.adopt(socket);
    // The engine's first four bytes say which connection this is.
    const head: Buffer[] = [];
    const greet = (bytes: Buffer) => {
      head.push(bytes);
      const all = Buffer.concat(head);
      if (all.length < 4) return;
      socket.off('data', greet);
      const connection = this.everyConnection[all.readUInt32BE(0)];
      peer.connection = connection;
      connection.peer = peer;
      this.receive(peer, all.subarray(4));
      socket.on('data', (later) => this.receive(peer, later));
    };
    socket.on('data', greet);
  }

  private dial(): void {
    const socket = dialNet({ host: this.address.ip, port: this.address.port, allowHalfOpen: true });
    const peer = this.adopt(socket);
    socket.on('connect', () => {
      if (socket.localPort !== undefined) this.peersByPort.set(socket.localPort, peer);
    });
    socket.on('data', (bytes) => {
      if (peer.connection === undefined) this.marry();
      this.receive(peer, bytes);
    });
  }

  private adopt(socket: Socket): FuzzPeer {
    const peer = new FuzzPeer(this.streams++, socket);
    this.peers.push(peer);
    socket.on('end', () => {
      if (peer.connection === undefined) this.marry();
      peer.finishedAt = peer.connection?.wire.received ?? 0;
    });
    socket.on('error', () => {
      this.summary.failures++;
    });
    socket.on('close', () => {
      peer.closed = true;
    });
    return peer;
  }

  private receive(peer: FuzzPeer, bytes: Buffer): void {
    this.summary.bytes += bytes.length;
    this.guard(() => peer.connection?.wire.take(bytes));
  }

  /** Finds the other ends of accepted connections: node:net may tell of its side before or after the engine does. */
  private marry(): void {
    for (const [port, peer] of this.peersByPort) {
      const connection = this.unmarried.get(port);
      if (connection === undefined) continue;
      this.unmarried.delete(port);
      this.peersByPort.delete(port);
      connection.peer = peer;
      peer.connection = connection;
    }
  }

  private readonly unmarried = new Map<number, FuzzConnection>();

  // --- events of the engine

  accepted(id: ConnectionId, _listener: number, peer: PeerAddress): void {
    const connection = this.track(id);
    connection.state = 'open';
    this.unmarried.set(peer.port, connection);
    this.marry();
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
    if (connection.peer === undefined) this.marry();
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
    if (live < MOST_CONNECTIONS && random.chance(12)) return random.chance(60) ? this.dial() : this.connect();
    if (random.chance(10)) return this.relay();
    if (random.chance(50)) return this.disturbPeer();
    this.operate();
  }

  private disturbPeer(): void {
    const { random } = this;
    const peer = random.pick(
      this.peers.filter(({ closed, connection }) => !closed && connection !== undefined),
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
    const id = this.engine.connect(refused ? this.serverAddress.withPort(1) : this.serverAddress, true);
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
    const connection = new FuzzConnection(id, this.streams++, slot, this.metrics);
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
    this.marry();
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
    this.engine.relay(a.id, b.id);
    this.engine.flush();
    await turn();
    await turn();
    const refused = this.refusedRelays > before;
    if (impossible && !refused) throw new Error('an impossible relay was made');
    if (refused) this.summary.refusedRelays++;
    else this.summary.relays++;
    // Taken apart meanwhile, by a handler.
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
    this.engine.unrelay(connection.id);
    if (other === undefined) return;
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
    for (const peer of this.peers) {
      peer.socket.resume();
      if (random.chance(80)) peer.end();
      else peer.reset();
    }
    await until(() => this.connections.size === 0 || this.faults.length > 0, 'every connection ends');
    const nothing = ['connections', 'relays', 'queued_bytes', 'timers'];
    await until(() => nothing.every((name) => this.figure(name) === 0), `none left of ${nothing}`);
    if (this.figure('pipes') > 4) throw new Error(`${this.figure('pipes')} pipes are kept`);
    await this.judgePeers();
  }

  private async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.summary.splicedBytes += this.figure('spliced_bytes_total');
    this.engine.stop();
    closeListener(this.listener);
    for (const peer of this.peers) peer.socket.resume();
    await turn();
    await turn();
    await this.judgePeers();
  }

  private async judgePeers(): Promise<void> {
    this.marry();
    // Both ends of every connection are over: a peer that has not heard of it would wait for ever.
    for (const peer of this.peers) peer.end();
    await until(() => this.peers.every(({ closed }) => closed) || this.faults.length > 0, 'every peer hears');
    for (const peer of this.peers) this.guard(() => peer.judge());
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

  private guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.faults.push(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private checkFaults(): void {
    if (this.faults.length > 0) throw this.faults[0];
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
