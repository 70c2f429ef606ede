/** What is forwarded: bytes as they are written, in the buffer they came in or another one, within what was reserved. */
import t from 'tap';
import { ChunkedReader } from '../../proxy/http/chunked.ts';
import { FRAMING, Head } from '../../proxy/http/head.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';
import {
  CONNECTION,
  headRoom,
  trailersRoom,
  WriteOptions,
  writeChunkHeader,
  writeLastChunk,
  writeRequestHead,
  writeResponseHead,
} from '../../proxy/http/write.ts';
import { bytesOf, textOf } from '../support/http-codec.ts';

/** Space before and behind, in which nothing may be written. */
const MARGIN = 64;

/** Reads a message and writes it, behind itself in one buffer and into another one. */
function forward(text: string, given: Partial<WriteOptions> = {}, response = false): string {
  const options = Object.assign(new WriteOptions(), given);
  const head = new Head();
  const written = [true, false].map((together) => {
    const bytes = new Uint8Array(8192).fill(0x21);
    bytes.set(bytesOf(text), MARGIN);
    const stop = MARGIN + text.length;
    const end = response
      ? readResponseHead(head, bytes, MARGIN, stop, METHOD.get)
      : readRequestHead(head, bytes, MARGIN, stop);
    if (end !== stop) throw new Error(`${end} instead of ${stop}`);
    const into = together ? bytes : new Uint8Array(8192).fill(0x21);
    const at = 4096;
    const to = (response ? writeResponseHead : writeRequestHead)(head, options, into, at);
    if (to - at > headRoom(head, options)) throw new Error(`${to - at} bytes in ${headRoom(head, options)}`);
    const outside = [...into.subarray(at - MARGIN, at), ...into.subarray(to, to + MARGIN)];
    if (outside.some((byte) => byte !== 0x21)) throw new Error('written outside');
    return textOf(into, at, to);
  });
  if (written[0] !== written[1]) throw new Error(`${written[0]} differs from ${written[1]}`);
  return written[0];
}

function lines(...all: string[]): string {
  return [...all, '', ''].join('\r\n');
}

t.test('nothing to change: the same bytes', async (t) => {
  const text = lines('GET /a?b HTTP/1.1', 'Host: shop', 'X-A:  b \t', 'X-Empty:');
  t.equal(forward(text), text);
  t.equal(forward(`\r\n${text}`), text, 'without an empty line before');
});

t.test('what belongs to the hop is left out wherever it stands', async (t) => {
  const text = lines(
    'GET / HTTP/1.1',
    'Connection: x-gone',
    'Keep-Alive: timeout=5',
    'Host: shop',
    'X-Gone: 1',
    'X-A: 1',
    'Transfer-Encoding: chunked',
    'X-B: 2',
    'l5d-client-id: forged',
  );
  t.equal(
    forward(text, { framing: FRAMING.chunked }),
    lines('GET / HTTP/1.1', 'Host: shop', 'X-A: 1', 'X-B: 2', 'Transfer-Encoding: chunked'),
  );
  t.equal(
    forward(lines('GET / HTTP/1.1', 'Host: a', 'Connection: host2')),
    lines('GET / HTTP/1.1', 'Host: a'),
  );
});

t.test('framing, connection, own fields', async (t) => {
  const text = lines('POST / HTTP/1.1', 'Host: a', 'Content-Length: 00012');
  for (const [contentLength, digits] of [
    [0, '0'],
    [9, '9'],
    [10, '10'],
    [1024, '1024'],
    [Number.MAX_SAFE_INTEGER, '9007199254740991'],
  ] as const) {
    t.equal(
      forward(text, { framing: FRAMING.length, contentLength }),
      lines('POST / HTTP/1.1', 'Host: a', `Content-Length: ${digits}`),
    );
  }
  const extra = bytesOf('l5d-client-id: web\r\nX-Own: 1\r\n');
  t.equal(
    forward(text, { extra, connection: CONNECTION.close }),
    lines('POST / HTTP/1.1', 'Host: a', 'Connection: close', 'l5d-client-id: web', 'X-Own: 1'),
  );
  t.equal(
    forward(text, { connection: CONNECTION.keepAlive }),
    lines('POST / HTTP/1.1', 'Host: a', 'Connection: keep-alive'),
  );
});

t.test('TE: trailers survives, named in Connection; other codings do not', async (t) => {
  const text = lines('GET / HTTP/1.1', 'Host: a', 'TE: gzip, trailers', 'Connection: TE');
  t.equal(forward(text), lines('GET / HTTP/1.1', 'Host: a', 'Connection: TE', 'TE: trailers'));
  t.equal(
    forward(text, { connection: CONNECTION.close }),
    lines('GET / HTTP/1.1', 'Host: a', 'Connection: close, TE', 'TE: trailers'),
  );
  t.equal(forward(lines('GET / HTTP/1.1', 'Host: a', 'TE: gzip')), lines('GET / HTTP/1.1', 'Host: a'));
});

t.test('an upgrade is written only on demand, with its protocol', async (t) => {
  const text = lines('GET / HTTP/1.1', 'Host: a', 'Connection: Upgrade', 'Upgrade: websocket', 'X-A: b');
  t.equal(forward(text), lines('GET / HTTP/1.1', 'Host: a', 'X-A: b'));
  t.equal(
    forward(text, { connection: CONNECTION.upgrade }),
    lines('GET / HTTP/1.1', 'Host: a', 'X-A: b', 'Connection: upgrade', 'Upgrade: websocket'),
  );
  const answer = lines('HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket');
  t.equal(
    forward(answer, { connection: CONNECTION.upgrade }, true),
    lines('HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: websocket'),
  );
});

t.test('every form of target becomes one that every server takes', async (t) => {
  const target = (line: string, host: string, path: string | null = null) =>
    forward(lines(`${line} HTTP/1.1`, 'X-A: b', `Host: ${host}`), {
      path: path === null ? null : bytesOf(path),
    });
  const own = (line: string, host: string) => lines(`${line} HTTP/1.1`, `Host: ${host}`, 'X-A: b');
  t.equal(target('GET HTTP://Shop:80/x?y', 'shop:80'), own('GET /x?y', 'Shop:80'));
  t.equal(target('GET http://shop', 'shop'), own('GET /', 'shop'));
  t.equal(target('GET http://shop?y', 'shop'), own('GET /?y', 'shop'));
  t.equal(target('OPTIONS http://shop', 'shop'), own('OPTIONS *', 'shop'));
  t.equal(target('CONNECT shop:443', 'proxy'), own('CONNECT shop:443', 'shop:443'));
  t.equal(target('OPTIONS *', 'shop'), lines('OPTIONS * HTTP/1.1', 'X-A: b', 'Host: shop'));
  t.equal(target('GET http://shop/a//b', 'shop', '/a/b'), own('GET /a/b', 'shop'));
  t.equal(target('GET /%41', 'shop', '/A'), lines('GET /A HTTP/1.1', 'X-A: b', 'Host: shop'));
});

t.test('HTTP/1.0 becomes HTTP/1.1, with a host', async (t) => {
  const text = lines('GET /a HTTP/1.0', 'X-A: b');
  t.equal(forward(text), lines('GET /a HTTP/1.1', 'Host: ', 'X-A: b'));
  t.equal(
    forward(text, { host: bytesOf('10.0.0.1:80') }),
    lines('GET /a HTTP/1.1', 'Host: 10.0.0.1:80', 'X-A: b'),
  );
  const empty = lines('GET /a HTTP/1.1', 'X-A: b', 'Host:');
  t.equal(forward(empty, { host: bytesOf('shop') }), lines('GET /a HTTP/1.1', 'Host: shop', 'X-A: b'));
  const named = lines('GET /a HTTP/1.0', 'Host: web');
  t.equal(forward(named, { host: bytesOf('shop') }), lines('GET /a HTTP/1.1', 'Host: web'));
});

t.test('responses', async (t) => {
  const text = lines('HTTP/1.1 200 OK', 'Server: x', 'Connection: close', 'Content-Length: 5', 'X-A: b');
  t.equal(
    forward(text, { framing: FRAMING.length, contentLength: 5 }, true),
    lines('HTTP/1.1 200 OK', 'Server: x', 'X-A: b', 'Content-Length: 5'),
  );
  t.equal(
    forward(lines('HTTP/1.0 404 Not here', 'X-A: b'), {}, true),
    lines('HTTP/1.1 404 Not here', 'X-A: b'),
  );
  t.equal(forward(lines('HTTP/1.1 200'), {}, true), lines('HTTP/1.1 200 '), 'the space that is demanded');
  t.equal(forward(lines('HTTP/1.1 200 OK', 'TE: trailers'), {}, true), lines('HTTP/1.1 200 OK'));
});

t.test('chunks', async (t) => {
  const into = new Uint8Array(64);
  for (const [size, header] of [
    [1, '1\r\n'],
    [15, 'F\r\n'],
    [16, '10\r\n'],
    [65_536, '10000\r\n'],
    [Number.MAX_SAFE_INTEGER, '1FFFFFFFFFFFFF\r\n'],
  ] as const) {
    const to = writeChunkHeader(size, into, 3);
    t.equal(textOf(into, 3, to), header);
  }
  const chunks = new ChunkedReader();
  t.equal(textOf(into, 0, writeLastChunk(chunks.trailers, into, 0)), '0\r\n\r\n', 'no trailers');
});

t.test('trailers: kept but for what belongs to a head', async (t) => {
  const body = bytesOf('0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHost: x\r\nl5d-a: b\r\nX-End: 2\r\n\r\n');
  const chunks = new ChunkedReader();
  let at = 0;
  while (!chunks.done) at = chunks.next(body, at, body.length);
  t.equal(at, body.length);
  const into = new Uint8Array(256);
  const to = writeLastChunk(chunks.trailers, into, 0);
  t.equal(textOf(into, 0, to), '0\r\nX-Sum: 1\r\nX-End: 2\r\n\r\n');
  t.ok(to <= trailersRoom(chunks.trailers));
});
