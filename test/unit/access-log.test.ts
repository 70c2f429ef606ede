/** The lines of the access log: what they say, and that nothing a stranger sends leaves its field. */
import fc from 'fast-check';
import t from 'tap';
import type { PeerAddress } from '../../proxy/core/address.ts';
import { AccessLog } from '../../proxy/forward/access-log.ts';
import { Head } from '../../proxy/http/head.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import type { AccessFormat, RequestTexts } from '../../proxy/model/access.ts';
import { ProxyConnection } from '../../proxy/model/connection.ts';
import { Decision } from '../../proxy/model/decision.ts';
import { createEndpoint } from '../support/balance.ts';
import { at } from '../support/engine.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 50_000 : 2_000 };

const GET =
  'GET /cart?id=1 HTTP/1.1\r\nHost: Shop.example:80\r\nUser-Agent: curl/8\r\nReferer: http://a/\r\n\r\n';
const NO_BODIES = { request: 0, response: 0 };
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT_ID = '00f067aa0ba902b7';

function headOf(text: string): Head {
  const head = new Head();
  const bytes = Buffer.from(text, 'latin1');
  if (readRequestHead(head, bytes, 0, bytes.length) <= 0) throw new Error(`no head: ${text}`);
  return head;
}

/** A decision that has ended, after 3.5 ms. */
function decide(head: Head | undefined, change: Partial<Decision> = {}): Decision {
  const connection = new ProxyConnection('outbound', 1, at('127.0.0.1:1000') as PeerAddress, undefined);
  const decision = new Decision();
  decision.begin(1, connection, head, performance.now() - 3.5);
  decision.endedMs = decision.startedMs + 3.5;
  return Object.assign(decision, { outcome: 'answered', status: 200 }, change);
}

function lineOf(
  format: AccessFormat,
  decision: Decision,
  texts: RequestTexts | undefined,
  bytes = NO_BODIES,
): string {
  const lines: string[] = [];
  const access = new AccessLog(format, (line) => lines.push(line));
  access.add(decision, '0-1', texts, bytes, decision.endedMs);
  if (lines.length !== 1) throw new Error(`${lines.length} lines`);
  return lines[0];
}

function textsOf(head: Head): RequestTexts {
  return new AccessLog('json', () => undefined).take(head);
}

/** The line for a request of these bytes. */
function logged(format: AccessFormat, text: string, change: Partial<Decision> = {}, bytes = NO_BODIES) {
  const head = headOf(text);
  return lineOf(format, decide(head, change), textsOf(head), bytes);
}

t.test('Apache: the combined format', async (t) => {
  const line = logged('apache', GET, {}, { request: 7, response: 1234 });
  t.match(
    line,
    /^127\.0\.0\.1 - - \[\d\d\/[A-Z][a-z]{2}\/20\d\d:\d\d:\d\d:\d\d \+0000\] "GET \/cart\?id=1 HTTP\/1\.1" 200 1234 "http:\/\/a\/" "curl\/8"\n$/,
  );
  const [, day, month, year, time] = /\[(\d+)\/(\w+)\/(\d+):(\S+) /.exec(line)!;
  t.ok(Math.abs(Date.parse(`${day} ${month} ${year} ${time} UTC`) - Date.now()) < 5_000, 'the time it began');

  t.match(
    logged('apache', 'GET / HTTP/1.0\r\n\r\n'),
    /"GET \/ HTTP\/1\.0" 200 - "-" "-"\n$/,
    'what is not there',
  );
  t.match(logged('apache', 'GET / HTTP/1.0\r\nReferer:\r\n\r\n'), / "" "-"\n$/, 'an empty field is there');
  const identity = { text: 'web.default.x', dnsNames: ['web.default.x'], spiffeId: undefined };
  t.match(
    logged('apache', GET, { identity }),
    /^127\.0\.0\.1 - web\.default\.x \[/,
    'who has proved to be whom',
  );
  const client = at('[2001:db8::1]:5') as PeerAddress;
  t.match(logged('apache', GET, { client }), /^2001:db8::1 - - \[/, 'IPv6');
  t.match(logged('apache', GET, { status: 0, outcome: 'client left' }), /" 499 - /, 'nobody was answered');
  t.match(logged('apache', GET, { status: 0, outcome: 'under way' }), /" 000 - /);
  t.match(logged('apache', GET, { status: 206, outcome: 'client left' }), /" 206 - /);
  const unread = decide(undefined, { status: 400, outcome: 'refused' });
  t.match(lineOf('apache', unread, undefined), /\] "-" 400 - "-" "-"\n$/, 'what was no request');
});

t.test('Apache: every byte is escaped as Apache does', async (t) => {
  const short: Readonly<Record<number, string>> = {
    8: '\\b',
    9: '\\t',
    10: '\\n',
    11: '\\v',
    13: '\\r',
    34: '\\"',
    92: '\\\\',
  };
  for (let byte = 0; byte < 256; byte++) {
    const plain = byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : undefined;
    const expected = short[byte] ?? plain ?? `\\x${byte.toString(16).padStart(2, '0')}`;
    const texts = { ...textsOf(headOf(GET)), userAgent: `<${String.fromCharCode(byte)}>` };
    const line = lineOf('apache', decide(headOf(GET)), texts);
    t.ok(line.endsWith(` "<${expected}>"\n`), `byte ${byte} is ${expected}`);
  }
  const named = { text: '\u20ac', dnsNames: [], spiffeId: undefined };
  t.match(logged('apache', GET, { identity: named }), / - \\xe2\\x82\\xac \[/, 'beyond Latin-1');
});

t.test('JSON: every field', async (t) => {
  const head = headOf(
    `POST http://Shop.example/x HTTP/1.1\r\nHost: Shop.example\r\ntraceparent: 00-${TRACE_ID}-${PARENT_ID}-01\r\n` +
      'User-Agent: curl/8\r\nReferer: http://a/\r\nContent-Length: 5\r\n\r\n',
  );
  const decision = decide(head, {
    identity: { text: 'spiffe://x/ns/a/sa/b', dnsNames: [], spiffeId: 'spiffe://x/ns/a/sa/b' },
  });
  decision.attempt(
    createEndpoint({ ip: '10.0.0.1', port: 80, weight: 1, labels: {} }),
    undefined,
    false,
    -1,
    0,
  );
  decision.attempt(
    createEndpoint({ ip: '10.0.0.2', port: 81, weight: 1, labels: {} }),
    undefined,
    false,
    -1,
    0,
  );
  decision.answeredMs = decision.startedMs + 2;
  const { timestamp, ...rest } = JSON.parse(
    lineOf('json', decision, textsOf(head), { request: 5, response: 6 }),
  );
  t.match(timestamp, /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.ok(Math.abs(Date.parse(timestamp) - Date.now()) < 5_000);
  t.strictSame(rest, {
    direction: 'outbound',
    client_addr: '127.0.0.1:1000',
    client_id: 'spiffe://x/ns/a/sa/b',
    host: 'Shop.example',
    method: 'POST',
    uri: 'http://Shop.example/x',
    version: 'HTTP/1.1',
    trace_id: TRACE_ID,
    user_agent: 'curl/8',
    referer: 'http://a/',
    request_bytes: 5,
    response_bytes: 6,
    status: 200,
    total_ns: 3_500_000,
    processing_ns: 2_000_000,
    endpoint: '10.0.0.2:81',
    decision: '0-1',
  });
});

t.test('JSON: what there is none of is absent, and reasons are told', async (t) => {
  const fields = (change: Partial<Decision>) => JSON.parse(logged('json', 'GET / HTTP/1.0\r\n\r\n', change));
  t.strictSame(Object.keys(fields({ status: 0, outcome: 'client left' })).sort(), [
    ...['client_addr', 'decision', 'direction', 'error', 'method', 'request_bytes', 'response_bytes'],
    ...['timestamp', 'total_ns', 'uri', 'version'],
  ]);
  t.equal(fields({ status: 0, outcome: 'client left' }).error, 'client left');
  t.equal(fields({ outcome: 'broken off' }).error, 'broken off');
  t.match(fields({ outcome: 'refused', status: 502, error: 'connect', message: 'no endpoint' }), {
    status: 502,
    error: 'connect',
    message: 'no endpoint',
  });
  const unread = decide(undefined, { status: 400, outcome: 'refused', error: 'bad_request' });
  const line = JSON.parse(lineOf('json', unread, undefined));
  t.match(line, { status: 400, error: 'bad_request', direction: 'outbound' });
  t.notOk('method' in line || 'uri' in line || 'host' in line, 'what was no request has no head');
});

t.test('the id of the trace, by the first custom that is followed', async (t) => {
  const idOf = (...fields: string[]) =>
    textsOf(headOf(`GET / HTTP/1.1\r\nHost: a\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`))
      .traceId;
  const w3c = `traceparent: 00-${TRACE_ID}-${PARENT_ID}-01`;
  const [b3, request, amazon] = ['X-B3-TraceId: b3', 'x-request-id: id-1', 'X-Amzn-Trace-Id: Root=1-2-3'];
  t.equal(idOf(amazon, request, b3, w3c), TRACE_ID);
  t.equal(idOf(amazon, request, b3), 'b3');
  t.equal(idOf(amazon, request), 'id-1');
  t.equal(idOf(amazon), 'Root=1-2-3');
  t.equal(idOf(), undefined);
  t.equal(idOf(`traceparent: cc-${TRACE_ID}-${PARENT_ID}-01-later`), TRACE_ID, 'a later version');
  for (const wrong of [
    `ff-${TRACE_ID}-${PARENT_ID}-01`,
    `00-${'0'.repeat(32)}-${PARENT_ID}-01`,
    `00-${TRACE_ID}-${'0'.repeat(16)}-01`,
    `00-${TRACE_ID.toUpperCase()}-${PARENT_ID}-01`,
    `00-${TRACE_ID}-${PARENT_ID}-01x`,
    'nonsense',
  ])
    t.equal(idOf(`traceparent: ${wrong}`, b3), 'b3', `not ${wrong}`);
});

t.test('long texts are cut, and the line stays what it is', async (t) => {
  const line = logged(
    'apache',
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\nUser-Agent: ${'b'.repeat(20_000)}\r\n\r\n`,
  );
  t.match(line, /"GET \/a{8189} HTTP\/1\.1" 200 - "-" "b{8190}"\n$/);
});

const value = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((byte) => String.fromCharCode(byte)) });
const texts = fc.record({
  method: value,
  uri: value,
  version: fc.constantFrom('HTTP/1.0' as const, 'HTTP/1.1' as const),
  host: value,
  userAgent: fc.option(value, { nil: undefined }),
  referer: fc.option(value, { nil: undefined }),
  traceId: fc.option(value, { nil: undefined }),
});
const name = fc.string({ unit: 'binary' });

t.test('JSON is read back as it was, and is one line of ASCII, whatever the bytes', async (t) => {
  fc.assert(
    fc.property(texts, name, name, (texts, message, text) => {
      const identity = { text, dnsNames: [], spiffeId: undefined };
      const line = lineOf('json', decide(headOf(GET), { message, identity }), texts);
      const read = JSON.parse(line);
      return (
        /^[\x20-\x7e]+\n$/.test(line) &&
        read.method === texts.method &&
        read.uri === texts.uri &&
        (read.host ?? '') === texts.host &&
        read.user_agent === texts.userAgent &&
        read.referer === texts.referer &&
        read.trace_id === texts.traceId &&
        read.client_id === text &&
        (read.message ?? '') === message
      );
    }),
    RUNS,
  );
  t.equal(
    JSON.parse(logged('json', 'GET / HTTP/1.1\r\nHost: a\r\nReferer: caf\xe9\r\n\r\n')).referer,
    'café',
  );
  t.match(logged('json', 'GET / HTTP/1.1\r\nHost: a\r\nReferer: caf\xe9\r\n\r\n'), 'caf\\u00e9');
});

t.test('Apache: one line of ASCII with its quoted fields, whatever the bytes', async (t) => {
  const combined =
    /^\S+ - [\x20-\x7e]* \[[^\]]+\] "((?:[^"\\]|\\.)*)" 200 - "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n$/;
  fc.assert(
    fc.property(texts, (texts) => {
      const fields = combined
        .exec(lineOf('apache', decide(headOf(GET)), texts))
        ?.slice(1)
        .map(unescaped);
      const { method, uri, version, referer, userAgent } = texts;
      return (
        fields !== undefined &&
        fields[0] === `${method} ${uri} ${version}` &&
        fields[1] === (referer ?? '-') &&
        fields[2] === (userAgent ?? '-')
      );
    }),
    RUNS,
  );
  t.match(
    logged('apache', 'GET / HTTP/1.1\r\nHost: a\r\nReferer: a" 200 1 "b\\\r\n\r\n'),
    ' "a\\" 200 1 \\"b\\\\" "-"\n',
  );
});

function unescaped(text: string): string {
  const letters: Readonly<Record<string, string>> = { b: '\b', n: '\n', r: '\r', t: '\t', v: '\v' };
  return text.replaceAll(/\\(?:x(..)|(.))/g, (_, hex: string | undefined, char: string) =>
    hex === undefined ? (letters[char] ?? char) : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
