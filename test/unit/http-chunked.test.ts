/** Chunked bodies: runs of data where they are, at every split, one reader for many bodies. */
import fc from 'fast-check';
import t from 'tap';
import { ChunkedReader } from '../../proxy/http/chunked.ts';
import { PROBLEM } from '../../proxy/http/problems.ts';
import { bytesOf, plainFields, textOf } from '../support/http-codec.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 20_000 : 500 };

/** Reads pieces of a body, each at another place of another buffer. Returns its data, or the problem. */
function read(
  chunks: ChunkedReader,
  pieces: readonly Uint8Array[],
): { data: string; problem: number; left: number } {
  let data = '';
  let left = 0;
  for (const piece of pieces) {
    const bytes = new Uint8Array(piece.length + 5).fill(0x30);
    bytes.set(piece, 2);
    const to = 2 + piece.length;
    let at = 2;
    while (at < to && !chunks.done) {
      const next = chunks.next(bytes, at, to);
      if (next < 0) return { data, problem: -next, left: 0 };
      if (next === at) throw new Error('no progress');
      data += textOf(bytes, chunks.dataStart, chunks.dataEnd);
      at = next;
    }
    left += to - at;
  }
  return { data, problem: 0, left };
}

/** `bytes` in two. */
function halves(bytes: Uint8Array, cut: number): Uint8Array[] {
  return [bytes.subarray(0, cut), bytes.subarray(cut)];
}

const BODY = '5;ext="a b"\r\nhello\r\n00a\r\n, chunked \r\n0;last\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n';

t.test('one reader for many bodies, cut anywhere', async (t) => {
  const chunks = new ChunkedReader();
  const bytes = bytesOf(BODY);
  for (let cut = 0; cut <= bytes.length; cut++) {
    chunks.reset();
    const found = read(chunks, halves(bytes, cut));
    t.strictSame(found, { data: 'hello, chunked ', problem: 0, left: 0 }, `cut at ${cut}`);
    t.ok(chunks.done);
    t.strictSame(plainFields(chunks.trailers), [
      ['X-Sum', '1', false],
      ['X-Empty', '', false],
    ]);
  }
});

t.test('it is done with the last byte, not before, and takes nothing behind it', async (t) => {
  const bytes = bytesOf(BODY);
  const chunks = new ChunkedReader();
  read(chunks, [bytes.subarray(0, -1)]);
  t.equal(chunks.done, false);
  chunks.reset();
  t.strictSame(read(chunks, [bytesOf(`${BODY}GET / HTTP/1.1`)]).left, 'GET / HTTP/1.1'.length);
  const more = bytesOf('more');
  t.equal(chunks.next(more, 1, 4), 1, 'behind the end nothing is consumed');
});

t.test('a run of data is given at once, however large', async (t) => {
  const chunks = new ChunkedReader();
  const bytes = bytesOf(`fffffffffffff\r\n${'a'.repeat(1000)}`);
  const at = chunks.next(bytes, 0, bytes.length);
  t.equal(at, bytes.length);
  t.strictSame([chunks.dataStart, chunks.dataEnd], [15, bytes.length]);
  t.equal(chunks.next(bytes, 20, 25), 25, 'and goes on in the next bytes');
  t.strictSame([chunks.dataStart, chunks.dataEnd], [20, 25]);
});

t.test('a trailer section that never ends is given up, fed byte by byte', async (t) => {
  const chunks = new ChunkedReader();
  read(chunks, [bytesOf('0\r\nX-A: ')]);
  const one = bytesOf('a');
  let result = 0;
  let fed = 'X-A: '.length;
  for (; result >= 0 && fed <= 70_000; fed++) result = chunks.next(one, 0, 1);
  t.equal(result, -PROBLEM.trailersTooLarge);
  t.equal(fed, 65_537);
  t.equal(chunks.seenBytes, 65_537);
});

t.test('properties', async (t) => {
  const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}$/);
  const chunk = fc.record({
    data: fc.uint8Array({ minLength: 1, maxLength: 40 }),
    zeros: fc.nat(4),
    upper: fc.boolean(),
    extension: fc.option(token, { nil: '' }),
  });
  const trailers = fc.array(fc.tuple(token, token), { maxLength: 3 });
  fc.assert(
    fc.property(
      fc.array(chunk, { maxLength: 6 }),
      trailers,
      fc.array(fc.nat(400), { maxLength: 8 }),
      (all, fields, cuts) => {
        const text = all.map(({ data, zeros, upper, extension }) => {
          const size = data.length.toString(16).padStart(zeros, '0');
          return `${upper ? size.toUpperCase() : size}${extension === '' ? '' : `;${extension}`}\r\n${textOf(data)}\r\n`;
        });
        const section = fields.map(([name, value]) => `x-${name}: ${value}\r\n`).join('');
        const bytes = bytesOf(`${text.join('')}0\r\n${section}\r\n`);
        const places = [
          0,
          ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b),
          bytes.length,
        ];
        const pieces = places.slice(1).map((end, i) => bytes.subarray(places[i], end));
        const chunks = new ChunkedReader();
        const found = read(chunks, pieces);
        const expected = all.map(({ data }) => textOf(data)).join('');
        if (found.data !== expected || !chunks.done || found.left !== 0)
          throw new Error(JSON.stringify(found));
        const names = plainFields(chunks.trailers).map(([name, value]) => `${name}: ${value}\r\n`);
        if (names.join('') !== section) throw new Error(names.join(''));
      },
    ),
    RUNS,
  );
  t.ok(true, `${RUNS.numRuns} bodies`);
});
