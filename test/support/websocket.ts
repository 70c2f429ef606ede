/** WebSockets (RFC 6455) in as few lines as tests need: servers of both versions of HTTP that echo, and a client on any stream of bytes. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';

/** Of the handshake (RFC 6455 section 1.3). */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

const CLOSE = 8;

/** What a server answers to a key. */
export function acceptOf(key: string | undefined): string {
  return createHash('sha1').update(`${key}${GUID}`).digest('base64');
}

/** The head with which a server agrees. */
export function consentTo(key: string | undefined): string {
  const accept = `Sec-WebSocket-Accept: ${acceptOf(key)}\r\n`;
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${accept}\r\n`;
}

interface Frame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** Reads and writes frames, without fragments. */
class Frames {
  private rest = Buffer.alloc(0);

  /** Frames that are whole with these bytes. */
  push(bytes: Buffer): Frame[] {
    this.rest = Buffer.concat([this.rest, bytes]);
    const frames: Frame[] = [];
    for (let frame = this.next(); frame !== undefined; frame = this.next()) frames.push(frame);
    return frames;
  }

  private next(): Frame | undefined {
    const { rest } = this;
    if (rest.length < 2) return undefined;
    const short = rest[1] & 0x7f;
    const lengthEnd = short < 126 ? 2 : short === 126 ? 4 : 10;
    const maskEnd = lengthEnd + (rest[1] & 0x80 ? 4 : 0);
    if (rest.length < maskEnd) return undefined;
    const length =
      short < 126 ? short : short === 126 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2));
    if (rest.length < maskEnd + length) return undefined;
    const payload = Buffer.from(rest.subarray(maskEnd, maskEnd + length));
    const mask = rest.subarray(lengthEnd, maskEnd);
    if (mask.length > 0) for (let i = 0; i < length; i++) payload[i] ^= mask[i % 4];
    this.rest = rest.subarray(maskEnd + length);
    return { opcode: rest[0] & 0x0f, payload };
  }
}

function frameOf({ opcode, payload }: Frame, masked: boolean): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = head.length === 2 ? length : head.length === 4 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(length, 2);
  else if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  if (!masked) return Buffer.concat([head, payload]);
  head[1] |= 0x80;
  const mask = randomBytes(4);
  const hidden = Buffer.from(payload);
  for (let i = 0; i < length; i++) hidden[i] ^= mask[i % 4];
  return Buffer.concat([head, mask, hidden]);
}

/** Sends messages back until the client closes. */
function echo(stream: Duplex): void {
  const frames = new Frames();
  stream.on('error', () => stream.destroy());
  stream.on('data', (bytes: Buffer) => {
    for (const frame of frames.push(bytes)) {
      stream.write(frameOf(frame, false));
      if (frame.opcode === CLOSE) stream.end();
    }
  });
}

/** A client of a WebSocket that is open. */
export class WebSocketPeer {
  private readonly stream: Duplex;
  private readonly frames = new Frames();
  private readonly got: Frame[] = [];

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on('data', (bytes: Buffer) => {
      this.got.push(...this.frames.push(bytes));
      stream.emit('frames');
    });
  }

  /** Says something. @returns what comes back */
  async say(payload: Buffer, opcode = 2): Promise<Buffer> {
    this.stream.write(frameOf({ opcode, payload }, true));
    while (this.got.length === 0) await once(this.stream, 'frames');
    return this.got.shift()!.payload;
  }

  /** Closes with a code. @returns what the server closes with */
  async close(code: number): Promise<number> {
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    const ended = once(this.stream, 'end');
    const answer = await this.say(payload, CLOSE);
    await ended;
    this.stream.end();
    return answer.readUInt16BE();
  }
}

/** What a server speaks: HTTP/1, HTTP/2 with extended CONNECT, or both, where HTTP/2 has no extended CONNECT. */
export type WebSocketServerKind = 'http1' | 'http2' | 'both';

/** A server that echoes on every path; what each WebSocket came in is in `seen`. */
export async function startWebSocketServer(t: Test, kind: WebSocketServerKind) {
  const seen: string[] = [];
  const http1 = createHttpServer((_request, response) => response.end('http1'));
  http1.on('upgrade', ({ headers }, socket: Duplex) => {
    seen.push(`http1 ${headers['sec-websocket-version']} ${headers.host}`);
    socket.write(consentTo(headers['sec-websocket-key']));
    echo(socket);
  });
  const http2 = createHttp2Server({ settings: { enableConnectProtocol: kind === 'http2' } });
  http2.on('stream', (stream: ServerHttp2Stream, headers) => {
    if (headers[':method'] !== 'CONNECT') {
      stream.respond({ ':status': 200 });
      return void stream.end('http2');
    }
    seen.push(`http2 ${headers['sec-websocket-version']} ${headers[':authority']}`);
    stream.respond({ ':status': 200 });
    echo(stream);
  });
  const address = await listen(t, kind === 'http1' ? http1 : kind === 'http2' ? http2 : either(http1, http2));
  return { address, seen };
}

/** Tells by the first bytes which of them is meant. */
function either(http1: Server, http2: Http2Server): Server {
  return createServer((socket) => {
    socket.once('readable', () => {
      const opening = socket.read();
      if (opening === null) return void socket.destroy();
      socket.unshift(opening);
      (opening.toString('latin1', 0, 3) === 'PRI' ? http2 : http1).emit('connection', socket);
    });
  });
}

/** Starts a server on a free port; it and its connections are gone when the test ends. */
export async function listen(t: Test, server: Server): Promise<SocketAddress> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return at(`127.0.0.1:${(server.address() as AddressInfo).port}`);
}
