/** Random field lists for property tests: mostly what clients send, and all that an attacker might. */
import fc from 'fast-check';
import type { Pair } from './h2-fields.ts';

const TOKEN_NAME = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9a-z-]{1,12}$/).map((name) => `x${name}`);

/** Bytes that end lines, values or names for somebody. */
const HOSTILE = ['\r', '\n', '\0', '\r\n', '\r\n\r\n', ': ', ' ', '\t', '\x7f', '\x85', '\xa0', '\x0b', ','];

const VALUE = fc
  .array(
    fc.oneof(
      {
        weight: 30,
        arbitrary: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
      },
      { weight: 4, arbitrary: fc.constantFrom(' ', '\t', '\x80', '\xff') },
      { weight: 1, arbitrary: fc.constantFrom(...HOSTILE) },
    ),
    { maxLength: 16 },
  )
  .map((letters) => letters.join(''));

const TRIMMED = VALUE.map((value) => value.replace(/^[ \t]+|[ \t]+$/g, ''));

const KNOWN = fc.constantFrom<Pair>(
  ['cookie', 'a=b'],
  ['cookie', 'c=d; e=f'],
  ['cookie', ''],
  ['te', 'trailers'],
  ['host', 'shop'],
  ['content-length', '5'],
  ['content-length', '00'],
  ['expect', '100-continue'],
  ['trailer', 'x-sum'],
  ['l5d-client-id', 'forged'],
  ['l5d-orig-proto', 'HTTP/1.1'],
  ['content-type', 'application/grpc'],
  ['x-empty', ''],
);

/** Each breaks a rule. */
const SMUGGLING = fc.constantFrom<Pair>(
  ['transfer-encoding', 'chunked'],
  ['connection', 'close'],
  ['connection', 'host'],
  ['upgrade', 'h2c'],
  ['keep-alive', 'timeout=5'],
  ['proxy-connection', 'close'],
  ['content_length', '5'],
  ['transfer.encoding', 'chunked'],
  ['content-length', '+5'],
  ['content-length', '5, 5'],
  ['te', 'gzip'],
  ['X-Upper', 'a'],
  ['', 'a'],
  ['x-a: b\r\nx-b', 'c'],
  ['x a', 'b'],
  ['x:a', 'b'],
  ['x\r\n\r\nget', 'b'],
  ['x-a', 'b\r\ntransfer-encoding: chunked'],
  ['x-a', 'b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: victim\r\n\r\n'],
  ['cookie', 'a=b\r\nx: y'],
  ['host', 'other'],
  ['host', ''],
  [':path', '/twice'],
  [':status', '200'],
  [':unknown', 'a'],
);

const REGULAR = fc.array(
  fc.oneof(
    { weight: 20, arbitrary: fc.tuple(TOKEN_NAME, TRIMMED) },
    { weight: 20, arbitrary: KNOWN },
    { weight: 1, arbitrary: fc.tuple(TOKEN_NAME, VALUE) },
    { weight: 1, arbitrary: SMUGGLING },
  ),
  { maxLength: 8 },
);

/** One value nearly always, or one of others. */
function mostly(usual: readonly string[], odd: readonly string[]): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom(...usual) },
    { weight: 1, arbitrary: fc.constantFrom(...odd) },
  );
}

const METHOD = mostly(
  ['GET', 'POST', 'HEAD', 'PUT', 'OPTIONS', 'PURGE'],
  ['get', '', 'A B', 'G\r\nET', 'CONNECT'],
);
const AUTHORITY = mostly(
  ['shop', 'shop', 'shop:80', '[::1]:80'],
  ['', 'a b', 'a@b', 'shop\r\nX: y', 'a,b', 'shop/'],
);
const PATH = mostly(
  ['/', '/a?b', '/a/b;c?d=%2F', '/a%20b', '/a%2Fb', '/?\xff'],
  ['*', '', 'a', '//x/../y', '/a b', '/ HTTP/1.1\r\nX: y', '/a\\b', '/#', '/\xff', 'http://a/'],
);

/** Lists for requests: pseudo-header fields first, nearly always. */
export const REQUEST_LISTS: fc.Arbitrary<readonly Pair[]> = fc
  .record({
    method: METHOD,
    scheme: mostly(['http', 'https'], ['ftp', '']),
    authority: fc.option(AUTHORITY, { freq: 10 }),
    path: PATH,
    protocol: fc.option(mostly(['websocket'], ['a b', '']), { freq: 1, nil: undefined }),
    regular: REGULAR,
    kind: fc.constantFrom('plain', 'plain', 'plain', 'plain', 'plain', 'connect', 'websocket', 'mixed'),
  })
  .map(({ method, scheme, authority, path, regular, kind }) => {
    const at: Pair[] = authority === null ? [] : [[':authority', authority]];
    switch (kind) {
      case 'connect':
        return [[':method', 'CONNECT'], ...at, ...regular];
      case 'websocket':
        return [
          [':method', 'CONNECT'],
          [':protocol', 'websocket'],
          [':scheme', scheme],
          [':path', path],
          ...at,
          ...regular,
        ];
      case 'mixed':
        return [
          [':path', path],
          ...at,
          ...regular.slice(0, 1),
          [':method', method],
          [':scheme', scheme],
          ...regular,
        ];
      default:
        return [[':method', method], [':scheme', scheme], ...at, [':path', path], ...regular];
    }
  });

/** Lists for responses. */
export const RESPONSE_LISTS: fc.Arbitrary<readonly Pair[]> = fc
  .tuple(
    mostly(['200', '404', '204', '304', '103', '599', '999'], ['101', '99', '1000', '2 0', '', '200 OK']),
    REGULAR,
  )
  .map(([status, regular]) => [[':status', status], ...regular]);

/** Lists for trailers. */
export const TRAILER_LISTS: fc.Arbitrary<readonly Pair[]> = REGULAR;

/** What comes behind a head. */
export const CONTENT = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
