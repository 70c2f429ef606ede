/** Random messages for property tests: valid ones with everything that is allowed, and spoiled ones. */
import fc from 'fast-check';

/** A message in parts, and as Latin-1 text. */
export interface Made {
  readonly start: string;
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
  readonly chunked: boolean;
  readonly text: string;
}

const NAME = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}$/).map((name) => `x${name}`);
const VALUE = fc
  .array(
    fc.oneof(
      fc.integer({ min: 0x21, max: 0x7e }),
      fc.integer({ min: 0x80, max: 0xff }),
      fc.constantFrom(0x20, 0x09),
    ),
    {
      maxLength: 20,
    },
  )
  .map((codes) => String.fromCharCode(...codes).replace(/^[ \t]+|[ \t]+$/g, ''));
const BLANK = fc.constantFrom('', ' ', '\t', '  ');
const HOP = fc.constantFrom<[string, string]>(
  ['Connection', 'keep-alive'],
  ['connection', 'X-Hop, Keep-Alive'],
  ['Keep-Alive', 'timeout=5'],
  ['Proxy-Connection', 'close'],
  ['X-Hop', 'dropped'],
  ['TE', 'gzip, trailers'],
  ['l5d-client-id', 'forged'],
  ['Trailer', 'x-sum'],
  ['Accept', '*/*'],
);
const BODY = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
const PATH = fc.stringMatching(/^\/[a-z0-9/._~%-]{0,20}$/).map((path) => path.replaceAll('%', '%41'));
const QUERY = fc.constantFrom('', '?', '?a=b&c', '?x=%2f//..');

const parts = fc.record({
  fields: fc.array(fc.oneof({ weight: 3, arbitrary: fc.tuple(NAME, VALUE) }, { weight: 1, arbitrary: HOP }), {
    maxLength: 8,
  }),
  blanks: fc.array(fc.tuple(BLANK, BLANK), { minLength: 8, maxLength: 8 }),
  body: BODY,
  framing: fc.constantFrom<'none' | 'length' | 'chunked'>('none', 'length', 'chunked'),
  sizes: fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 5 }),
  trailer: fc.constantFrom('', 'x-sum: 1\r\n', 'X-A:\r\nx-sum: 2\r\n'),
  framingAt: fc.nat(8),
});

function made(
  start: string,
  first: readonly [string, string][],
  all: typeof parts extends fc.Arbitrary<infer T> ? T : never,
): Made {
  const lines: [string, string][] = [...first, ...all.fields];
  if (all.framing !== 'none') {
    const field: [string, string] =
      all.framing === 'length'
        ? ['Content-Length', String(all.body.length)]
        : ['Transfer-Encoding', 'Chunked'];
    lines.splice(Math.min(all.framingAt, lines.length), 0, field);
  }
  const head = lines.map(([name, value], i) => {
    const [before, behind] = all.blanks[i % all.blanks.length];
    return `${name}:${before}${value}${behind}\r\n`;
  });
  const body = all.framing === 'none' ? '' : all.body;
  const wire = all.framing === 'chunked' ? `${chunks(body, all.sizes)}0\r\n${all.trailer}\r\n` : body;
  const text = `${start}\r\n${head.join('')}\r\n${wire}`;
  return { start, fields: lines, body, chunked: all.framing === 'chunked', text };
}

function chunks(body: string, sizes: readonly number[]): string {
  let out = '';
  let at = 0;
  for (const size of [...sizes, body.length]) {
    const piece = body.slice(at, at + size);
    at += piece.length;
    if (piece !== '') out += `${piece.length.toString(16)}\r\n${piece}\r\n`;
  }
  return out;
}

/** Valid requests, of methods that every server knows. */
export const REQUESTS: fc.Arbitrary<Made> = fc
  .tuple(fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'), PATH, QUERY, parts)
  .map(([method, path, query, all]) =>
    made(`${method} ${path}${query} HTTP/1.1`, [['Host', 'shop:80']], all),
  );

/** Valid responses to a GET, final and with a body that may be there. */
export const RESPONSES: fc.Arbitrary<Made> = fc
  .tuple(fc.constantFrom('200 OK', '404 Not here', '503 ', '201 \xc4h'), parts)
  .map(([status, all]) => made(`HTTP/1.1 ${status}`, [], all));

const SPOILERS = [...'\r\n\0\t\x0b\x0c\x7f\x80\xff :,;+-0159afx_."[]#*/\\'];

const spoil = fc.record({
  what: fc.constantFrom<'replace' | 'insert' | 'delete' | 'repeat' | 'case'>(
    'replace',
    'insert',
    'delete',
    'repeat',
    'case',
  ),
  at: fc.nat(400),
  length: fc.integer({ min: 1, max: 30 }),
  byte: fc.oneof(
    fc.constantFrom(...SPOILERS),
    fc.constantFrom('\r\n', 'Content-Length: 3\r\n', 'Transfer-Encoding: chunked\r\n'),
  ),
});

/** Valid requests in which up to three places were changed. */
export const SPOILED: fc.Arbitrary<string> = fc
  .tuple(REQUESTS, fc.array(spoil, { minLength: 1, maxLength: 3 }))
  .map(([{ text }, changes]) => changes.reduce(spoiled, text));

function spoiled(text: string, change: typeof spoil extends fc.Arbitrary<infer T> ? T : never): string {
  const at = change.at % (text.length + 1);
  const [before, behind] = [text.slice(0, at), text.slice(at)];
  switch (change.what) {
    case 'replace':
      return before + change.byte + behind.slice(1);
    case 'insert':
      return before + change.byte + behind;
    case 'delete':
      return before + behind.slice(change.length);
    case 'repeat':
      return before + behind.slice(0, change.length) + behind;
    case 'case':
      return (
        before +
        behind.slice(0, change.length).replace(/[a-z]/g, (letter) => letter.toUpperCase()) +
        behind.slice(change.length)
      );
  }
}

/** Noise made of what means something in HTTP. */
export const NOISE: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom(...SPOILERS),
      fc.constantFrom(
        'GET',
        ' /',
        ' HTTP/1.1',
        '\r\n',
        '\r\n\r\n',
        'Host: a',
        'Content-Length: ',
        'Transfer-Encoding: chunked',
        'HTTP/1.1 200 OK',
        'Connection: ',
        '5\r\nhello',
        '0\r\n',
      ),
      fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    ),
    { maxLength: 40 },
  )
  .map((pieces) => pieces.join(''));
