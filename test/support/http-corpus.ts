/**
 * Messages that proxies and servers have read in different ways, from the advisories of the last years, with what a strict reader
 * does; and harmless neighbours that must pass. One table, for the codec alone and for whole proxies before real servers: a
 * request that is refused in its head reaches no server, and the connection is closed behind the answer.
 */

/** What becomes of a message. */
export type Expected =
  /** `part`: where it is noticed. A server may have seen the head when it is the body. */
  | { readonly refused: 400 | 431 | 505; readonly part: 'head' | 'body' }
  /** The bodies of all messages in the bytes, in order. */
  | { readonly bodies: readonly string[] };

/** Bytes on a connection of their own. */
export interface CorpusCase {
  readonly name: string;
  /** Latin-1. */
  readonly bytes: string;
  readonly expected: Expected;
}

const IN_HEAD: Expected = { refused: 400, part: 'head' };
const IN_BODY: Expected = { refused: 400, part: 'body' };
const TOO_LARGE: Expected = { refused: 431, part: 'head' };

/** What an attacker hopes to have read as a request. */
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: victim\r\n\r\n';

function post(lines: readonly string[], body = ''): string {
  return ['POST /upload HTTP/1.1', 'Host: shop', ...lines, '', ''].join('\r\n') + body;
}

function get(lines: readonly string[], start = 'GET / HTTP/1.1'): string {
  return [start, ...lines, '', ''].join('\r\n');
}

function refused(name: string, bytes: string, expected: Expected = IN_HEAD): CorpusCase {
  return { name, bytes, expected };
}

function accepted(name: string, bytes: string, ...bodies: string[]): CorpusCase {
  return { name, bytes, expected: { bodies } };
}

function chunked(body: string): string {
  return post(['Transfer-Encoding: chunked'], body);
}

const LENGTHS: readonly CorpusCase[] = [
  ...[
    ['a plus sign', '+5'],
    ['a minus sign', '-5'],
    ['a list of equal values (RFC 9112 6.3 allows to refuse)', '5, 5'],
    ['a list without a space', '5,5'],
    ['a list of different values', '5, 6'],
    ['nothing (HAProxy CVE-2023-40225)', ''],
    ['blanks only', '  '],
    ['a blank inside', '5 5'],
    ['hexadecimal', '0x5'],
    ['a fraction', '5.0'],
    ['an exponent', '5e0'],
    ['an underscore', '1_0'],
    ['a letter behind', '5a'],
    ['quotes', '"5"'],
    ['2^53', '9007199254740992'],
    ['2^64 + 5', '18446744073709551621'],
    ['a vertical tab', '\x0b5'],
    ['a form feed behind', '5\x0c'],
    ['full-width digits', '\xef\xbc\x95'],
  ].map(([what, value]) =>
    refused(`Content-Length: ${what}`, post([`Content-Length: ${value}`], `hello${SMUGGLED}`)),
  ),
  refused('two Content-Length, equal', post(['Content-Length: 5', 'Content-Length: 5'], 'hello')),
  refused('two Content-Length, different', post(['Content-Length: 5', 'Content-Length: 0'], 'hello')),
  refused('two Content-Length, in different case', post(['Content-Length: 5', 'content-length: 0'], 'hello')),
  refused('Content_Length', post(['Content_Length: 5', 'Content-Length: 0'])),
  refused('Content.Length', post(['Content.Length: 5'], 'hello')),
  accepted('Content-Length with blanks around', post(['Content-Length: \t 5 \t'], 'hello'), 'hello'),
  accepted('Content-Length without a blank', post(['Content-Length:5'], 'hello'), 'hello'),
  accepted('Content-Length with leading zeros', post(['Content-Length: 0005'], 'hello'), 'hello'),
  accepted('Content-Length 0 and pipelining', post(['Content-Length: 0']) + get(['Host: shop']), '', ''),
  accepted('no framing on POST: no body', post([]) + get(['Host: shop']), '', ''),
  accepted('a GET with a body', `${get(['Host: shop', 'Content-Length: 5'])}hello`, 'hello'),
];

const CODINGS: readonly CorpusCase[] = [
  ...[
    ['a vertical tab before', '\x0bchunked'],
    ['a vertical tab behind', 'chunked\x0b'],
    ['quotes', '"chunked"'],
    ['another coding before (it would need 501, and is refused)', 'gzip, chunked'],
    ['another coding behind', 'chunked, gzip'],
    ['identity', 'identity'],
    ['chunked, identity', 'chunked, identity'],
    ['chunked twice', 'chunked, chunked'],
    ['a comma before', ', chunked'],
    ['a comma behind', 'chunked,'],
    ['a letter before', 'xchunked'],
    ['a letter behind', 'chunkedx'],
    ['a parameter', 'chunked;q=1'],
    ['nothing', ''],
    ['a colon', ': chunked'],
    ['NUL', 'chunked\0'],
    ['Latin-1 letters', 'chunke\xf0'],
    ['cow', 'cow'],
  ].map(([what, value]) =>
    refused(
      `Transfer-Encoding: ${what}`,
      post([`Transfer-Encoding: ${value}`], `5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`),
    ),
  ),
  refused(
    'Content-Length and Transfer-Encoding',
    post(['Content-Length: 5', 'Transfer-Encoding: chunked'], `0\r\n\r\n${SMUGGLED}`),
  ),
  refused(
    'Transfer-Encoding and Content-Length',
    post(['Transfer-Encoding: chunked', 'Content-Length: 5'], `0\r\n\r\n${SMUGGLED}`),
  ),
  refused(
    'two Transfer-Encoding',
    post(['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], '0\r\n\r\n'),
  ),
  refused(
    'two Transfer-Encoding, one unknown',
    post(['Transfer-Encoding: chunked', 'Transfer-Encoding: cow'], '0\r\n\r\n'),
  ),
  refused('Transfer_Encoding', post(['Transfer_Encoding: chunked', 'Content-Length: 5'], 'hello')),
  refused('transfer.encoding', post(['transfer.encoding: chunked'], '0\r\n\r\n')),
  refused(
    'Transfer-Encoding in HTTP/1.0 (Pingora CVE-2026-2835)',
    `POST / HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
  ),
  accepted(
    'Transfer-Encoding in another case',
    post(['TRANSFER-encoding: ChUnKeD'], '5\r\nhello\r\n0\r\n\r\n'),
    'hello',
  ),
  accepted(
    'Transfer-Encoding with a tab before',
    post(['Transfer-Encoding:\tchunked'], '5\r\nhello\r\n0\r\n\r\n'),
    'hello',
  ),
];

const FIELDS: readonly CorpusCase[] = [
  refused('blank before the colon', post(['Content-Length : 5'], 'hello')),
  refused('tab before the colon', post(['Transfer-Encoding\t: chunked'], '0\r\n\r\n')),
  refused('no name (HAProxy CVE-2023-25725)', get(['Host: shop', ': empty', 'Content-Length: 5'])),
  refused('no colon', get(['Host: shop', 'nonsense'])),
  refused('obsolete folding with a blank', get(['Host: shop', 'X-A: b', ' Content-Length: 5'])),
  refused('obsolete folding with a tab', get(['Host: shop', 'X-A: b', '\tTransfer-Encoding: chunked'])),
  refused('folding of the first field', get([' Host: shop'])),
  refused('folding of Transfer-Encoding', post(['Transfer-Encoding:', ' chunked'], '0\r\n\r\n')),
  refused('NUL in a value', get(['Host: shop', 'X-A: a\0b'])),
  refused('NUL in a name', get(['Host: shop', 'X\0A: b'])),
  refused('DEL in a value', get(['Host: shop', 'X-A: a\x7fb'])),
  refused('a bell in a value', get(['Host: shop', 'X-A: \x07'])),
  refused('bare CR in a value (Node CVE-2022-32214)', get(['Host: shop', 'X-A: a\rContent-Length: 5'])),
  refused('bare LF between fields (Node CVE-2022-32214)', 'GET / HTTP/1.1\r\nHost: shop\nX-A: b\r\n\r\n'),
  refused('bare LF at the end', 'GET / HTTP/1.1\r\nHost: shop\r\n\n'),
  refused('only LF', 'GET / HTTP/1.1\nHost: shop\n\n'),
  refused('CR CR LF', 'GET / HTTP/1.1\r\nHost: shop\r\r\n\r\n'),
  refused('CR without LF at the end', `GET / HTTP/1.1\r\nHost: shop\r\n\r${SMUGGLED}`),
  refused('a name in brackets', get(['Host: shop', '[X-A]: b'])),
  refused('a name with Latin-1 letters', get(['Host: shop', 'X-\xc4: b'])),
  refused('Content-Length behind a NUL', post(['\0Content-Length: 5'], 'hello')),
  refused(
    '257 fields',
    get(['Host: shop', ...Array.from({ length: 256 }, (_, i) => `X-${i}: a`)]),
    TOO_LARGE,
  ),
  refused('a field of 64 KB', get(['Host: shop', `X-A: ${'a'.repeat(65_536)}`]), TOO_LARGE),
  refused('a target of 64 KB', get(['Host: shop'], `GET /${'a'.repeat(65_536)} HTTP/1.1`), TOO_LARGE),
  accepted('256 fields', get(['Host: shop', ...Array.from({ length: 255 }, (_, i) => `X-${i}: a`)]), ''),
  accepted('a field of 60 KB', get(['Host: shop', `X-A: ${'a'.repeat(60_000)}`]), ''),
  accepted('obs-text in a value', get(['Host: shop', 'X-A: gr\xfc\xdfe']), ''),
  accepted('an empty value', get(['Host: shop', 'X-A:']), ''),
  accepted('a value of blanks', get(['Host: shop', 'X-A:  \t ']), ''),
  accepted('every byte of a token in a name', get(['Host: shop', "!#$%&'*+-.^_`|~09azAZ: x"]), ''),
  accepted('__proto__ (Node CVE-2026-21710)', get(['Host: shop', '__proto__: x', 'constructor: y']), ''),
];

const START_LINES: readonly CorpusCase[] = [
  ...[
    ['two spaces before the target', 'GET  / HTTP/1.1'],
    ['two spaces before the version', 'GET /  HTTP/1.1'],
    ['a space behind the version', 'GET / HTTP/1.1 '],
    ['a tab for a space', 'GET\t/ HTTP/1.1'],
    ['a space before the method', ' GET / HTTP/1.1'],
    ['a space inside the target', 'GET /a b HTTP/1.1'],
    ['a fragment (Istio CVE-2021-39156)', 'GET /admin#x HTTP/1.1'],
    ['NUL in the target', 'GET /\0 HTTP/1.1'],
    ['no target', 'GET HTTP/1.1'],
    ['no version: HTTP/0.9', 'GET /'],
    ['a lower-case version', 'GET / http/1.1'],
    ['a letter in the version', 'GET / HTTP/1.x'],
    ['two digits in the version', 'GET / HTTP/1.10'],
    ['another protocol', 'GET / ICY/1.1'],
    ['a method that is no token', 'G@T / HTTP/1.1'],
    ['a target in no form', 'GET admin HTTP/1.1'],
    ['an asterisk for GET', 'GET * HTTP/1.1'],
    ['a path for CONNECT', 'CONNECT / HTTP/1.1'],
    ['CONNECT without a port', 'CONNECT shop HTTP/1.1'],
    ['CONNECT with an absolute target', 'CONNECT http://shop/ HTTP/1.1'],
    ['authority form for GET', 'GET shop:80 HTTP/1.1'],
    ['an unknown scheme', 'GET file://shop/ HTTP/1.1'],
    ['user information in the target', 'GET http://user@shop/ HTTP/1.1'],
    ['an absolute target without a host', 'GET http:///x HTTP/1.1'],
  ].map(([what, line]) => refused(`request line: ${what}`, get(['Host: shop'], line))),
  refused('CONNECT with a length', get(['Host: shop', 'Content-Length: 5'], 'CONNECT shop:1 HTTP/1.1')),
  refused(
    'CONNECT with chunks',
    get(['Host: shop', 'Transfer-Encoding: chunked'], 'CONNECT shop:1 HTTP/1.1'),
  ),
  accepted('CONNECT with length 0', get(['Host: shop', 'Content-Length: 0'], 'CONNECT shop:1 HTTP/1.1'), ''),
  refused('two empty lines before', `\r\n\r\n${get(['Host: shop'])}`),
  refused('a bare LF before', `\n${get(['Host: shop'])}`),
  ...['HTTP/0.9', 'HTTP/1.2', 'HTTP/2.0', 'HTTP/3.1'].map((version) =>
    refused(version, get(['Host: shop'], `GET / ${version}`), { refused: 505, part: 'head' }),
  ),
  accepted('one empty line before', `\r\n${get(['Host: shop'])}`, ''),
  accepted('an unknown method', get(['Host: shop'], 'BREW /pot HTTP/1.1'), ''),
  accepted('OPTIONS *', get(['Host: shop'], 'OPTIONS * HTTP/1.1'), ''),
  accepted('an absolute target', get(['Host: SHOP'], 'GET HTTP://shop/x?y HTTP/1.1'), ''),
  accepted('an absolute target without a path', get(['Host: shop'], 'GET http://shop HTTP/1.1'), ''),
  accepted(
    'quotes, brackets and Latin-1 in a query',
    get(['Host: shop'], 'GET /?q="[{|}]"\xfc HTTP/1.1'),
    '',
  ),
];

const HOSTS: readonly CorpusCase[] = [
  refused('no Host', get(['X-A: b'])),
  refused('two Host, equal', get(['Host: shop', 'Host: shop'])),
  refused('two Host, different', get(['Host: shop', 'host: admin'])),
  refused('two Host in HTTP/1.0', get(['Host: shop', 'Host: admin'], 'GET / HTTP/1.0')),
  refused('Host and target differ', get(['Host: admin'], 'GET http://shop/ HTTP/1.1')),
  refused('Host and target differ by the port', get(['Host: shop:81'], 'GET http://shop:80/ HTTP/1.1')),
  refused('an empty Host and an absolute target', get(['Host:'], 'GET http://shop/ HTTP/1.1')),
  ...[
    ['user information', 'user@shop'],
    ['a list', 'shop, admin'],
    ['a list without a blank', 'shop,admin'],
    ['a path', 'shop/admin'],
    ['a query', 'shop?x'],
    ['a fragment', 'shop#x'],
    ['a blank', 'shop admin'],
    ['percent-encoding', 'sh%6fp'],
    ['a port with letters', 'shop:80a'],
    ['an empty port', 'shop:'],
    ['a port of 65536', 'shop:65536'],
    ['a port with a sign', 'shop:+80'],
    ['a port of 6 digits', 'shop:000080'],
    ['two ports', 'shop:80:81'],
    ['a port alone', ':80'],
    ['an open bracket', '[::1'],
    ['an empty address', '[]'],
    ['letters behind an address', '[::1]x'],
    ['a zone (Envoy CVE-2026-26310)', '[fe80::1%25eth0]'],
    ['brackets around a name', '[shop]'],
    ['a backslash', 'shop\\admin'],
    ['Latin-1 letters', 'sh\xf6p'],
    ['a quoted name', '"shop"'],
  ].map(([what, value]) => refused(`Host: ${what}`, get([`Host: ${value}`]))),
  accepted('an empty Host', get(['Host:']), ''),
  accepted('Host: a name with a port', get(['Host: shop.svc.cluster.local:8080']), ''),
  accepted('Host: an IPv6 address', get(['Host: [fd00::1]:8080']), ''),
  accepted('Host: an underscore', get(['Host: my_shop']), ''),
  accepted('HTTP/1.0 without Host', get([], 'GET / HTTP/1.0'), ''),
];

const HOP_BY_HOP: readonly CorpusCase[] = [
  refused('Connection names Host', get(['Host: shop', 'Connection: close, host'])),
  refused(
    'Connection names Content-Length',
    post(['Content-Length: 5', 'Connection: Content-Length'], 'hello'),
  ),
  refused('Connection with a blank in an option', get(['Host: shop', 'Connection: keep alive'])),
  refused('Connection with quotes', get(['Host: shop', 'Connection: "close"'])),
  refused(
    'Connection with 65 options',
    get(['Host: shop', `Connection: ${Array.from({ length: 65 }, (_, i) => `x${i}`).join(',')}`]),
    TOO_LARGE,
  ),
  accepted('Connection with empty members', get(['Host: shop', 'Connection: ,, close , ,']), ''),
  accepted(
    'Connection names Transfer-Encoding, as large caches do',
    post(['Transfer-Encoding: chunked', 'Connection: Transfer-Encoding'], '5\r\nhello\r\n0\r\n\r\n'),
    'hello',
  ),
];

const CHUNKS: readonly CorpusCase[] = [
  ...[
    ['no size', '\r\nhello\r\n0\r\n\r\n'],
    ['no digits', 'x\r\nhello\r\n0\r\n\r\n'],
    ['0x', '0x5\r\nhello\r\n0\r\n\r\n'],
    ['a plus sign', '+5\r\nhello\r\n0\r\n\r\n'],
    ['a minus sign', '-5\r\nhello\r\n0\r\n\r\n'],
    ['a blank before', ' 5\r\nhello\r\n0\r\n\r\n'],
    ['a blank behind', '5 \r\nhello\r\n0\r\n\r\n'],
    ['a blank before an extension', '5 ;a=b\r\nhello\r\n0\r\n\r\n'],
    ['an underscore', '0_5\r\nhello\r\n0\r\n\r\n'],
    ['a size of 2^64 + 5', '10000000000000005\r\nhello\r\n0\r\n\r\n'],
    ['14 digits', '00000000000005\r\nhello\r\n0\r\n\r\n'],
    ['too short data', '6\r\nhello\r\n0\r\n\r\n'],
    ['too long data', '4\r\nhello\r\n0\r\n\r\n'],
    ['bare LF behind the size', '5\nhello\r\n0\r\n\r\n'],
    ['bare CR behind the size', '5\rhello\r\n0\r\n\r\n'],
    ['bare LF behind the data', '5\r\nhello\n0\r\n\r\n'],
    ['CR without LF behind the data', '5\r\nhello\r0\r\n\r\n'],
    ['CR and another byte behind the data', '5\r\nhello\rX0\r\n\r\n'],
    ['two line ends behind the data', '5\r\nhello\r\n\r\n0\r\n\r\n'],
    ['bare LF behind the last chunk', '5\r\nhello\r\n0\n\r\n'],
    ['bare LF at the end', '5\r\nhello\r\n0\r\n\n'],
    ['CR without LF at the end', '5\r\nhello\r\n0\r\n\rX'],
    ['bare LF in an extension (Node CVE-2024-27982)', '5;a\nb\r\nhello\r\n0\r\n\r\n'],
    ['bare CR in an extension (Node CVE-2021-22960)', '5;a\rb\r\nhello\r\n0\r\n\r\n'],
    ['NUL in an extension', '5;\0\r\nhello\r\n0\r\n\r\n'],
    ['an extension of 1025 bytes', `5;${'a'.repeat(1025)}\r\nhello\r\n0\r\n\r\n`],
    ['a trailer field without a colon', '5\r\nhello\r\n0\r\nnonsense\r\n\r\n'],
    ['a folded trailer field', '5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n'],
    ['NUL in a trailer field', '5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n'],
    ['bare LF in the trailer section', '5\r\nhello\r\n0\r\nX-A: b\n\r\n'],
    ['a blank before the colon of a trailer field', '5\r\nhello\r\n0\r\nX-A : b\r\n\r\n'],
  ].map(([what, body]) => refused(`chunks: ${what}`, chunked(body), IN_BODY)),
  refused('chunks: a trailer section of 64 KB', chunked(`0\r\nX-A: ${'a'.repeat(65_536)}\r\n\r\n`), {
    refused: 431,
    part: 'body',
  }),
  refused('chunks: 257 trailer fields', chunked(`0\r\n${'X-A: b\r\n'.repeat(257)}\r\n`), {
    refused: 431,
    part: 'body',
  }),
  accepted('chunks: none', chunked('0\r\n\r\n'), ''),
  accepted(
    'chunks: several',
    chunked('3\r\nhel\r\n02\r\nlo\r\n000\r\n\r\n') + get(['Host: shop']),
    'hello',
    '',
  ),
  accepted(
    'chunks: both cases',
    chunked(`a\r\n${'a'.repeat(10)}\r\nB\r\n${'b'.repeat(11)}\r\n0\r\n\r\n`),
    'a'.repeat(10) + 'b'.repeat(11),
  ),
  accepted('chunks: extensions', chunked('5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n'), 'hello'),
  accepted(
    'chunks: an extension of 1024 bytes',
    chunked(`5;${'a'.repeat(1024)}\r\nhello\r\n0\r\n\r\n`),
    'hello',
  ),
  accepted(
    'chunks: trailers',
    chunked('5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n') + get(['Host: shop']),
    'hello',
    '',
  ),
  accepted(
    'chunks: framing fields as trailers mean nothing',
    chunked('0\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n') + get(['Host: shop']),
    '',
    '',
  ),
  accepted(
    'chunks: data that looks like a chunk',
    chunked('7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n'),
    '0\r\n\r\n\r\n',
  ),
];

/** Requests. */
export const REQUEST_CORPUS: readonly CorpusCase[] = [
  ...LENGTHS,
  ...CODINGS,
  ...FIELDS,
  ...START_LINES,
  ...HOSTS,
  ...HOP_BY_HOP,
  ...CHUNKS,
];
