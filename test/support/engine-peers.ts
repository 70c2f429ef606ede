/** Sockets of node:net as the other ends of an engine's connections, and byte streams that can be checked anywhere. */

import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at, until } from './engine.ts';

/** A prime, so that no size of buffer or read is a multiple of the pattern's length. */
const PERIOD = 1_000_003;

/** One fixed pseudo-random text of PERIOD bytes, twice over, so that any PERIOD bytes from any start are contiguous. */
const PATTERN = makePattern();

function makePattern(): Buffer {
  const pattern = Buffer.alloc(2 * PERIOD);
  let state = 0x2545f491;
  for (let i = 0; i < PERIOD; i++) {
    // xorshift32 (Marsaglia 2003)
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    pattern[i] = pattern[PERIOD + i] = state & 0xff;
  }
  return pattern;
}

/** Bytes `from` to `from + length` (at most PERIOD) of stream number `stream`; streams differ, positions too. */
export function bytesOf(stream: number, from: number, length: number): Buffer {
  if (length > PERIOD) throw new Error('too long a piece');
  const start = (stream * 7919 + from) % PERIOD;
  return PATTERN.subarray(start, start + length);
}

/** Whether `bytes` are what stream number `stream` has at `from`. */
export function isStream(stream: number, from: number, bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += PERIOD) {
    const part = bytes.subarray(at, at + PERIOD);
    if (bytesOf(stream, from + at, part.length).compare(part) !== 0) return false;
  }
  return true;
}

/** One end of a connection, held by the test. */
export class Peer {
  readonly socket: Socket;
  receivedBytes = 0;
  /** The peer ended its side in order. */
  ended = false;
  /** The code of the error that ended the connection. */
  error: string | undefined;
  closed = false;
  /** The first bytes, up to 64 KB. */
  private readonly head: Buffer[] = [];
  private checked: number | undefined;
  /** What arrived is the stream given to `expect`, so far. */
  intact = true;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes) => this.take(bytes));
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code;
    });
    socket.on('close', () => {
      this.closed = true;
    });
  }

  get text(): string {
    return Buffer.concat(this.head).toString('latin1');
  }

  /** Compares everything that arrives with a stream. */
  expect(stream: number): this {
    this.checked = stream;
    return this;
  }

  /** Sends the first `length` bytes of a stream, with respect for backpressure; resolves when all are handed over. */
  async stream(stream: number, length: number, piece = 256 * 1024): Promise<void> {
    for (let sent = 0; sent < length && !this.socket.destroyed; ) {
      const size = Math.min(piece, length - sent);
      if (!this.socket.write(bytesOf(stream, sent, size))) {
        await this.roomOrEnd();
      }
      sent += size;
    }
  }

  private roomOrEnd(): Promise<void> {
    const { socket } = this;
    return new Promise((resolve) => {
      const done = () => {
        socket.off('drain', done).off('close', done);
        resolve();
      };
      socket.on('drain', done).on('close', done);
    });
  }

  private take(bytes: Buffer): void {
    if (this.checked !== undefined && !isStream(this.checked, this.receivedBytes, bytes)) this.intact = false;
    if (this.receivedBytes < 65_536) this.head.push(Buffer.from(bytes));
    this.receivedBytes += bytes.length;
  }
}

/** Connects to `address`; the socket is destroyed when the test ends. */
export async function dial(
  t: Test,
  address: SocketAddress,
  options: Partial<NetConnectOpts> = {},
): Promise<Peer> {
  const socket = connect({ host: address.ip, port: address.port, allowHalfOpen: true, ...options });
  t.teardown(() => {
    socket.destroy();
  });
  const peer = new Peer(socket);
  await until(() => !socket.connecting, `a connection to ${address}`);
  return peer;
}

/** A server of node:net on loopback. */
export class PeerServer {
  readonly server: Server;
  readonly peers: Peer[] = [];
  address: SocketAddress = at('127.0.0.1:0');

  constructor(onPeer: (peer: Peer) => void, pauseOnConnect: boolean) {
    this.server = createServer({ allowHalfOpen: true, pauseOnConnect }, (socket) => {
      const peer = new Peer(socket);
      this.peers.push(peer);
      onPeer(peer);
    });
  }

  /** The n-th connection, once it is there. */
  async peer(n = 0): Promise<Peer> {
    await until(() => this.peers.length > n, `connection ${n} to the test's server`);
    return this.peers[n];
  }
}

/** A server whose connections the test holds; it and they are gone when the test ends. */
export async function serve(
  t: Test,
  onPeer: (peer: Peer) => void = () => {},
  pauseOnConnect = false,
): Promise<PeerServer> {
  const peerServer = new PeerServer(onPeer, pauseOnConnect);
  const { server, peers } = peerServer;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const peer of peers) peer.socket.destroy();
    server.close();
  });
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('a server without a port');
  peerServer.address = peerServer.address.withPort(bound.port);
  return peerServer;
}
