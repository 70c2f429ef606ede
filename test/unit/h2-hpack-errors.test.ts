/** Header blocks that are wrong, too large, or made to take memory and time (RFC 7541 and section 10.5.1 of RFC 9113). */
import fc from 'fast-check';
import t from 'tap';
import { FieldList, MAX_LIST_BYTES, MAX_LIST_FIELDS } from '../../proxy/http/h2/field.ts';
import {
  describeHpackProblem,
  HPACK_PROBLEM,
  HpackDecoder,
  isCompressionError,
} from '../../proxy/http/h2/hpack-decoder.ts';
import { decodeBlock, fromHex, tableOf } from '../support/hpack.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 200_000 : 10_000 };

/** `custom-key: custom-value` into the table, so that one dynamic entry is there. */
const ONE_ENTRY = '400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65';

const P = HPACK_PROBLEM;

/** Block, problem, and why. */
const WRONG: readonly [block: string, problem: number, why: string][] = [
  ['80', P.index, 'index 0 (6.1)'],
  ['be', P.index, 'an index behind an empty table'],
  [`${ONE_ENTRY} bf`, P.index, 'an index behind a table of one'],
  ['ff 00', P.index, 'an index of two bytes behind the table'],
  ['ff ff ff ff ff 0f', P.index, 'a huge index'],
  ['7e 01 61', P.index, 'a literal with a name index behind the table, to be indexed'],
  ['0f 2f 01 61', P.index, 'a literal with a name index behind the table, not indexed'],
  ['1f 2f 01 61', P.index, 'a literal with a name index behind the table, never indexed'],
  ['ff 80 80 80 80 80 01', P.integer, 'an index of six further bytes (5.1)'],
  ['ff 80 80 80 80 80 00', P.integer, 'an index of six further bytes, of which most say nothing'],
  ['82 00 7f ff ff ff ff ff ff ff ff ff 01', P.integer, 'a string length that overflows'],
  ['3f ff ff ff ff ff ff 0f', P.integer, 'a table size that overflows'],
  ['ff', P.truncated, 'ends within an index'],
  ['ff 80', P.truncated, 'ends within a longer index'],
  ['40', P.truncated, 'ends before a name'],
  ['40 0a 6375', P.truncated, 'ends within a name'],
  ['40 01 61', P.truncated, 'ends before a value'],
  ['40 01 61 7f', P.truncated, 'ends within the length of a value'],
  ['40 01 61 03 6161', P.truncated, 'ends within a value'],
  ['44 7f ff ff ff 07 61', P.truncated, 'a string of 256 MB that is not there'],
  ['3f', P.truncated, 'ends within a table size'],
  ['82 20', P.sizeUpdatePlace, 'a table size behind a field (4.2)'],
  [`${ONE_ENTRY} 3f e1 1f`, P.sizeUpdatePlace, 'the same table size behind a field'],
  ['3f e2 1f', P.sizeUpdateTooLarge, 'a table size of 4097 (6.3)'],
  ['20 3f ff ff ff ff 0f', P.sizeUpdateTooLarge, 'a huge table size behind a right one'],
  ['44 81 ff', P.huffman, 'padding of eight bits (5.2)'],
  ['44 82 1f ff', P.huffman, 'a zero and padding of more than seven bits'],
  ['44 81 18', P.huffman, 'padding of zeros'],
  ['44 81 1e', P.huffman, 'padding of ones and a zero'],
  ['44 84 ff ff ff fc', P.huffman, 'EOS and zeros (5.2)'],
  ['44 84 ff ff ff ff', P.huffman, 'EOS and padding'],
  ['44 85 1f ff ff ff ff', P.huffman, 'EOS behind a byte'],
  ['40 81 ff 01 61', P.huffman, 'a name with padding of eight bits'],
];

t.test('wrong blocks end the connection', async (t) => {
  for (const [block, problem, why] of WRONG) {
    const found = decodeBlock(new HpackDecoder(), fromHex(block)).problem;
    t.equal(found, problem, why);
    t.ok(isCompressionError(found));
  }
});

t.test('nearly the same blocks are right', async (t) => {
  const right: [block: string, fields: [string, string][]][] = [
    ['', []],
    [`${ONE_ENTRY} be`, Array(2).fill(['custom-key', 'custom-value'])],
    ['20 3f e1 1f 82', [[':method', 'GET']]],
    ['20 20 20', []],
    ['44 80', [[':path', '']]],
    ['44 81 1f', [[':path', 'a']]],
    ['44 00', [[':path', '']]],
    ['40 00 00', [['', '']]],
    ['0f 00 01 61', [['accept-charset', 'a']]],
    ['0f 80 80 00 01 61', [['accept-charset', 'a']]],
  ];
  for (const [block, fields] of right) {
    const found = decodeBlock(new HpackDecoder(), fromHex(block));
    t.equal(found.problem, 0, block);
    t.strictSame(
      found.fields.map(([name, value]) => [name, value]),
      fields,
    );
  }
  t.equal(isCompressionError(0), false);
});

t.test('the longest codes are told from EOS, which differs in the last bits', async (t) => {
  const codes = ['ff ff ff f3', 'ff ff ff f7', 'ff ff ff fb'];
  t.strictSame(
    codes.map((code) => decodeBlock(new HpackDecoder(), fromHex(`44 84 ${code}`)).fields[0]?.[1]),
    ['\n', '\r', '\x16'],
  );
});

t.test('a table size update evicts, and is kept to', async (t) => {
  const decoder = new HpackDecoder();
  t.equal(decodeBlock(decoder, fromHex(ONE_ENTRY)).problem, 0);
  t.equal(tableOf(decoder).length, 1);
  t.equal(decodeBlock(decoder, fromHex('20 82')).problem, 0);
  t.equal(tableOf(decoder).length, 0);
  t.equal(decodeBlock(decoder, fromHex(ONE_ENTRY)).problem, 0);
  t.equal(tableOf(decoder).length, 0, 'the table has no room');
  t.equal(decodeBlock(decoder, fromHex(`3f e1 1f ${ONE_ENTRY}`)).problem, 0);
  t.equal(tableOf(decoder).length, 1);
});

t.test('an entry larger than the table empties it, and is a field all the same', async (t) => {
  const decoder = new HpackDecoder(100);
  t.equal(decodeBlock(decoder, fromHex(ONE_ENTRY)).problem, 0);
  t.equal(tableOf(decoder).length, 1);
  const large = Uint8Array.from([0x40, 1, 0x61, 68, ...new Array<number>(68).fill(0x62)]);
  t.strictSame(decodeBlock(decoder, large).fields, [['a', 'b'.repeat(68), false]]);
  t.equal(tableOf(decoder).length, 0);
});

t.test('a new entry may take its name from the one that it evicts', async (t) => {
  const decoder = new HpackDecoder(60);
  t.equal(decodeBlock(decoder, fromHex(ONE_ENTRY)).problem, 0);
  t.strictSame(decodeBlock(decoder, fromHex('7e 01 61')).fields, [['custom-key', 'a', false]]);
  t.strictSame(tableOf(decoder), [['custom-key', 'a', false]]);
});

t.test('lists over the limits are told, and the table goes on', async (t) => {
  const decoder = new HpackDecoder();
  const many = Buffer.concat([Buffer.alloc(MAX_LIST_FIELDS, 0x82), fromHex(ONE_ENTRY)]);
  t.equal(decodeBlock(decoder, many.subarray(0, MAX_LIST_FIELDS)).problem, 0);
  const tooMany = decodeBlock(decoder, many);
  t.equal(tooMany.problem, P.tooManyFields);
  t.equal(tooMany.fields.length, MAX_LIST_FIELDS);
  t.strictSame(tableOf(decoder), [['custom-key', 'custom-value', false]]);

  const large = (valueBytes: number) => {
    const rest = valueBytes - 127;
    const length = [0x7f, 0x80 | (rest & 0x7f), 0x80 | ((rest >> 7) & 0x7f), rest >> 14];
    return Uint8Array.from([0x04, ...length, ...new Array<number>(valueBytes).fill(0x61), 0xbe]);
  };
  // `:path` has 5 bytes, the field behind it 54, and each 32 more.
  const most = MAX_LIST_BYTES - 37 - 54;
  const fits = decodeBlock(decoder, large(most));
  t.strictSame([fits.problem, fits.size, fits.fields.length], [0, MAX_LIST_BYTES, 2]);
  const over = decodeBlock(decoder, large(most + 1));
  t.strictSame([over.problem, over.size, over.fields.length], [P.listTooLarge, MAX_LIST_BYTES + 1, 1]);
  t.equal(isCompressionError(P.listTooLarge) || isCompressionError(P.tooManyFields), false);
  t.match(
    describeHpackProblem(P.listTooLarge, 70_000),
    `larger than ${MAX_LIST_BYTES} bytes, 32 for each field`,
  );
  t.match(describeHpackProblem(P.listTooLarge, 70_000), '(70000 seen)');
});

t.test('a block that decodes to megabytes stops at the limit, in little memory and time', async (t) => {
  const decoder = new HpackDecoder();
  const list = new FieldList();
  // A cookie of nearly the whole table, and 60,000 times its index: 240 MB.
  const value = 4096 - 32 - 1;
  const entry = [0x40, 1, 0x61, 0x7f, 0x80 | ((value - 127) & 0x7f), (value - 127) >> 7];
  const bomb = Uint8Array.from([
    ...entry,
    ...new Array<number>(value).fill(0x62),
    ...new Array(60_000).fill(0xbe),
  ]);
  const started = process.cpuUsage();
  t.equal(decoder.decode(bomb, 0, bomb.length, list), P.listTooLarge);
  const { user, system } = process.cpuUsage(started);
  t.equal(list.size, 60_001 * 4096);
  t.equal(list.count, Math.floor(MAX_LIST_BYTES / 4096));
  t.ok(user + system < 250_000, `${user + system} µs of CPU`);
  t.equal(tableOf(decoder).length, 1);
});

t.test('work is in proportion to the block: long names by index, evictions, size updates', async (t) => {
  const repeated = (start: readonly number[], unit: readonly number[]) => {
    const times = Math.floor((MAX_LIST_BYTES - start.length) / unit.length);
    return Uint8Array.from([...start, ...Array.from({ length: times }, () => unit).flat()]);
  };
  const name = 3000;
  const longName = [
    0x40,
    0x7f,
    0x80 | ((name - 127) & 0x7f),
    (name - 127) >> 7,
    ...new Array(name).fill(0x61),
    0,
  ];
  const blocks: [string, Uint8Array][] = [
    ['entries that take a long name from the table', repeated(longName, [0x7e, 0x00])],
    ['new names', repeated([], [0x40, 0x01, 0x61, 0x00])],
    ['empty Huffman strings', repeated([], [0x40, 0x80, 0x80])],
    ['size updates', repeated([], [0x20, 0x3f, 0xe1, 0x1f])],
    [
      'one Huffman string of the shortest codes',
      Uint8Array.from([0x04, 0xff, 0x83, 0xfe, 3, ...new Array<number>(65_410).fill(0)]),
    ],
  ];
  for (const [what, block] of blocks) {
    const decoder = new HpackDecoder();
    const list = new FieldList();
    const started = process.cpuUsage();
    const problem = decoder.decode(block, 0, block.length, list);
    const { user, system } = process.cpuUsage(started);
    t.notOk(isCompressionError(problem), what);
    t.ok(user + system < 250_000, `${what}: ${user + system} µs of CPU for ${block.length} bytes`);
  }
});

t.test('no bytes make the decoder throw, hang or read behind the block', async (t) => {
  const seen = { right: 0, compression: 0 };
  const noise = fc.uint8Array({ maxLength: 60 });
  // Bytes that mean something: representations with small indexes and lengths.
  const likely = fc.array(
    fc.constantFrom(0x82, 0xbe, 0xbf, 0x40, 0x41, 0x7e, 0, 0x10, 1, 2, 3, 0x20, 0x81, 0x1f, 0x61, 0x3f),
    {
      maxLength: 40,
    },
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(noise, likely), { minLength: 1, maxLength: 4 }), (blocks) => {
      const decoder = new HpackDecoder();
      for (const block of blocks) {
        const { problem, fields, size } = decodeBlock(decoder, Uint8Array.from(block));
        const sum = fields.reduce((bytes, [name, value]) => bytes + name.length + value.length + 32, 0);
        if (!isCompressionError(problem) && sum !== size)
          throw new Error(`${sum} bytes of fields, size ${size}`);
        if (!isCompressionError(problem)) seen.right++;
        else return void seen.compression++;
        const table = tableOf(decoder).reduce(
          (bytes, [name, value]) => bytes + name.length + value.length + 32,
          0,
        );
        if (table > 4096) throw new Error(`the table has ${table} bytes`);
      }
    }),
    RUNS,
  );
  t.ok(seen.right > RUNS.numRuns / 10, `${seen.right} blocks were right`);
  t.ok(seen.compression > RUNS.numRuns / 10, `${seen.compression} were wrong`);
});
