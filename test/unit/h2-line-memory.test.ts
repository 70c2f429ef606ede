/** Lines of HTTP/1 that were seen before: the same Field as without a memory, whatever came in between. */
import fc from 'fast-check';
import t from 'tap';
import type { Field } from '../../proxy/http/h2/field.ts';
import { fieldOf } from '../../proxy/http/h2/interning.ts';
import { fieldOfLine, fieldOfValue } from '../../proxy/http/h2/line-memory.ts';
import { bytesOf, textOf } from '../support/http-codec.ts';

/** Before and behind a line in its buffer, so that it stands at any offset. */
const AROUND = 3;

function ofLine(name: string, blanks: string, value: string): Field {
  const bytes = bytesOf(`${'.'.repeat(AROUND)}${name}:${blanks}${value}\r\n`);
  const nameEnd = AROUND + name.length;
  const valueStart = nameEnd + 1 + blanks.length;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return fieldOfLine(bytes, view, AROUND, nameEnd, valueStart, valueStart + value.length);
}

function ofValue(name: string, value: string): Field {
  const bytes = bytesOf(`..${value} `);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return fieldOfValue(fieldOf(name, '').label, bytes, view, 2, 2 + value.length);
}

function text({ name, value }: Field): string {
  return `${textOf(name)}: ${textOf(value)}`;
}

t.test('a line that comes again and again is one object, in every spelling of its name', async (t) => {
  const first = ofLine('X-Known', ' ', 'value');
  for (let i = 0; i < 4; i++) {
    t.equal(ofLine('X-Known', ' ', 'value'), first);
    t.equal(ofLine('x-known', '', 'value'), first);
    t.equal(ofLine('X-KNOWN', '\t ', 'value'), first);
  }
  t.equal(text(first), 'x-known: value');
});

t.test('lines that differ in one byte are told apart, wherever it is', async (t) => {
  for (const length of [1, 2, 3, 4, 5, 8, 31, 64, 257, 1100]) {
    const values = Array.from(
      { length: Math.min(length, 300) },
      (_, i) => `${'a'.repeat(i)}b${'a'.repeat(length - i - 1)}`,
    );
    for (let round = 0; round < 3; round++) {
      const wrong = values.filter((value) => text(ofLine('X', ' ', value)) !== `x: ${value}`);
      t.strictSame(wrong, [], `${length} bytes, round ${round}`);
    }
  }
});

t.test('a remembered line is compared whole', async (t) => {
  for (const length of [7, 16, 61, 200]) {
    const wrong: number[] = [];
    for (let i = 0; i < length; i++) {
      const name = `n${length}-${i}`;
      const usual = 'a'.repeat(length);
      for (let round = 0; round < 3; round++) ofLine(name, ' ', usual);
      const odd = `${'a'.repeat(i)}b${'a'.repeat(length - i - 1)}`;
      if (text(ofLine(name, ' ', odd)) !== `${name}: ${odd}`) wrong.push(i);
    }
    t.strictSame(wrong, [], `${length} bytes`);
  }
});

t.test('a remembered line is found when its field is not in any other memory', async (t) => {
  const line = () => ofLine('X-Remembered', ' ', 'for long');
  const first = line();
  for (let round = 0; round < 3; round++) line();
  for (let i = 0; i < 20_000; i++) for (let twice = 0; twice < 2; twice++) fieldOf('x-other', String(i));
  t.not(fieldOf('x-remembered', 'for long'), first, 'forgotten there');
  t.equal(line(), first);
});

t.test('a value alone is no line, and belongs to its name', async (t) => {
  for (let round = 0; round < 3; round++) {
    t.equal(text(ofLine('shop', '', '8080')), 'shop: 8080');
    t.equal(text(ofValue(':authority', 'shop:8080')), ':authority: shop:8080');
    t.equal(text(ofValue(':path', 'shop:8080')), ':path: shop:8080');
    t.equal(ofValue(':path', '/'), fieldOf(':path', '/'), 'too short to be remembered');
  }
});

t.test('any lines in any order', async (t) => {
  const name = fc.constantFrom('A', 'a', 'aB', 'Accept', 'ACCEPT', 'x-request-id');
  const value = fc.oneof(
    fc.stringMatching(/^[ab]{0,12}$/),
    fc.stringMatching(/^[0-9a-f]{32}$/),
    fc.constantFrom('', 'gzip', 'a'.repeat(1022), 'a'.repeat(1030)),
  );
  let count = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(name, fc.constantFrom('', ' ', '\t'), value), { maxLength: 60 }), (all) => {
      for (const [spelt, blanks, said] of [...all, ...all, ...all]) {
        const found = text(ofLine(spelt, said === '' ? '' : blanks, said));
        if (found !== `${spelt.toLowerCase()}: ${said}`) throw new Error(`${found} for ${spelt}: ${said}`);
        const alone = text(ofValue(spelt.toLowerCase(), said));
        if (alone !== `${spelt.toLowerCase()}: ${said}`) throw new Error(`${alone} for ${said} of ${spelt}`);
        count++;
      }
    }),
    { seed: 20_261_121, numRuns: 300 },
  );
  t.ok(count > 3000, `${count} lines`);
});
