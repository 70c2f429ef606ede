/** Heads and trailers between HTTP/1 and HTTP/2, by example: what is said in which of the two, and what is not. */
import t from 'tap';
import { ChunkedReader } from '../../proxy/http/chunked.ts';
import { FieldList } from '../../proxy/http/h2/field.ts';
import { asksForWebSocket, trailerFields } from '../../proxy/http/h2/from-http1.ts';
import {
  dropMeshFields,
  dropOriginalProtocol,
  isOriginalProtocol,
  originalMinor,
} from '../../proxy/http/h2/original-protocol.ts';
import { OwnFields } from '../../proxy/http/h2/own-fields.ts';
import {
  fieldTrailersRoom,
  requestFraming,
  responseFraming,
  writeFieldTrailers,
} from '../../proxy/http/h2/to-http1.ts';
import {
  isAccepted,
  makeWebSocketKey,
  webSocketAccept,
  webSocketKeyOf,
} from '../../proxy/http/h2/websocket.ts';
import { FRAMING, Head } from '../../proxy/http/head.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';
import { CONNECTION } from '../../proxy/http/write.ts';
import { fieldsOfHead, headOf, linesOf, listOf, type Pair } from '../support/h2-fields.ts';
import { bytesOf, textOf } from '../support/http-codec.ts';

function lines(...all: string[]): string {
  return [...all, '', ''].join('\r\n');
}

const GET: readonly Pair[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'shop:80'],
  [':path', '/a?b'],
];
const OK: readonly Pair[] = [[':status', '200']];
const OWN = new OwnFields([['l5d-client-id', 'web']]);

t.test('a request of HTTP/1 as fields', async (t) => {
  const text = lines(
    'GET /a?b HTTP/1.1',
    'X-A: b',
    'Host: shop:80',
    'Connection: keep-alive, X-Gone',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: close',
    'X-Gone: 1',
    'TE: gzip, trailers',
    'Content-Length: 0012',
    'Expect: 100-continue',
    'l5d-client-id: forged',
    'l5d-orig-proto: HTTP/1.1',
    'Cookie: a=b; c=d',
    'X-Empty:',
  );
  t.strictSame(linesOf(fieldsOfHead(text)), [
    ':method: GET',
    ':scheme: http',
    ':authority: shop:80',
    ':path: /a?b',
    'x-a: b',
    'content-length: 12',
    'expect: 100-continue',
    'cookie: a=b; c=d',
    'x-empty: ',
    'te: trailers',
  ]);
  const told = linesOf(fieldsOfHead(text, { original: true }));
  t.strictSame(told.slice(-2), ['te: trailers', 'l5d-orig-proto: HTTP/1.1']);
});

t.test('every form of target, every method', async (t) => {
  const start = (line: string, host: string, more = {}) =>
    linesOf(fieldsOfHead(lines(line, ...(host === '' ? [] : [`Host: ${host}`])), more));
  const is = (method: string, authority: string, path: string) => [
    `:method: ${method}`,
    ':scheme: http',
    `:authority: ${authority}`,
    `:path: ${path}`,
  ];
  t.strictSame(start('GET http://Shop/a HTTP/1.1', 'shop'), is('GET', 'Shop', '/a'));
  t.strictSame(start('GET http://shop HTTP/1.1', 'shop'), is('GET', 'shop', '/'));
  t.strictSame(start('GET http://shop?q HTTP/1.1', 'shop'), is('GET', 'shop', '/?q'));
  t.strictSame(start('OPTIONS http://shop HTTP/1.1', 'shop'), is('OPTIONS', 'shop', '*'));
  t.strictSame(start('OPTIONS * HTTP/1.1', 'shop'), is('OPTIONS', 'shop', '*'));
  t.strictSame(start('CONNECT shop:443 HTTP/1.1', 'proxy'), [':method: CONNECT', ':authority: shop:443']);
  t.strictSame(start('PURGE /a HTTP/1.1', 'shop'), is('PURGE', 'shop', '/a'));
  t.strictSame(start('get /a HTTP/1.1', 'shop'), is('get', 'shop', '/a'));
  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'TRACE']) {
    t.strictSame(start(`${method} / HTTP/1.1`, 'shop'), is(method, 'shop', '/'));
  }
  const host = bytesOf('10.0.0.1:80');
  t.strictSame(start('GET / HTTP/1.0', '', { host }), is('GET', '10.0.0.1:80', '/'));
  t.strictSame(start('GET / HTTP/1.0', 'shop', { host }), is('GET', 'shop', '/'));
  t.strictSame(start('GET / HTTP/1.0', ''), [':method: GET', ':scheme: http', ':path: /'], 'no host at all');
});

t.test('l5d-orig-proto, byte for byte as linkerd2-proxy has it', async (t) => {
  for (const [line, value] of [
    ['GET / HTTP/1.1', 'HTTP/1.1'],
    ['GET / HTTP/1.0', 'HTTP/1.0'],
    ['GET http://a/ HTTP/1.1', 'HTTP/1.1; absolute-form'],
    ['GET http://a/ HTTP/1.0', 'HTTP/1.0; absolute-form'],
  ] as const) {
    const list = fieldsOfHead(lines(line, 'Host: a'), { original: true });
    t.equal(linesOf(list).at(-1), `l5d-orig-proto: ${value}`);
    t.equal(originalMinor(list), Number(value[7]));
  }
  const answer = fieldsOfHead(lines('HTTP/1.0 200 OK'), { original: true }, METHOD.get);
  t.strictSame(linesOf(answer), [':status: 200', 'l5d-orig-proto: HTTP/1.0']);
  for (const value of ['', 'HTTP/', 'HTTP/1.', 'HTTP/1.2', 'HTTP/2.0', 'h2']) {
    t.equal(originalMinor(listOf([...GET, ['l5d-orig-proto', value]])), -1, JSON.stringify(value));
  }
  t.equal(originalMinor(listOf([...GET, ['l5d-orig-protocol', 'HTTP/1.1']])), -1);
  t.equal(originalMinor(listOf(GET)), -1);
  t.equal(isOriginalProtocol(listOf([['l5d-client-id', 'a']]).items[0]), false);
  t.equal(
    headOf(listOf([...GET, ['l5d-orig-proto', 'HTTP/1.1']])),
    lines('GET /a?b HTTP/1.1', 'Host: shop:80'),
  );
});

t.test('what a peer said of a request goes no further', async (t) => {
  const list = listOf([
    ...GET,
    ['l5d-orig-proto', 'HTTP/1.1'],
    ['x-a', 'b'],
    ['l5d-client-id', 'forged'],
    ['L5D_x', ''],
  ]);
  dropMeshFields(list);
  t.strictSame(linesOf(list), linesOf(listOf([...GET, ['x-a', 'b']])));
  t.equal(list.size, listOf([...GET, ['x-a', 'b']]).size);
  dropMeshFields(list);
  t.equal(list.count, GET.length + 1, 'nothing more');
});

t.test('what a peer says of a response that was asked for on its behalf goes no further', async (t) => {
  const answer = [
    [':status', '502'],
    ['l5d-proxy-error', 'why'],
  ] as const;
  const list = listOf([...answer, ['l5d-orig-proto', 'HTTP/1.1'], ['x-a', 'b']]);
  dropOriginalProtocol(list);
  t.strictSame(linesOf(list), linesOf(listOf([...answer, ['x-a', 'b']])), 'what it says to the client does');
  t.equal(list.size, listOf([...answer, ['x-a', 'b']]).size);
});

t.test('a response of HTTP/1 as fields', async (t) => {
  const fields = (text: string, method: number = METHOD.get) => linesOf(fieldsOfHead(text, {}, method));
  t.strictSame(
    fields(
      lines(
        'HTTP/1.1 404 Not here',
        'Server: x',
        'Connection: close',
        'Transfer-Encoding: chunked',
        'Set-Cookie: a',
        'Set-Cookie: b',
        'Trailer: x-sum',
        'l5d-proxy-error: forged',
      ),
    ),
    [':status: 404', 'server: x', 'set-cookie: a', 'set-cookie: b', 'trailer: x-sum'],
  );
  t.strictSame(fields(lines('HTTP/1.1 200 OK', 'Content-Length: 5'), METHOD.head), [
    ':status: 200',
    'content-length: 5',
  ]);
  t.strictSame(fields(lines('HTTP/1.1 304 Not Modified', 'Content-Length: 5')), [
    ':status: 304',
    'content-length: 5',
  ]);
  t.strictSame(fields(lines('HTTP/1.1 204 No Content', 'Content-Length: 5')), [':status: 204']);
  t.strictSame(fields(lines('HTTP/1.1 103 Early Hints', 'Link: </a>')), [':status: 103', 'link: </a>']);
  t.strictSame(fields(lines('HTTP/1.1 999 ')), [':status: 999']);
  t.strictSame(fields(lines('HTTP/1.1 200 OK', 'Content-Length: 5'), METHOD.connect), [':status: 200']);
});

t.test('fields as a request of HTTP/1', async (t) => {
  const list = listOf([
    ...GET,
    ['cookie', 'a=b'],
    ['x-a', 'b'],
    ['cookie', 'c=d'],
    ['te', 'trailers'],
    ['content-length', '7'],
    ['l5d-client-id', 'forged'],
    ['cookie', 'e=f'],
    ['x-empty', ''],
  ]);
  const kept = ['GET /a?b HTTP/1.1', 'Host: shop:80', 'cookie: a=b; c=d; e=f', 'x-a: b', 'x-empty: '];
  t.equal(headOf(list), lines(...kept, 'Connection: TE', 'TE: trailers'));
  t.equal(
    headOf(list, {
      framing: FRAMING.length,
      contentLength: 7,
      connection: CONNECTION.close,
      extra: OWN.lines,
    }),
    lines(...kept, 'Content-Length: 7', 'Connection: close, TE', 'TE: trailers', 'l5d-client-id: web'),
  );
  t.equal(
    headOf(listOf(GET), { framing: FRAMING.chunked, path: bytesOf('/other') }),
    lines('GET /other HTTP/1.1', 'Host: shop:80', 'Transfer-Encoding: chunked'),
  );
  const long = 'x'.repeat(5000);
  t.equal(
    headOf(listOf([...GET, [long, long]])),
    lines('GET /a?b HTTP/1.1', 'Host: shop:80', `${long}: ${long}`),
  );
});

t.test('the host of a request', async (t) => {
  const [method, scheme, authority, path] = GET;
  const host = bytesOf('10.0.0.1:80');
  const named = (pairs: readonly Pair[]) => headOf(listOf(pairs), { host }).split('\r\n').slice(1, -2);
  t.strictSame(named([method, scheme, authority, path, ['host', 'shop:80']]), ['Host: shop:80'], 'once');
  t.strictSame(named([method, scheme, path]), ['Host: 10.0.0.1:80']);
  t.equal(headOf(listOf([method, scheme, path])), lines('GET /a?b HTTP/1.1', 'Host: '));
  t.equal(
    headOf(
      listOf([
        [':method', 'CONNECT'],
        [':authority', 'shop:443'],
      ]),
    ),
    lines('CONNECT shop:443 HTTP/1.1', 'Host: shop:443'),
  );
  t.equal(
    headOf(
      listOf([
        [':path', '*'],
        [':authority', 'a'],
        [':scheme', 'https'],
        [':method', 'OPTIONS'],
      ]),
    ),
    lines('OPTIONS * HTTP/1.1', 'Host: a'),
    'pseudo fields in another order',
  );
});

t.test('fields as a response of HTTP/1', async (t) => {
  const list = listOf([
    ...OK,
    ['content-length', '5'],
    ['set-cookie', 'a'],
    ['set-cookie', 'b'],
    ['host', 'x'],
    ['cookie', 'c'],
    ['te', 'trailers'],
    ['l5d-proxy-error', 'a peer says why'],
    ['l5d-orig-proto', 'HTTP/1.1'],
  ]);
  const kept = ['set-cookie: a', 'set-cookie: b', 'host: x', 'cookie: c', 'l5d-proxy-error: a peer says why'];
  t.equal(
    headOf(list, { framing: FRAMING.length, contentLength: 5, connection: CONNECTION.keepAlive }, true),
    lines('HTTP/1.1 200 OK', ...kept, 'Content-Length: 5', 'Connection: keep-alive'),
  );
  t.equal(headOf(listOf([[':status', '103']]), {}, true), lines('HTTP/1.1 103 Early Hints'));
  t.equal(headOf(listOf([[':status', '799']]), {}, true), lines('HTTP/1.1 799 '));
});

t.test('trailers both ways', async (t) => {
  const sent = 'X-Sum: 1\r\nContent-Length: 5\r\nHost: x\r\nl5d-a: b\r\nGrpc-Status: 0\r\nCookie: c\r\n';
  const chunks = new ChunkedReader();
  const body = bytesOf(`0\r\n${sent}\r\n`);
  let at = 0;
  while (!chunks.done) at = chunks.next(body, at, body.length);
  const list = new FieldList();
  trailerFields(chunks.trailers, list);
  t.strictSame(linesOf(list), ['x-sum: 1', 'grpc-status: 0', 'cookie: c']);

  const written = (pairs: readonly Pair[]) => {
    const trailers = listOf(pairs);
    const into = new Uint8Array(fieldTrailersRoom(trailers));
    return textOf(into, 0, writeFieldTrailers(trailers, into, 0));
  };
  t.equal(
    written([
      ['x-sum', '1'],
      ['cookie', 'a'],
      ['cookie', 'b'],
    ]),
    '0\r\nx-sum: 1\r\ncookie: a\r\ncookie: b\r\n\r\n',
  );
  t.equal(
    written([
      ['host', 'x'],
      ['content-length', '5'],
      ['l5d-a', 'b'],
      ['trailer', 'x'],
    ]),
    '0\r\n\r\n',
  );
  t.equal(written([]), '0\r\n\r\n');
});

t.test('where a body ends', async (t) => {
  const { none, length, chunked } = FRAMING;
  t.equal(requestFraming(METHOD.post, 5, false), length);
  t.equal(requestFraming(METHOD.post, 0, true), length);
  t.equal(requestFraming(METHOD.post, -1, false), chunked);
  t.equal(requestFraming(METHOD.get, -1, false), chunked);
  t.equal(requestFraming(METHOD.get, -1, true), none);
  t.equal(requestFraming(METHOD.connect, -1, false), none, 'a tunnel');
  for (const minor of [0, 1]) {
    t.equal(responseFraming(METHOD.get, 200, 5, false, minor), length);
    t.equal(responseFraming(METHOD.get, 200, -1, true, minor), length, 'nothing: a length of 0');
    t.equal(responseFraming(METHOD.get, 200, -1, false, minor), minor === 1 ? chunked : none);
    t.equal(responseFraming(METHOD.head, 200, 5, true, minor), length);
    t.equal(responseFraming(METHOD.head, 200, -1, true, minor), none);
    t.equal(responseFraming(METHOD.get, 304, 5, true, minor), length);
    t.equal(responseFraming(METHOD.get, 304, -1, true, minor), none);
    t.equal(responseFraming(METHOD.get, 204, 0, true, minor), none);
    t.equal(responseFraming(METHOD.get, 103, -1, false, minor), none);
    t.equal(responseFraming(METHOD.connect, 200, -1, false, minor), none);
    t.equal(responseFraming(METHOD.connect, 403, 3, false, minor), length);
  }
});

/** The example of RFC 6455 section 1.3. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

t.test('a WebSocket from HTTP/1 to HTTP/2 and back', async (t) => {
  const text = lines(
    'GET /chat HTTP/1.1',
    'Host: shop',
    'Upgrade: WebSocket',
    'Connection: Upgrade',
    `sec-websocket-KEY: ${KEY}`,
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Protocol: chat',
  );
  t.strictSame(linesOf(fieldsOfHead(text, { webSocket: true })), [
    ':method: CONNECT',
    ':protocol: websocket',
    ':scheme: http',
    ':authority: shop',
    ':path: /chat',
    'sec-websocket-version: 13',
    'sec-websocket-protocol: chat',
  ]);
  const head = new Head();
  const bytes = bytesOf(text);
  readRequestHead(head, bytes, 0, bytes.length);
  t.equal(asksForWebSocket(head), true);
  const key = webSocketKeyOf(head);
  t.equal(key === undefined ? '' : textOf(key), KEY);
  t.equal(
    headOf(
      listOf([...OK, ['sec-websocket-protocol', 'chat'], ['sec-websocket-accept', 'nonsense']]),
      { webSocketKey: bytesOf(KEY), connection: CONNECTION.upgrade },
      true,
    ),
    lines(
      'HTTP/1.1 101 Switching Protocols',
      'sec-websocket-protocol: chat',
      'Connection: upgrade',
      'Upgrade: websocket',
      `Sec-WebSocket-Accept: ${ACCEPT}`,
    ),
  );
});

t.test('a WebSocket from HTTP/2 to HTTP/1 and back', async (t) => {
  const list = listOf([
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    [':scheme', 'https'],
    [':path', '/chat'],
    [':authority', 'shop'],
    ['sec-websocket-version', '13'],
    ['sec-websocket-key', 'of nobody'],
  ]);
  const key = makeWebSocketKey();
  t.match(textOf(key), /^[A-Za-z0-9+/]{22}==$/);
  t.notSame(makeWebSocketKey(), key, 'another one each time');
  const text = headOf(list, { webSocketKey: key, connection: CONNECTION.upgrade });
  t.equal(
    text,
    lines(
      'GET /chat HTTP/1.1',
      'Host: shop',
      'sec-websocket-version: 13',
      'Connection: upgrade',
      'Upgrade: websocket',
      `Sec-WebSocket-Key: ${textOf(key)}`,
    ),
  );
  t.strictSame(
    linesOf(fieldsOfHead(text, { webSocket: true })),
    [
      ':method: CONNECT',
      ':protocol: websocket',
      ':scheme: http',
      ':authority: shop',
      ':path: /chat',
      'sec-websocket-version: 13',
    ],
    'and back again',
  );

  t.equal(textOf(webSocketAccept(bytesOf(KEY))), ACCEPT);
  const answer = (accept: string) => {
    const head = new Head();
    const bytes = bytesOf(
      lines(
        'HTTP/1.1 101 Switching Protocols',
        'Upgrade: websocket',
        'Connection: Upgrade',
        accept,
        'X-A: b',
      ),
    );
    t.equal(readResponseHead(head, bytes, 0, bytes.length, METHOD.get), bytes.length);
    return head;
  };
  const right = answer(`Sec-WebSocket-Accept: ${ACCEPT}`);
  t.equal(isAccepted(right, bytesOf(KEY)), true);
  for (const wrong of [
    'X-None: 1',
    'Sec-WebSocket-Accept:',
    `Sec-WebSocket-Accept: ${ACCEPT.toLowerCase()}`,
  ]) {
    t.equal(isAccepted(answer(wrong), bytesOf(KEY)), false, wrong);
  }
  t.equal(isAccepted(right, key), false, 'of another key');
  t.strictSame(linesOf(fieldsOfHead(textOf(right.bytes), { webSocket: true }, METHOD.get)), [
    ':status: 200',
    'x-a: b',
  ]);
});

t.test('requests that are no WebSocket', async (t) => {
  const head = new Head();
  for (const [line, ...more] of [
    ['POST / HTTP/1.1', 'Upgrade: websocket', 'Connection: Upgrade'],
    ['GET / HTTP/1.1', 'Upgrade: h2c', 'Connection: Upgrade'],
    ['GET / HTTP/1.1', 'Upgrade: websocket'],
    ['GET / HTTP/1.1', 'Sec-WebSocket-Key: short'],
  ]) {
    const bytes = bytesOf(lines(line, 'Host: a', ...more));
    readRequestHead(head, bytes, 0, bytes.length);
    t.equal(asksForWebSocket(head), false, `${line} ${more}`);
    t.equal(webSocketKeyOf(head), undefined);
  }
});

t.test("the proxy's own fields are right, or not made", async (t) => {
  t.equal(textOf(OWN.lines), 'l5d-client-id: web\r\n');
  t.equal(OWN.fields.length, 1);
  for (const pair of [
    ['Upper', 'a'],
    ['a', 'b\r\n'],
    ['', 'a'],
    ['connection', 'close'],
  ] as const) {
    t.throws(() => new OwnFields([pair]), /is no field that can be sent/, pair.join(': '));
  }
});
