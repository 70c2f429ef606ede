/** An application on node:http2 that answers as the path and query ask, and a client that tells all it got. */
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type SessionOptions,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';
import { pieces } from './http-application.ts';

/** Serves one request. */
export type H2Handler = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

/** A server under test's control. */
export class H2Application {
  readonly server: Http2Server;
  readonly sessions = new Set<ServerHttp2Session>();
  /** Requests that reached it, by path. */
  readonly seen = new Map<string, number>();
  address: SocketAddress = at('127.0.0.1:1');

  constructor(handle: H2Handler, options: SessionOptions) {
    this.server = createServer(options);
    this.server.on('session', (session) => {
      this.sessions.add(session);
      session.on('error', () => session.destroy()).on('close', () => this.sessions.delete(session));
    });
    this.server.on('stream', (stream, headers) => {
      const path = String(headers[':path']);
      this.seen.set(path, (this.seen.get(path) ?? 0) + 1);
      // A client may go at any time.
      stream.on('error', () => stream.destroy());
      handle(stream, headers);
    });
  }

  /** All requests that reached it. */
  get count(): number {
    return [...this.seen.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Refuses new connections, says GOAWAY on the others, and resolves when what they have is answered. */
  async leave(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const session of this.sessions) session.close();
    await closed;
  }

  /** Ends without a word. */
  destroy(): void {
    this.server.close();
    for (const session of this.sessions) session.destroy();
  }
}

/** Starts one, on a free port unless it is given; it is gone when the test ends. */
export async function startH2Application(
  t: Test,
  handle: H2Handler = answerStream,
  options: SessionOptions = {},
  port = 0,
): Promise<H2Application> {
  const application = new H2Application(handle, options);
  application.server.listen(port, '127.0.0.1');
  await once(application.server, 'listening');
  application.address = at(`127.0.0.1:${(application.server.address() as AddressInfo).port}`);
  t.teardown(() => application.destroy());
  return application;
}

/**
 * `/echo`, and CONNECT, sends the request's body back as it comes; `/digest` its checksum, trailers and head as JSON; `/body?n=` a body; `/status?n=`
 * a status without one; `/trailers` trailers; `/hints` two interim responses first; `/silent` one and no final one; everything else a text.
 * Who expects 100 gets it, or the status that `early` says.
 */
export function answerStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const { pathname, searchParams } = new URL(String(headers[':path'] ?? '/connect'), 'http://x');
  const n = Number(searchParams.get('n') ?? 0);
  const early = Number(searchParams.get('early') ?? 0);
  if (headers.expect !== undefined && early > 0) {
    stream.respond({ ':status': early });
    return void stream.end('early');
  }
  if (headers.expect !== undefined) stream.additionalHeaders({ ':status': 100 });
  if (pathname === '/silent') return stream.resume().additionalHeaders({ ':status': 102 });
  if (pathname === '/echo' || pathname === '/connect') {
    stream.respond({ ':status': 200 });
    return void stream.pipe(stream);
  }
  if (pathname === '/body') {
    stream.respond({ ':status': 200, 'content-length': n });
    return void Readable.from(pieces(n)).pipe(stream);
  }
  if (pathname === '/digest') return digest(stream, headers);
  if (pathname === '/status') return stream.respond({ ':status': n }, { endStream: true });
  if (pathname === '/trailers') return withTrailers(stream);
  if (pathname === '/hints') {
    stream.additionalHeaders({ ':status': 103, link: '</a.css>; rel=preload' });
    stream.additionalHeaders({ ':status': 102 });
  }
  stream.resume().respond({ ':status': 200 });
  stream.end(`answer to ${headers[':path']}`);
}

function withTrailers(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200 }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '42' }));
  stream.end('body');
}

function digest(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const got = new Content(stream);
  let trailers: IncomingHttpHeaders = {};
  stream.on('trailers', (fields) => {
    trailers = fields;
  });
  stream.on('end', () => {
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    stream.end(JSON.stringify({ headers, trailers, length: got.length, digest: got.hash.digest('hex') }));
  });
}

/** What has come of a body: its first 64 KB, and the length and checksum of all of it. */
class Content {
  length = 0;
  readonly hash: Hash = createHash('sha256');
  private readonly first: Buffer[] = [];

  constructor(source: Readable) {
    source.on('data', (bytes: Buffer) => {
      if (this.length < 65_536) this.first.push(bytes);
      this.length += bytes.length;
      this.hash.update(bytes);
    });
  }

  get text(): string {
    return Buffer.concat(this.first).toString('latin1');
  }
}

/** What became of a request. */
export interface H2Answer {
  /** 0: none came. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  /** Statuses of interim responses. */
  readonly interims: readonly number[];
  /** The beginning of the body. */
  readonly text: string;
  readonly length: number;
  readonly digest: string;
  /** One of H2_ERROR: the code the stream was reset with, 0 for an orderly end; -1: its connection ended before. */
  readonly code: number;
}

/** One connection of a client, gone when the test ends. */
export class H2Client {
  readonly session: ClientHttp2Session;
  /** Codes of GOAWAY frames. */
  readonly goAways: number[] = [];

  constructor(t: Test, address: SocketAddress, options: SessionOptions = {}) {
    this.session = connect(`http://${address}`, options);
    // What was under way hears of it as well.
    this.session.on('error', () => this.session.destroy());
    this.session.on('goaway', (code) => this.goAways.push(code));
    t.teardown(() => this.session.destroy());
  }

  /** Begins a request; GET unless it says something else. */
  open(path: string, headers: OutgoingHttpHeaders = {}, options: ClientSessionRequestOptions = {}) {
    const head = headers[':method'] === 'CONNECT' && path === '' ? headers : { ':path': path, ...headers };
    return this.session.request(head, options);
  }

  get(path: string, headers: OutgoingHttpHeaders = {}): Promise<H2Answer> {
    return answerOf(this.open(path, headers, { endStream: true }));
  }

  /** Sends a body, piece by piece. */
  post(path: string, body: Iterable<Buffer>, headers: OutgoingHttpHeaders = {}): Promise<H2Answer> {
    const stream = this.open(path, { ':method': 'POST', ...headers });
    const answered = answerOf(stream);
    Readable.from(body).pipe(stream);
    return answered;
  }

  /** Waits until the connection has ended. */
  async closed(): Promise<void> {
    if (!this.session.closed || !this.session.destroyed) await once(this.session, 'close');
  }
}

/** Collects what comes on a stream until it is closed. */
export function answerOf(stream: ClientHttp2Stream): Promise<H2Answer> {
  const interims: number[] = [];
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  const got = new Content(stream);
  stream.on('headers', (fields) => interims.push(Number(fields[':status'])));
  stream.on('response', (fields) => {
    headers = fields;
  });
  stream.on('trailers', (fields) => {
    trailers = fields;
  });
  let isWhole = false;
  stream.on('end', () => {
    isWhole = !stream.aborted;
  });
  // The code says it.
  stream.on('error', () => stream.destroy());
  return new Promise((resolve) => {
    stream.on('close', () =>
      resolve({
        status: Number(headers[':status'] ?? 0),
        headers,
        trailers,
        interims,
        text: got.text,
        length: got.length,
        digest: got.hash.digest('hex'),
        code: isWhole || (stream.rstCode ?? 0) !== 0 ? stream.rstCode : -1,
      }),
    );
  });
}
