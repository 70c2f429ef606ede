/** The other ends of the fuzzed connections: sockets of node:net, matched with the engine's. */

import { createServer, connect as dialNet, type Server, type Socket } from 'node:net';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at, until } from '../support/engine.ts';
import { type FuzzConnection, FuzzPeer } from './model.ts';

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

/** All peers of a round, and the server that makes some of them. */
export class FuzzPeers {
  readonly all: FuzzPeer[] = [];
  /** Where the engine may dial; port 0 before `listen`. */
  address: SocketAddress = at('127.0.0.1:0');
  bytes = 0;
  failures = 0;
  private readonly owner: PeerOwner;
  private readonly server: Server;
  private readonly unmatched = new Map<number, FuzzConnection>();
  private readonly byPort = new Map<number, FuzzPeer>();

  constructor(owner: PeerOwner) {
    this.owner = owner;
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.serve(socket));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    const bound = this.server.address();
    if (bound === null || typeof bound === 'string') throw new Error('a server without a port');
    this.address = this.address.withPort(bound.port);
  }

  /** Connects to the engine. */
  dial(address: SocketAddress): void {
    const socket = dialNet({ host: address.ip, port: address.port, allowHalfOpen: true });
    const peer = this.adopt(socket);
    socket.on('connect', () => {
      if (socket.localPort !== undefined) this.byPort.set(socket.localPort, peer);
    });
    socket.on('data', (bytes) => {
      if (peer.connection === undefined) this.match();
      this.receive(peer, bytes);
    });
  }

  /** The engine accepted a connection from `port`. */
  accepted(port: number, connection: FuzzConnection): void {
    this.unmatched.set(port, connection);
    this.match();
  }

  /** Finds the other ends of accepted connections: node:net may tell of its side before or after the engine does. */
  match(): void {
    for (const [port, peer] of this.byPort) {
      const connection = this.unmatched.get(port);
      if (connection === undefined) continue;
      this.unmatched.delete(port);
      this.byPort.delete(port);
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
    for (const peer of this.all) peer.socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private serve(socket: Socket): void {
    const peer = this.adopt(socket);
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

  private adopt(socket: Socket): FuzzPeer {
    const peer = new FuzzPeer(this.owner.newStream(), socket);
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
    return peer;
  }

  private receive(peer: FuzzPeer, bytes: Buffer): void {
    this.bytes += bytes.length;
    this.owner.guard(() => peer.connection?.wire.take(bytes));
  }
}
