/** What a head says: targets, hosts, fields of this hop, framing, upgrades; limits to the byte; reading again. */
import t from 'tap';
import { BODY, FRAMING, Head, PROTOCOL } from '../../proxy/http/head.ts';
import { FIELD, METHOD } from '../../proxy/http/names.ts';
import { describeProblem, MAX_HEAD_BYTES, PROBLEM } from '../../proxy/http/problems.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';
import { isWorthReading } from '../../proxy/http/start-line.ts';
import { bytesOf, plainFields, plainMessage } from '../support/http-codec.ts';

function read(lines: readonly string[], head = new Head()): Head {
  const bytes = bytesOf([...lines, '', ''].join('\r\n'));
  const end = readRequestHead(head, bytes, 0, bytes.length);
  if (end !== bytes.length)
    throw new Error(`${end}: ${end < 0 ? describeProblem(-end, 0).text : 'not whole'}`);
  return head;
}

function readResponse(lines: readonly string[], head = new Head()): Head {
  const bytes = bytesOf([...lines, '', ''].join('\r\n'));
  const end = readResponseHead(head, bytes, 0, bytes.length, METHOD.get);
  if (end !== bytes.length)
    throw new Error(`${end}: ${end < 0 ? describeProblem(-end, 0).text : 'not whole'}`);
  return head;
}

/** Names of the fields that are forwarded. */
function forwarded(head: Head): string[] {
  return plainFields(head).flatMap(([name, , dropped]) => (dropped ? [] : [name]));
}

t.test('a request, whole, and the same Head again for another one', async (t) => {
  const head = read([
    'POST /a/b?c=d HTTP/1.1',
    'Host: shop:8080',
    'X-Empty:',
    'X-Blank: \t a b \t',
    'Content-Length: 12',
    'Expect: 100-Continue',
  ]);
  t.match(plainMessage(head), {
    minor: 1,
    method: 'POST',
    target: '/a/b?c=d',
    form: 'origin',
    path: '/a/b?c=d',
    authority: 'shop:8080',
    framing: FRAMING.length,
    contentLength: 12,
    close: false,
    expectContinue: true,
  });
  t.strictSame(plainFields(head), [
    ['Host', 'shop:8080', false],
    ['X-Empty', '', false],
    ['X-Blank', 'a b', false],
    ['Content-Length', '12', true],
    ['Expect', '100-Continue', false],
  ]);
  t.equal(head.body, BODY.length);
  t.equal(head.method, METHOD.post);
  t.equal(head.value(head.find(bytesOf('x-blank'))), 'a b');
  t.equal(head.find(bytesOf('content-length')), -1, 'what is dropped is not found');
  t.equal(head.find(bytesOf('x-none')), -1);

  read(['GET / HTTP/1.0'], head);
  t.strictSame(
    { ...plainMessage(head), body: head.body },
    { ...plainMessage(read(['GET / HTTP/1.0'])), body: BODY.none },
    'nothing is left of the one before',
  );
  t.equal(head.close, true, 'HTTP/1.0 closes');
  t.equal(head.authorityStart, head.authorityEnd);
});

t.test('what was dropped of one head is not dropped of the next', async (t) => {
  const head = read(['GET / HTTP/1.1', 'Host: a', 'Connection: x-a', 'X-A: 1']);
  t.strictSame(forwarded(head), ['Host']);
  read(['GET / HTTP/1.1', 'X-A: 1', 'X-B: 2', 'Host: a'], head);
  t.strictSame(forwarded(head), ['X-A', 'X-B', 'Host']);
});

t.test('both framings: the same problem in both orders', async (t) => {
  const framings = ['Content-Length: 5', 'Transfer-Encoding: chunked'];
  for (const lines of [framings, framings.toReversed()]) {
    const bytes = bytesOf(['GET / HTTP/1.1', 'Host: a', ...lines, '', ''].join('\r\n'));
    t.equal(readRequestHead(new Head(), bytes, 0, bytes.length), -PROBLEM.lengthAndChunked);
  }
});

t.test('methods are told apart, by case too', async (t) => {
  for (const [word, id] of Object.entries(METHOD)) {
    if (id === METHOD.other || id === METHOD.connect) continue;
    t.equal(read([`${word.toUpperCase()} / HTTP/1.1`, 'Host: a']).method, id, word);
    t.equal(read([`${word} / HTTP/1.1`, 'Host: a']).method, METHOD.other, `${word} in lower case`);
  }
  t.equal(read(['CONNECT a:1 HTTP/1.1', 'Host: a']).method, METHOD.connect);
  t.equal(read(['GETS / HTTP/1.1', 'Host: a']).method, METHOD.other);
});

t.test('targets and hosts', async (t) => {
  const cases: readonly (readonly [string, string, Partial<ReturnType<typeof plainMessage>>])[] = [
    ['GET http://Shop:80/x?y', 'shop:80', { form: 'absolute', path: '/x?y', authority: 'Shop:80' }],
    ['GET https://shop', 'shop', { form: 'absolute', path: '', authority: 'shop' }],
    ['GET http://shop?x', 'shop', { form: 'absolute', path: '?x', authority: 'shop' }],
    ['OPTIONS http://shop', 'shop', { form: 'asterisk', path: '', authority: 'shop' }],
    ['OPTIONS *', 'shop', { form: 'asterisk', path: '', authority: 'shop' }],
    ['CONNECT shop:443', 'proxy:3128', { form: 'authority', path: '', authority: 'shop:443' }],
    ['GET //shop/x', 'admin', { form: 'origin', path: '//shop/x', authority: 'admin' }],
    ['GET /', '', { form: 'origin', path: '/', authority: '' }],
  ];
  for (const [line, host, expected] of cases) {
    t.match(plainMessage(read([`${line} HTTP/1.1`, `Host: ${host}`])), expected, line);
  }
  t.equal(read(['GET http://shop/ HTTP/1.1', 'Host: shop']).targetNamesHost, true);
  t.strictSame(forwarded(read(['GET http://shop/ HTTP/1.1', 'Host: shop'])), [], 'it is written anew');
  t.strictSame(forwarded(read(['GET / HTTP/1.1', 'Host: shop'])), ['Host']);
});

t.test('fields of this hop are dropped, and all that Connection names', async (t) => {
  const head = read([
    'GET / HTTP/1.1',
    'Host: shop',
    'X-Secret: early',
    'Keep-Alive: timeout=5',
    'Proxy-Connection: keep-alive',
    'Connection: x-SECRET , Keep-Alive',
    'TE: gzip;q=0.5, Trailers',
    'Upgrade: websocket',
    'Trailer: X-Sum',
    'Proxy-Authorization: Basic eDp5',
    'x-secret: late',
    'X-Secrets: stay',
    'connection: UPGRADE,x-other',
    'X-Other: 1',
    'Cookie: a=b',
  ]);
  t.strictSame(forwarded(head), ['Host', 'Trailer', 'Proxy-Authorization', 'X-Secrets', 'Cookie']);
  t.equal(head.upgrade, true);
  t.equal(head.protocol, PROTOCOL.websocket);
  t.equal(head.teTrailers, true);
  t.equal(head.keepAlive, true);
  t.equal(head.keepAliveTimeoutMs, 5000);
  t.equal(head.close, false);
});

t.test(
  'mesh fields are dropped in every spelling, unless the peer may send them; Connection cannot remove them',
  async (t) => {
    const lines = [
      'GET / HTTP/1.1',
      'Host: shop',
      'l5d-client-id: forged',
      'L5D_client_id: forged',
      'l5d.Client.Id: forged',
      `l5d-${'x'.repeat(60)}: forged`,
      'l5d: not ours',
      'l5dx-client: not ours',
      'Connection: l5d-client-id',
    ];
    t.strictSame(forwarded(read(lines)), ['Host', 'l5d', 'l5dx-client']);
    const trusting = new Head();
    trusting.keepMesh = true;
    t.equal(forwarded(read(lines, trusting)).length, 7);
    t.equal(trusting.ids[1], FIELD.mesh);
  },
);

t.test('an expectation for this hop alone is none', async (t) => {
  const head = read(['PUT / HTTP/1.1', 'Host: a', 'Expect: 100-continue', 'Connection: expect']);
  t.equal(head.expectContinue, false);
  t.strictSame(forwarded(head), ['Host']);
});

t.test('upgrades', async (t) => {
  const upgrade = (...lines: string[]) => read(['GET / HTTP/1.1', 'Host: a', ...lines]);
  t.equal(upgrade('Upgrade: websocket').upgrade, false, 'not named in Connection');
  t.equal(upgrade('Connection: upgrade').upgrade, false, 'named, and not there');
  t.equal(read(['GET / HTTP/1.0', 'Connection: upgrade', 'Upgrade: websocket']).upgrade, false, 'HTTP/1.0');
  t.equal(upgrade('Connection: upgrade', 'Upgrade: WebSocket').protocol, PROTOCOL.websocket);
  t.equal(upgrade('Connection: upgrade', 'Upgrade: h2c').protocol, PROTOCOL.h2c);
  t.equal(upgrade('Connection: upgrade', 'Upgrade: h2c, websocket').protocol, PROTOCOL.other);
  t.equal(upgrade('Connection: upgrade', 'Upgrade: websocket', 'Upgrade: h2c').protocol, PROTOCOL.other);
  t.equal(upgrade('Connection: upgrade', 'Upgrade: TLS/1.0').protocol, PROTOCOL.other);
});

t.test('keep-alive and close in both versions', async (t) => {
  const close = (version: string, connection: string) =>
    read([`GET / HTTP/${version}`, 'Host: a', `Connection: ${connection}`]).close;
  t.equal(close('1.1', ''), false);
  t.equal(close('1.1', 'close'), true);
  t.equal(close('1.1', 'keep-alive, CLOSE'), true);
  t.equal(close('1.0', ''), true);
  t.equal(close('1.0', 'Keep-Alive'), false);
  t.equal(close('1.0', 'keep-alive, close'), true);
  t.equal(read(['GET / HTTP/1.0', 'Expect: 100-continue']).expectContinue, false);
});

t.test('responses', async (t) => {
  const head = readResponse([
    'HTTP/1.1 503 Not now',
    'Content-Length: 5',
    'Keep-Alive: max=100, timeout=7',
    'l5d-proxy-error: forged',
    'Retry-After: 1',
  ]);
  t.match(plainMessage(head), { status: 503, reason: 'Not now', contentLength: 5, minor: 1 });
  t.strictSame(forwarded(head), ['Retry-After']);
  t.equal(head.keepAliveTimeoutMs, 7000);
  t.equal(
    readResponse(['HTTP/1.1 200 OK', 'Keep-Alive: timeout=99999999999999']).keepAliveTimeoutMs,
    3_600_000,
  );
  t.equal(readResponse(['HTTP/1.1 200 OK', 'Keep-Alive: timeout=, max']).keepAliveTimeoutMs, -1);
  t.equal(readResponse(['HTTP/1.1 200 OK']).body, BODY.untilClose);
});

t.test('the size limit, to the byte, whole and in pieces', async (t) => {
  const start = 'GET / HTTP/1.1\r\nHost: a\r\nX-A: ';
  for (const [size, expected] of [
    [MAX_HEAD_BYTES, MAX_HEAD_BYTES],
    [MAX_HEAD_BYTES + 1, -PROBLEM.headTooLarge],
  ]) {
    const bytes = bytesOf(`${start}${'a'.repeat(size - start.length - 4)}\r\n\r\n`);
    t.equal(bytes.length, size);
    const head = new Head();
    t.equal(readRequestHead(head, bytes, 0, size), expected);
    const early = readRequestHead(head, bytes, 0, Math.min(size, MAX_HEAD_BYTES) - 1);
    t.equal(early, 0, 'one byte less than the limit is waited for');
  }
  const endless = bytesOf(start + 'a'.repeat(MAX_HEAD_BYTES));
  const head = new Head();
  t.equal(readRequestHead(head, endless, 0, endless.length), -PROBLEM.headTooLarge);
  t.strictSame(describeProblem(PROBLEM.headTooLarge, head.seenBytes), {
    status: 431,
    text: `the head is longer than 65536 bytes (${endless.length} seen)`,
  });
});

t.test('a head that is not whole is read again when a line has ended', async (t) => {
  const bytes = bytesOf('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  let readings = 0;
  for (let to = 1; to <= bytes.length; to++) if (isWorthReading(bytes, 0, to - 1, to)) readings++;
  t.equal(readings, 3, 'once per line');
  t.equal(isWorthReading(bytes, 0, bytes.length - 1, bytes.length), true, 'the last byte ends it');
  const long = bytesOf('a'.repeat(MAX_HEAD_BYTES));
  t.equal(isWorthReading(long, 0, MAX_HEAD_BYTES - 1, MAX_HEAD_BYTES), true, 'too large without any line');
});

t.test('every problem has words, and 505 and 431 where they belong', async (t) => {
  for (const [name, problem] of Object.entries(PROBLEM)) {
    const { status, text } = describeProblem(problem, 70_000);
    t.ok([400, 431, 505].includes(status) && text.length > 20 && !text.includes('%s'), `${name}: ${text}`);
    t.notMatch(text, /% seen/, name);
  }
  t.throws(() => describeProblem(0, 0), /no problem 0/);
});
