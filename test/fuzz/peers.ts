/** The other ends of the fuzzed connections: sockets of node:net, matched with the engine's. */

import { createServer, connect as dialNet, type Server, type Socket } from 'node:net';
import { createSecureContext, connect as dialTls, TLSSocket } from 'node:tls';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at, until } from '../support/engine.ts';
import { nodeOptions, type ScriptOptions } from '../support/tls-script.ts';
import { type FuzzConnection, FuzzPeer, type Random } from './model.ts';
import { Tap } from './tap.ts';

/** What peers know of the rest of a round. */
export interface PeerOwner {
  /** A stream number nobody has. */
  newStream(): number;
  /** The n-th connection of this round, from 0. */
  connection(number: number): FuzzConnection;
  /** Runs `work` and keeps what it throws. */
  guard(work: () => void): void;
  failed(): boolean;
}

/** Percent of peers that never speak the TLS they are asked for. */
const STRANGER_SHARE = 6;

/** All peers of a round, and the server that makes some of them. */
export class FuzzPeers {
  readonly all: FuzzPeer[] = [];
  /** Where the engine may dial; port 0 before `listen`. */
  address: SocketAddress = at('127.0.0.1:0');
  /** The same, to speak TLS. */
  tlsAddress: SocketAddress = at('127.0.0.1:0');
  bytes = 0;
  failures = 0;
  private readonly owner: PeerOwner;
  private readonly random: Random;
  private readonly server: Server;
  private readonly tlsServer: Server;
  private readonly identity: ScriptOptions;
  private readonly unmatched = new Map<number, FuzzConnection>();
  private readonly byPort = new Map<number, FuzzPeer>();

  constructor(owner: PeerOwner, random: Random, identity: ScriptOptions) {
    this.owner = owner;
    this.random = random;
    this.identity = identity;
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.serve(socket, socket));
    const secureContext = createSecureContext(nodeOptions(identity));
    this.tlsServer = createServer({ allowHalfOpen: true }, (raw) => {
      const options = { isServer: true, secureContext, requestCert: true, rejectUnauthorized: false };
      if (random.chance(STRANGER_SHARE)) this.estrange(raw);
      else this.serve(new TLSSocket(new Tap(raw), options), raw);
    });
  }

  async listen(): Promise<void> {
    this.address = await bind(this.server);
    this.tlsAddress = await bind(this.tlsServer);
  }

  /** Connects to the engine, which speaks TLS there or not. */
  dial(address: SocketAddress, tls: boolean): void {
    const raw = dialNet({ host: address.ip, port: address.port, allowHalfOpen: true });
    const peer = tls && this.random.chance(STRANGER_SHARE) ? this.estrange(raw) : this.greetable(raw, tls);
    raw.on('connect', () => {
      if (raw.localPort !== undefined) this.byPort.set(placeOf(raw.localPort, tls), peer);
    });
  }

  private greetable(raw: Socket, tls: boolean): FuzzPeer {
    const socket = tls
      ? dialTls({ ...nodeOptions(this.identity), socket: new Tap(raw), checkServerIdentity: () => undefined })
      : raw;
    const peer = this.adopt(socket, raw);
    socket.on('data', (bytes) => {
      if (peer.connection === undefined) this.match();
      this.receive(peer, bytes);
    });
    return peer;
  }

  /** A peer that has no TLS, where TLS is due: it says nothing, or nothing that makes sense. */
  private estrange(raw: Socket): FuzzPeer {
    const peer = this.adopt(raw, raw);
    raw.resume();
    if (this.random.chance(50)) peer.spoil(garbageOf(this.random));
    peer.spoiled = true;
    return peer;
  }

  /** The engine accepted a connection from `port`. */
  accepted(port: number, connection: FuzzConnection): void {
    this.unmatched.set(placeOf(port, connection.tls), connection);
    this.match();
  }

  /** Finds the other ends of accepted connections: node:net may tell of its side before or after the engine does. */
  match(): void {
    for (const [place, peer] of this.byPort) {
      const connection = this.unmatched.get(place);
      if (connection === undefined) continue;
      this.unmatched.delete(place);
      this.byPort.delete(place);
      connection.peer = peer;
      peer.connection = connection;
    }
  }

  /** Waits until every peer has heard of the end of its connection, and judges whether it was honest. */
  async judge(): Promise<void> {
    this.match();
    // The engine's sides are over, and a peer that ends its own hears of it.
    for (const peer of this.all) {
      peer.socket.resume();
      peer.end();
    }
    await until(() => this.all.every(({ closed }) => closed) || this.owner.failed(), 'every peer hears');
    for (const peer of this.all) this.owner.guard(() => peer.judge());
  }

  async dispose(): Promise<void> {
    for (const { socket, raw } of this.all) {
      socket.destroy();
      raw.destroy();
    }
    for (const server of [this.server, this.tlsServer]) await new Promise((resolve) => server.close(resolve));
  }

  private serve(socket: Socket, raw: Socket): void {
    const peer = this.adopt(socket, raw);
    // The engine's first four bytes say which connection this is.
    const head: Buffer[] = [];
    const greet = (bytes: Buffer) => {
      head.push(bytes);
      const all = Buffer.concat(head);
      if (all.length < 4) return;
      socket.off('data', greet);
      peer.connection = this.owner.connection(all.readUInt32BE(0));
      peer.connection.peer = peer;
      this.receive(peer, all.subarray(4));
      socket.on('data', (later) => this.receive(peer, later));
    };
    socket.on('data', greet);
  }

  private adopt(socket: Socket, raw: Socket): FuzzPeer {
    const peer = new FuzzPeer(this.owner.newStream(), socket, raw);
    this.all.push(peer);
    socket.on('end', () => {
      if (peer.connection === undefined) this.match();
      peer.finishedAt = peer.connection?.wire.received ?? 0;
    });
    socket.on('error', () => {
      this.failures++;
    });
    socket.on('close', () => {
      peer.closed = true;
    });
    raw.on('error', ({ syscall }: NodeJS.ErrnoException) => this.owner.guard(() => refuseReset(syscall)));
    return peer;
  }

  private receive(peer: FuzzPeer, bytes: Buffer): void {
    this.bytes += bytes.length;
    this.owner.guard(() => peer.connection?.wire.take(bytes));
  }
}

/**
 * What no TLS peer says: noise, a record of noise with an honest header, one that is too long, the beginning of one,
 * an alert in the clear.
 */
export function garbageOf(random: Random): Buffer {
  // Noise never begins like a record, which might be one that is ignored.
  const noise = Buffer.from(Array.from({ length: 1 + random.int(200) }, () => 128 + random.int(128)));
  const header = Buffer.from([0x17, 3, 3, 0, noise.length]);
  const kinds = [
    noise,
    Buffer.concat([header, noise]),
    Buffer.concat([Buffer.from([0x16, 3, 3, 0x7f, 0xff]), noise]),
    header,
    Buffer.from([0x15, 3, 3, 0, 2, 1 + random.int(2), random.int(120)]),
  ];
  return kinds[random.int(kinds.length)];
}

async function bind(server: Server): Promise<SocketAddress> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('a server without a port');
  return at('127.0.0.1:0').withPort(bound.port);
}

/**
 * node:net loses a socket that it is asked to reset while its end is on its way (libuv refuses that): the process spins
 * when it exits.
 */
function refuseReset(syscall: string | undefined): void {
  if (syscall === 'reset') throw new Error('a peer was reset that had been ended');
}

/** Two connections may come from one port, when they lead to two. */
function placeOf(port: number, tls: boolean): number {
  return tls ? port + 65_536 : port;
}
