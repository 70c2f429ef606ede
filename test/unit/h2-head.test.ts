/** Heads and trailers of HTTP/2 (RFC 9113 section 8, RFC 8441): what is malformed, and what of the rest is forwarded. */
import t from 'tap';
import type { FieldList } from '../../proxy/http/h2/field.ts';
import { H2Head, methodOf, readRequest, readResponse, readTrailers } from '../../proxy/http/h2/head.ts';
import { describeH2Problem } from '../../proxy/http/h2/problems.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { changed, GET, type PlainField, plainFields } from '../support/h2.ts';
import { listOf } from '../support/h2-session.ts';

const head = new H2Head();

function fill(fields: readonly PlainField[]): void {
  const made = listOf(fields);
  head.fields.clear();
  for (const field of made.items) head.fields.push(field);
}

/** The problem of a request in words, or what is forwarded. */
function request(fields: readonly PlainField[]): string | PlainField[] {
  fill(fields);
  const problem = readRequest(head);
  return problem === 0 ? forwarded(head.fields) : describeH2Problem(problem).text;
}

function response(fields: readonly PlainField[]): string | PlainField[] {
  fill(fields);
  const problem = readResponse(head);
  return problem === 0 ? forwarded(head.fields) : describeH2Problem(problem).text;
}

/** What is left, whose size must be right. */
function forwarded(list: FieldList): PlainField[] {
  const fields = plainFields(list);
  const size = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
  if (size !== list.size) throw new Error(`the size is said to be ${list.size} and is ${size}`);
  return fields;
}

const CONNECT: readonly PlainField[] = [
  [':method', 'CONNECT'],
  [':authority', 'web.test:443'],
];
const WEBSOCKET: readonly PlainField[] = [...changed(GET, ':method', 'CONNECT'), [':protocol', 'websocket']];

t.test('requests that are malformed', async (t) => {
  const cases: readonly (readonly [fields: readonly PlainField[], text: RegExp])[] = [
    [[], /is missing/],
    [changed(GET, ':method'), /is missing/],
    [changed(GET, ':scheme'), /is missing/],
    [changed(GET, ':path'), /is missing/],
    [[...GET.slice(0, 3), ['accept', '*/*'], GET[3]], /behind a regular one/],
    [[...GET, [':status', '200']], /another kind of message/],
    [[...GET, [':new', '1']], /no RFC defines/],
    [[...GET, GET[2]], /there twice/],
    [changed(GET, ':method', ''), /no token/],
    [changed(GET, ':method', 'GE T'), /no token/],
    [changed(GET, ':scheme', 'ftp'), /neither http nor https/],
    [changed(GET, ':authority', 'user@web.test'), /no host name/],
    [changed(GET, ':authority', 'web.test:99999'), /no host name/],
    [changed(GET, ':authority', 'a,b'), /no host name/],
    [changed(GET, ':path', ''), /does not begin with a slash/],
    [changed(GET, ':path', 'a'), /does not begin with a slash/],
    [changed(GET, ':path', '*'), /does not begin with a slash/],
    [changed(GET, ':path', 'http://web.test/'), /does not begin with a slash/],
    [changed(GET, ':path', '/a b'), /a byte that no path has/],
    [changed(GET, ':path', '/a\tb'), /a byte that no path has/],
    [changed(GET, ':path', '/a?b c'), /a byte that no path has/],
    [changed(GET, ':path', '/a#b'), /a byte that no path has/],
    [changed(GET, ':path', '/..'), /above its root/],
    [changed(GET, ':path', '/a\\b'), /backslash/],
    [changed(GET, ':path', '/a%00'), /NUL/],
    [[...GET, ['host', 'other.test']], /different hosts/],
    [[...GET, ['host', 'web.test'], ['host', 'web.test']], /more than one Host/],
    [[...changed(GET, ':authority'), ['host', 'a'], ['host', 'a']], /more than one Host/],
    [[...changed(GET, ':authority'), ['host', 'a b']], /no host name/],
    [[...GET, ['content-length', '']], /Content-Length/],
    [[...GET, ['content-length', '+5']], /Content-Length/],
    [[...GET, ['content-length', '5, 5']], /Content-Length/],
    [[...GET, ['content-length', '9007199254740992']], /Content-Length/],
    [[...GET, ['content-length', '5'], ['content-length', '5']], /more than one Content-Length/],
    [[...GET, ['content_length', '5']], /nearly like Content-Length/],
    [[...GET, ['transfer-encoding', 'chunked']], /connection-specific/],
    [[...GET, ['connection', 'close']], /connection-specific/],
    [[...GET, ['keep-alive', 'timeout=5']], /connection-specific/],
    [[...GET, ['proxy-connection', 'close']], /connection-specific/],
    [[...GET, ['upgrade', 'websocket']], /connection-specific/],
    [[...GET, ['te', 'gzip']], /TE is not/],
    [[...GET, ['Accept', '*/*']], /upper-case/],
    [[...GET, ['', 'x']], /no name/],
    [[...GET, ['a b', 'x']], /no token/],
    [[...GET, ['a', 'x\r\ny']], /control byte/],
    [[...GET, ['a', 'x\0']], /control byte/],
    [[...GET, ['a', ' x']], /whitespace/],
    [[...CONNECT, [':path', '/']], /CONNECT has a scheme or a path/],
    [[...CONNECT, [':scheme', 'http']], /CONNECT has a scheme or a path/],
    [changed(CONNECT, ':authority', 'web.test'), /CONNECT has/],
    [changed(CONNECT, ':authority', ''), /CONNECT has/],
    [changed(CONNECT, ':authority'), /CONNECT has/],
    [[...CONNECT, ['content-length', '5']], /CONNECT announces content/],
    [[...GET, [':protocol', 'websocket']], /protocol field is not allowed/],
    [[...GET, [':protocol', 'a b']], /is no token/],
  ];
  head.extendedConnect = true;
  for (const [fields, text] of cases) t.match(request(fields), text, JSON.stringify(fields));
  head.extendedConnect = false;
  t.match(request(WEBSOCKET), /not allowed/, 'extended CONNECT that was not offered');
});

t.test('what of a request is forwarded', async (t) => {
  head.extendedConnect = true;
  const authority: PlainField = [':authority', 'web.test'];
  const cases: readonly (readonly [string, readonly PlainField[], readonly PlainField[]])[] = [
    [
      'all',
      [...GET, ['a', 'b'], ['te', 'trailers'], ['cookie', 'x=y'], ['cookie', 'z']],
      [...GET, ['a', 'b'], ['te', 'trailers'], ['cookie', 'x=y'], ['cookie', 'z']],
    ],
    ['Host agrees', [...GET, ['host', 'WEB.test'], ['a', 'b']], [...GET, ['a', 'b']]],
    [
      'Host alone becomes the authority',
      [...changed(GET, ':authority'), ['a', 'b'], ['host', 'web.test'], ['c', 'd']],
      [...changed(GET, ':authority'), authority, ['a', 'b'], ['c', 'd']],
    ],
    ['an empty authority is none', changed(GET, ':authority', ''), changed(GET, ':authority')],
    ['none at all', changed(GET, ':authority'), changed(GET, ':authority')],
    [
      'mesh fields are taken out',
      [...GET, ['l5d-client-id', 'x'], ['a', 'b'], ['l5d_dst.x', 'y']],
      [...GET, ['a', 'b']],
    ],
    [
      'the canonical path',
      changed(GET, ':path', '/a/./b//%63?q=/../'),
      changed(GET, ':path', '/a/b/c?q=/../'),
    ],
    ['an encoded slash stays', changed(GET, ':path', '/a%2fb'), changed(GET, ':path', '/a%2fb')],
    [
      'OPTIONS *',
      changed(changed(GET, ':method', 'OPTIONS'), ':path', '*'),
      changed(changed(GET, ':method', 'OPTIONS'), ':path', '*'),
    ],
    ['CONNECT', CONNECT, CONNECT],
    ['extended CONNECT', WEBSOCKET, WEBSOCKET],
    ['an unknown method', changed(GET, ':method', 'PURGE'), changed(GET, ':method', 'PURGE')],
    ['an IPv6 authority', changed(GET, ':authority', '[::1]:80'), changed(GET, ':authority', '[::1]:80')],
    ['https', changed(GET, ':scheme', 'https'), changed(GET, ':scheme', 'https')],
  ];
  for (const [name, fields, expected] of cases) t.strictSame(request(fields), expected, name);
  head.keepMesh = true;
  t.strictSame(
    request([...GET, ['l5d-client-id', 'x']]),
    [...GET, ['l5d-client-id', 'x']],
    'from a peer that may send them',
  );
  head.keepMesh = false;
});

t.test('what a request says', async (t) => {
  head.extendedConnect = true;
  request([...GET, ['te', 'trailers'], ['expect', '100-Continue'], ['content-length', '007']]);
  t.same(
    [head.method, head.contentLength, head.teTrailers, head.expectContinue],
    [METHOD.get, 7, true, true],
  );
  t.equal(head.pseudoCount, 4);
  request([...changed(GET, ':authority'), ['host', 'web.test:80']]);
  t.same(
    [head.contentLength, head.teTrailers, head.expectContinue],
    [-1, false, false],
    'nothing is left of the one before',
  );
  t.same(Buffer.from(head.authority?.value ?? '').toString(), 'web.test:80');
  t.equal(head.pseudoCount, 4);
  request(WEBSOCKET);
  t.equal(Buffer.from(head.protocol?.value ?? '').toString(), 'websocket');
  request(GET);
  t.equal(head.protocol, undefined);
  for (const [name, number] of Object.entries(METHOD)) {
    if (name === 'connect' || name === 'other') continue;
    const fields = changed(GET, ':method', name.toUpperCase());
    request(fields);
    t.equal(head.method, number, name);
    t.equal(methodOf(listOf(fields)), number, name);
  }
  t.equal(methodOf(listOf([])), METHOD.other);
});

t.test('responses', async (t) => {
  const ok: PlainField = [':status', '200'];
  for (const [fields, text] of [
    [[], /is missing/],
    [[['a', 'b']], /is missing/],
    [[['a', 'b'], ok], /is missing/],
    [[ok, ok], /there twice/],
    [[ok, ['a', 'b'], ok], /behind a regular one/],
    [[ok, [':path', '/']], /another kind/],
    [[[':path', '/']], /another kind/],
    [[[':status', '20']], /three digits/],
    [[[':status', '099']], /three digits/],
    [[[':status', '+20']], /three digits/],
    [[[':status', '2000']], /three digits/],
    [[[':status', '101']], /three digits/],
    [[ok, ['connection', 'close']], /connection-specific/],
    [[ok, ['content-length', '1'], ['content-length', '1']], /more than one/],
  ] as readonly (readonly [PlainField[], RegExp])[]) {
    t.match(response(fields), text, JSON.stringify(fields));
  }
  t.strictSame(response([ok, ['a', 'b'], ['l5d-x', 'y'], ['host', 'z']]), [ok, ['a', 'b'], ['host', 'z']]);
  for (const status of [100, 200, 204, 404, 503, 999]) {
    response([[':status', String(status)]]);
    t.equal(head.status, status);
  }
});

t.test('trailers: no pseudo-header fields, and nothing that belongs to the head', async (t) => {
  const trailers = (fields: readonly PlainField[]) => {
    const list = listOf(fields);
    const problem = readTrailers(new H2Head(list));
    return problem === 0 ? forwarded(list) : describeH2Problem(problem).text;
  };
  t.strictSame(
    trailers([
      ['grpc-status', '0'],
      ['content-length', '3'],
      ['x-sum', '1'],
      ['host', 'a'],
      ['l5d-x', 'y'],
      ['te', 'trailers'],
      ['grpc-message', 'ok'],
    ]),
    [
      ['grpc-status', '0'],
      ['x-sum', '1'],
      ['grpc-message', 'ok'],
    ],
  );
  t.match(
    trailers([
      ['x', 'y'],
      [':path', '/'],
    ]),
    /pseudo-header/,
  );
  t.match(trailers([['transfer-encoding', 'chunked']]), /connection-specific/);
  t.strictSame(trailers([]), []);
});

t.test('every problem has words', async (t) => {
  t.throws(() => describeH2Problem(31), /no field problem/);
  t.equal(describeH2Problem(32).status, 431);
  t.equal(describeH2Problem(34).status, 400);
});
