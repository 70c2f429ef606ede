/** That the memory of proxies depends neither on the size of bodies, in any framing, nor on readers that stand still. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { answer, type Framing, pieces, startApplication, streamDigest } from '../support/http-application.ts';
import { startRoutes } from '../support/http-routes.ts';
import { watchMemory } from '../support/memory.ts';
import { eventually, type TestProxy } from '../support/proxy.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Of bodies that are read as they come. */
const BODY_BYTES = SOAK ? 1_000_000_000 : 32_000_000;

/** Of bodies whose reader stands still, and how many there are at once. */
const STILL_BYTES = SOAK ? 200_000_000 : 64_000_000;
const STILL = 4;

/** How much a proxy may grow at most, in bytes: what its two heaps take before they are swept; far below the bodies. */
const MAX_GROWTH = 16_000_000;

/** Looks without a byte moved, after which a transfer stands still. */
const STILL_LOOKS = 15;

t.setTimeout(SOAK ? 1_800_000 : 240_000);

/** Starts a request for a body of so many bytes. @returns the body, which nobody reads yet */
type Download = (address: SocketAddress, length: number) => Promise<Readable>;

/** Asks as HTTP/1.1 does. */
function modern(path: (length: number) => string): Download {
  return async ({ ip, port }, length) => {
    const [response]: IncomingMessage[] = await once(
      get({ host: ip, port, path: path(length), agent: false }),
      'response',
    );
    return response;
  };
}

/** Asks as HTTP/1.0 does: the end of the connection is the end of the body. */
function old(path: (length: number) => string): Download {
  return async ({ ip, port }, length) => {
    const socket = connect({ host: ip, port });
    socket.write(`GET ${path(length)} HTTP/1.0\r\n\r\n`);
    let head = Buffer.alloc(0);
    for (;;) {
      await once(socket, 'readable');
      for (let part: Buffer | null = socket.read(); part !== null; part = socket.read())
        head = Buffer.concat([head, part]);
      const end = head.indexOf('\r\n\r\n') + 4;
      if (end < 4) continue;
      if (head.length > end) socket.unshift(head.subarray(end));
      return socket;
    }
  };
}

const framed = (framing: Framing) => (length: number) => `/body?n=${length}&framing=${framing}`;
const fromOld = (length: number) => `/old?n=${length}`;

const DOWNLOADS: Readonly<Record<string, Download>> = {
  'Content-Length': modern(framed('length')),
  chunks: modern(framed('chunked')),
  'until the connection ends': modern(framed('close')),
  'from an HTTP/1.0 server': modern(fromOld),
  'Content-Length, to HTTP/1.0': old(framed('length')),
  'chunks, to HTTP/1.0': old(framed('chunked')),
  'from an HTTP/1.0 server to HTTP/1.0': old(fromOld),
};

/** The head of an upload to `path`, and whether its body is chunked. */
interface Upload {
  readonly head: (path: string, length: number) => string;
  readonly chunked: boolean;
}

const UPLOADS: Readonly<Record<string, Upload>> = {
  'Content-Length': {
    head: (path, length) =>
      `PUT ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${length}\r\n\r\n`,
    chunked: false,
  },
  chunks: {
    head: (path) =>
      `PUT ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`,
    chunked: true,
  },
  'HTTP/1.0': {
    head: (path, length) => `PUT ${path} HTTP/1.0\r\nContent-Length: ${length}\r\n\r\n`,
    chunked: false,
  },
};

/** A body on the wire. */
function* wire(length: number, chunked: boolean): Generator<Buffer> {
  for (const piece of pieces(length)) {
    if (chunked) yield Buffer.from(`${piece.length.toString(16)}\r\n`);
    yield piece;
    if (chunked) yield Buffer.from('\r\n');
  }
  if (chunked) yield Buffer.from('0\r\n\r\n');
}

/** Starts an upload as fast as it is taken. */
function upload(
  { ip, port }: SocketAddress,
  path: string,
  length: number,
  { head, chunked }: Upload,
): Socket {
  const socket = connect({ host: ip, port });
  socket.write(head(path, length));
  Readable.from(wire(length, chunked)).pipe(socket, { end: false });
  return socket;
}

/** What the server of an upload found its body to be. */
async function uploaded(socket: Socket): Promise<string | undefined> {
  return /"digest":"([0-9a-f]+)"/.exec(String(Buffer.concat(await socket.toArray())))?.[1];
}

async function digestOf(body: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of body) hash.update(bytes);
  return hash.digest('hex');
}

/** Sends as an HTTP/1.0 server does. */
function answerOld(request: IncomingMessage, { socket }: ServerResponse): void {
  socket?.write('HTTP/1.0 200 OK\r\n\r\n');
  const length = Number(new URL(request.url!, 'http://x').searchParams.get('n'));
  if (socket !== null) Readable.from(pieces(length)).pipe(socket);
}

function expectGrowth(t: Test, what: string, growth: readonly number[]): void {
  const megabytes = growth.map((bytes) => (bytes / 1e6).toFixed(1)).join(' and ');
  t.ok(Math.max(...growth) < MAX_GROWTH, `${what}: grown by ${megabytes} MB`);
}

t.test(`bodies of ${BODY_BYTES / 1e6} MB`, async (t) => {
  const application = await startApplication(t, (request, response) => {
    if (request.url?.startsWith('/old')) answerOld(request, response);
    else answer(request, response);
  });
  const all = await startRoutes(t, application.address);
  const right = streamDigest(BODY_BYTES);
  for (const { name, address, proxies } of all.routes) {
    // The first bytes of each kind bring code and buffers to where they stay.
    for (const download of Object.values(DOWNLOADS)) await digestOf(await download(address, 1_000_000));
    for (const [framing, download] of Object.entries(DOWNLOADS)) {
      const growth = watchMemory(proxies.map(({ pid }) => pid));
      t.equal(await digestOf(await download(address, BODY_BYTES)), right, `${name}, down, ${framing}`);
      expectGrowth(t, `${name}, down, ${framing}`, growth());
    }
    for (const [framing, how] of Object.entries(UPLOADS)) {
      const growth = watchMemory(proxies.map(({ pid }) => pid));
      t.equal(await uploaded(upload(address, '/digest', BODY_BYTES, how)), right, `${name}, up, ${framing}`);
      expectGrowth(t, `${name}, up, ${framing}`, growth());
    }
  }
  await all.idle();
});

/** What proxies have read so far. */
function readBytes(proxies: readonly TestProxy[]): Promise<number[]> {
  return Promise.all(proxies.map((proxy) => proxy.sum('tcp_read_bytes_total')));
}

/** Waits until no proxy reads any more. @returns what they have read so far */
async function standstill(proxies: readonly TestProxy[]): Promise<number[]> {
  let before: number[] = [];
  let looks = 0;
  await eventually('nothing moves', async () => {
    const now = await readBytes(proxies);
    const moved = now.some((bytes, index) => bytes !== before[index]);
    before = now;
    looks = moved || now.some((bytes) => bytes === 0) ? 0 : looks + 1;
    return looks >= STILL_LOOKS || undefined;
  });
  return before;
}

t.test('clients that do not read a response', async (t) => {
  const application = await startApplication(t);
  const all = await startRoutes(t, application.address);
  const right = streamDigest(STILL_BYTES);
  for (const { name, address, proxies } of all.routes) {
    for (const framing of ['Content-Length', 'chunks', 'chunks, to HTTP/1.0']) {
      const before = await readBytes(proxies);
      const growth = watchMemory(proxies.map(({ pid }) => pid));
      const bodies = Array.from({ length: STILL }, () => DOWNLOADS[framing](address, STILL_BYTES));
      const [first, ...others] = await Promise.all(bodies);
      const read = await standstill(proxies);
      for (const [index, bytes] of read.entries())
        t.ok(bytes - before[index] < STILL * STILL_BYTES, `${bytes - before[index]} bytes were read`);
      expectGrowth(t, `${name}, ${framing}`, growth());
      for (const body of others) body.destroy();
      t.equal(await digestOf(first), right, 'the one that goes on after all has every byte');
      expectGrowth(t, `${name}, ${framing}, to the end`, growth());
    }
  }
  await all.idle();
});

t.test('a server that does not read requests', async (t) => {
  const waiting: (() => void)[] = [];
  const application = await startApplication(t, (request, response) => {
    // Left alone, a request is not read beyond a first buffer.
    waiting.push(() => answer(request, response));
  });
  const all = await startRoutes(t, application.address);
  const right = streamDigest(STILL_BYTES);
  for (const { name, address, proxies } of all.routes) {
    for (const [framing, how] of Object.entries(UPLOADS)) {
      waiting.length = 0;
      const growth = watchMemory(proxies.map(({ pid }) => pid));
      const first = upload(address, '/digest', STILL_BYTES, how);
      await eventually('it is asked', () => waiting.length > 0 || undefined);
      const others = Array.from({ length: STILL - 1 }, () => upload(address, '/digest', STILL_BYTES, how));
      await eventually('all are asked', () => waiting.length === STILL || undefined);
      await standstill(proxies);
      expectGrowth(t, `${name}, ${framing}`, growth());
      // In order, their ends would wait behind what nobody reads.
      for (const socket of others) socket.resetAndDestroy();
      waiting[0]();
      t.equal(await uploaded(first), right, 'the one that is read after all has every byte');
      expectGrowth(t, `${name}, ${framing}, to the end`, growth());
    }
  }
  await all.idle();
});
