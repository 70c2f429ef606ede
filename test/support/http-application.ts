/** An application on node:http that says what reached it, and answers as the target's path and query ask. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';
import { bytesOf } from './engine-peers.ts';

/** Bytes per write of large bodies. */
const PIECE_BYTES = 128 * 1024;

/** Said to clients, in ms: of that, the proxy keeps a connection a second less. Short, as tests wait for its end. */
const IDLE_MS = 2_000;

/** How the end of a body is told. */
export type Framing = 'length' | 'chunked' | 'close';

/** A server under test's control. */
export interface Application {
  readonly address: SocketAddress;
  readonly server: Server;
  /** Requests that reached it, as `POST /path`. */
  readonly seen: string[];
}

/** Makes it; it does not listen yet. */
export function createApplication(
  handle: (request: IncomingMessage, response: ServerResponse) => void = answer,
): Omit<Application, 'address'> {
  const seen: string[] = [];
  const server = createServer({ keepAliveTimeout: IDLE_MS }, (request, response) => {
    seen.push(`${request.method} ${request.url}`);
    handle(request, response);
  });
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    seen.push(`${request.method} ${request.url}`);
    const early = Number(new URL(request.url!, 'http://x').searchParams.get('early') ?? 0);
    if (early > 0) response.writeHead(early, { connection: 'close' }).end('early');
    else {
      response.writeContinue();
      handle(request, response);
    }
  });
  server.on('connect', (_request, socket: Duplex, head: Buffer) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    socket.on('error', () => socket.destroy());
    socket.write(head);
    socket.pipe(socket);
  });
  return { server, seen };
}

/** Starts it; it is gone when the test ends. */
export async function startApplication(
  t: Test,
  handle?: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Application> {
  const { server, seen } = createApplication(handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { address: at(`127.0.0.1:${(server.address() as AddressInfo).port}`), server, seen };
}

/** The checksum of the first `length` bytes of stream 0. */
export function streamDigest(length: number): string {
  const hash = createHash('sha256');
  for (const piece of pieces(length)) hash.update(piece);
  return hash.digest('hex');
}

/** The first `length` bytes of stream 0, piece by piece. */
export function* pieces(length: number): Generator<Buffer> {
  for (let from = 0; from < length; from += PIECE_BYTES)
    yield bytesOf(0, from, Math.min(PIECE_BYTES, length - from));
}

/**
 * `/echo` sends the request's body back as it comes; `/digest` its checksum, the trailers and the head as JSON; `/body?n=&framing=`
 * a body; `/status?n=` a status without a body; `/hints` two interim responses first; `/silent` one and no final one; `/trailers` a trailer.
 */
export function answer(request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url!, 'http://x');
  const n = Number(searchParams.get('n') ?? 0);
  if (pathname === '/echo') return void request.pipe(response);
  if (pathname === '/body') return sendBody(response, n, searchParams.get('framing') as Framing);
  if (pathname === '/digest') return void digest(request, response);
  request.resume();
  if (pathname === '/silent') return response.writeProcessing();
  if (pathname === '/status') return void response.writeHead(n).end();
  if (pathname === '/trailers') {
    response.writeHead(200, { trailer: 'x-sum' }).write('body');
    response.addTrailers({ 'x-sum': '42' });
    return void response.end();
  }
  if (pathname === '/hints') {
    response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    response.writeProcessing();
  }
  response.end(`answer to ${request.url}`);
}

function sendBody(response: ServerResponse, length: number, framing: Framing): void {
  if (framing === 'length') response.setHeader('content-length', length);
  if (framing === 'close') {
    response.setHeader('connection', 'close');
    // Told beforehand, node:http does not chunk what has no length.
    response.removeHeader('transfer-encoding');
  }
  response.writeHead(200);
  Readable.from(pieces(length)).pipe(response);
}

async function digest(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const hash = createHash('sha256');
  let length = 0;
  request.on('data', (bytes: Buffer) => {
    length += bytes.length;
    hash.update(bytes);
  });
  await once(request, 'end');
  const { method, url, httpVersion, headers, trailers } = request;
  response.setHeader('content-type', 'application/json');
  response.end(
    JSON.stringify({ method, url, httpVersion, headers, trailers, length, digest: hash.digest('hex') }),
  );
}
