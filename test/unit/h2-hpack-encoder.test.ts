/** What the encoder sends, what it keeps in its table, and that any decoder follows it. */
import fc from 'fast-check';
import t from 'tap';
import { HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';
import { HpackEncoder } from '../../proxy/http/h2/hpack-encoder.ts';
import {
  CONNECTIONS,
  decodeBlock,
  encodeBlock,
  fromHex,
  type PlainField,
  tableOf,
} from '../support/hpack.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 50_000 : 1500 };

/** Representations by their first bytes (RFC 7541 section 6). */
function representation(block: Uint8Array): string {
  const [first] = block;
  if (first >= 0x80) return 'indexed';
  if (first >= 0x40) return 'added';
  return first >= 0x10 ? 'never indexed' : 'not indexed';
}

function field(name: string, value: string, neverIndexed = false): PlainField {
  return [name, value, neverIndexed];
}

t.test('a field is added when it comes again, and is one byte from then on', async (t) => {
  const encoder = new HpackEncoder();
  const sent = [1, 2, 3].map(() => encodeBlock(encoder, [field('x-app', 'one')]));
  t.strictSame(sent, [
    fromHex('00 05 782d617070 03 6f6e65'),
    fromHex('40 05 782d617070 03 6f6e65'),
    fromHex('be'),
  ]);
});

t.test('static entries are used from the beginning, as names too', async (t) => {
  const encoder = new HpackEncoder();
  t.strictSame(
    encodeBlock(encoder, [
      field(':method', 'GET'),
      field(':status', '404'),
      field('accept-encoding', 'gzip, deflate'),
    ]),
    fromHex('82 8d 90'),
  );
  t.strictSame(encodeBlock(encoder, [field(':path', '/x')]), fromHex('04 02 2f78'));
});

t.test('values that come once never get into the table, but their name does', async (t) => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  let longest = 0;
  for (let i = 0; i < 1000; i++) {
    const fields = [
      field('x-app', 'one'),
      field('x-request-id', `request-${i}`),
      field(':path', `/items/${i}`),
    ];
    const block = encodeBlock(encoder, fields);
    const found = decodeBlock(decoder, block).fields;
    if (JSON.stringify(found) !== JSON.stringify(fields)) t.strictSame(found, fields);
    if (i > 3) longest = Math.max(longest, block.length);
  }
  t.strictSame(
    tableOf(decoder).map(([name]) => name),
    ['x-request-id', 'x-app'],
  );
  // An index; a name's index of two bytes, a length and the value; one of one byte, a length and the value.
  t.equal(longest, 1 + 2 + 1 + 'request-999'.length + 1 + 1 + '/items/999'.length);
});

t.test('a field of every request gets into the table whatever comes with it', async (t) => {
  // Many sets of names: in some of them hashes share places.
  const late: string[] = [];
  for (let set = 0; set < 300; set++) {
    const encoder = new HpackEncoder();
    const fields = Array.from({ length: 12 }, (_, i) => field(`x-${set}-${i}`, `value-${i}`));
    let length = 0;
    for (let request = 0; request < 10; request++) length = encodeBlock(encoder, fields).length;
    if (length !== fields.length) late.push(`x-${set}-*: ${length} bytes for ${fields.length} fields`);
  }
  t.strictSame(late, []);
});

t.test('what must not be indexed never is', async (t) => {
  const cases: [PlainField, string][] = [
    [field('x-secret', 'one', true), 'never indexed'],
    [field(':path', '/', true), 'never indexed'],
    [field('authorization', `Bearer ${'x'.repeat(100)}`), 'never indexed'],
    [field('proxy-authorization', `Basic ${'x'.repeat(40)}`), 'never indexed'],
    [field('cookie', 'id=0123456789abcdef'), 'never indexed'],
    [field('cookie', 'id=0123456789abcdef0'), 'indexed'],
    [field('set-cookie', 'a=b'), 'never indexed'],
    [field('x-app', 'one'), 'indexed'],
    // More than half of the table.
    [field('x-large', 'x'.repeat(2048 - 32 - 7)), 'indexed'],
    [field('x-large', 'x'.repeat(2049 - 32 - 7)), 'not indexed'],
  ];
  for (const [sent, expected] of cases) {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    let last = '';
    for (let i = 0; i < 4; i++) {
      const block = encodeBlock(encoder, [sent]);
      last = representation(block);
      const [[name, value, neverIndexed]] = decodeBlock(decoder, block).fields;
      t.strictSame([name, value, neverIndexed], [sent[0], sent[1], expected === 'never indexed']);
    }
    t.equal(last, expected, `${sent[0]}: ${sent[1].slice(0, 30)}`);
    t.equal(tableOf(decoder).length, expected === 'indexed' ? 1 : 0);
  }
});

t.test('table size updates: the smallest and the last, once, before the next block', async (t) => {
  const cases: [sizes: number[], begins: string][] = [
    [[], '82'],
    [[4096], '82'],
    [[65_536], '82'],
    [[0], '20 82'],
    [[100], '3f45 82'],
    [[0, 4096], '20 3fe11f 82'],
    [[100, 0, 200], '20 3fa901 82'],
    [[100, 0], '20 82'],
    [[100, 4096, 200], '3f45 3fa901 82'],
    [[2 ** 32 - 1, 0], '20 82'],
  ];
  for (const [sizes, begins] of cases) {
    const encoder = new HpackEncoder();
    for (const size of sizes) encoder.peerTableSize(size);
    t.strictSame(encodeBlock(encoder, [field(':method', 'GET')]), fromHex(begins), `sizes ${sizes}`);
    t.strictSame(encodeBlock(encoder, [field(':method', 'GET')]), fromHex('82'));
  }
  const encoder = new HpackEncoder();
  encoder.peerTableSize(2000);
  encoder.peerTableSize(3000);
  t.strictSame(encodeBlock(encoder, []), fromHex('3fb10f 3f9917'), 'all the room of an empty list');
  encoder.peerTableSize(0);
  encodeBlock(encoder, []);
  encoder.peerTableSize(70_000);
  t.strictSame(encodeBlock(encoder, []), fromHex('3fe11f'), 'no larger than what we use');
});

t.test('a smaller table evicts, the oldest first', async (t) => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const fields = ['x-a', 'x-b', 'x-c'].map((name) => field(name, 'a'));
  for (let i = 0; i < 3; i++) decodeBlock(decoder, encodeBlock(encoder, fields));
  t.equal(tableOf(decoder).length, 3);
  encoder.peerTableSize(80);
  const block = encodeBlock(encoder, fields.slice(1));
  t.strictSame(decodeBlock(decoder, block).fields, fields.slice(1));
  t.strictSame(tableOf(decoder), [fields[2], fields[1]]);
  t.strictSame(block, fromHex('3f31 bf be'));
});

t.test('encoder and decoder agree to the byte about what fits', async (t) => {
  for (const [size, entries] of [
    [110, 2],
    [111, 3],
    [112, 3],
  ]) {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    encoder.peerTableSize(size);
    // 37 bytes each, in an order in which the last one is found first.
    const fields = ['abcd', 'efgh', 'ijkl'].map((value) => field('x', value));
    for (let i = 0; i < 6; i++) {
      const { problem, fields: found } = decodeBlock(decoder, encodeBlock(encoder, fields.toReversed()));
      t.equal(problem, 0);
      t.strictSame(found, fields.toReversed());
      fields.reverse();
    }
    t.equal(tableOf(decoder).length, entries, `entries of 37 bytes in ${size}`);
  }
});

t.test('a decoder follows an encoder through any lists and table sizes', async (t) => {
  const seen = { indexed: 0, fields: 0 };
  fc.assert(
    fc.property(CONNECTIONS, (steps) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder();
      for (const step of steps) {
        if (typeof step === 'number') {
          encoder.peerTableSize(step);
          continue;
        }
        const block = encodeBlock(encoder, step);
        const found = decodeBlock(decoder, block);
        const expected = step.map(([name, value, neverIndexed]): PlainField => {
          return [name, value, neverIndexed || isGuarded(name, value)];
        });
        if (found.problem !== 0 || JSON.stringify(found.fields) !== JSON.stringify(expected)) {
          throw new Error(`problem ${found.problem}: ${JSON.stringify(found.fields)}`);
        }
        seen.fields += step.length;
        const lost = tableOf(decoder).filter(([, , neverIndexed]) => neverIndexed);
        if (lost.length > 0) throw new Error(`in the table: ${JSON.stringify(lost)}`);
        if (step.length > 0 && block.length === step.length) seen.indexed++;
      }
    }),
    RUNS,
  );
  t.ok(seen.fields > 20 * RUNS.numRuns, `${seen.fields} fields`);
  t.ok(seen.indexed > RUNS.numRuns / 4, `${seen.indexed} blocks were indexes alone`);
});

function isGuarded(name: string, value: string): boolean {
  return name === 'authorization' || (/^(set-)?cookie$/.test(name) && value.length < 20);
}
