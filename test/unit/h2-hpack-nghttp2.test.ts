/** HPACK against libnghttp2: each decodes what the other encodes, and they agree about what is wrong. */
import fc from 'fast-check';
import t from 'tap';
import { HpackDecoder, isCompressionError } from '../../proxy/http/h2/hpack-decoder.ts';
import { HpackEncoder } from '../../proxy/http/h2/hpack-encoder.ts';
import {
  CONNECTIONS,
  decodeBlock,
  encodeBlock,
  fromHex,
  type Inflated,
  type Nghttp2Step,
  PLAIN_FIELDS,
  type PlainField,
  requireNghttp2,
  runNghttp2,
} from '../support/hpack.ts';

const SAMPLES = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 5000 : 250 };

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** What both sides must say of a list; `sent` may be indexed where `read` is not, not the other way round. */
function difference(sent: readonly PlainField[], read: readonly PlainField[] | undefined): string[] {
  const [expected, found] = [sent, read ?? []].map((fields) => fields.map(([name, value]) => [name, value]));
  if (JSON.stringify(expected) !== JSON.stringify(found)) return [JSON.stringify({ expected, found })];
  const lost = sent.filter(([, , neverIndexed], i) => neverIndexed && read?.[i][2] === false);
  return lost.map((field) => `may be indexed now: ${JSON.stringify(field)}`);
}

t.test('our decoder reads what nghttp2 deflates', async (t) => {
  if (!(await requireNghttp2(t))) return;
  const connections = fc.sample(CONNECTIONS, SAMPLES);
  const steps = connections.map((connection) =>
    connection.map((step): Nghttp2Step => (typeof step === 'number' ? { size: step } : { fields: step })),
  );
  const results = await runNghttp2(steps.map((steps) => ({ role: 'deflate', steps })));
  const wrong: string[] = [];
  const seen = { blocks: 0, sizes: 0, neverIndexed: 0 };
  for (const [i, connection] of connections.entries()) {
    const decoder = new HpackDecoder();
    const lists = connection.filter((step) => typeof step !== 'number');
    for (const [j, block] of (results[i] as string[]).entries()) {
      const { problem, fields } = decodeBlock(decoder, fromHex(block));
      if (problem !== 0) wrong.push(`problem ${problem}: ${block}`);
      wrong.push(...difference(lists[j], fields));
      seen.blocks++;
      if (/^(2|3f)/.test(block)) seen.sizes++;
      seen.neverIndexed += lists[j].filter(([, , neverIndexed]) => neverIndexed).length;
    }
  }
  t.strictSame(wrong.slice(0, 3), []);
  t.ok(seen.blocks > 2 * SAMPLES.numRuns, `${seen.blocks} blocks`);
  t.ok(seen.sizes > SAMPLES.numRuns / 10, `${seen.sizes} of them began with a table size`);
  t.ok(seen.neverIndexed > SAMPLES.numRuns, `${seen.neverIndexed} fields were never indexed`);
});

t.test('nghttp2 inflates what our encoder sends', async (t) => {
  if (!(await requireNghttp2(t))) return;
  const connections = fc.sample(CONNECTIONS, SAMPLES);
  const steps = connections.map((connection) => {
    const encoder = new HpackEncoder();
    return connection.map((step): Nghttp2Step => {
      if (typeof step !== 'number') return { block: hex(encodeBlock(encoder, step)) };
      encoder.peerTableSize(step);
      return { size: step };
    });
  });
  const results = await runNghttp2(steps.map((steps) => ({ role: 'inflate', steps })));
  const wrong: string[] = [];
  let blocks = 0;
  for (const [i, connection] of connections.entries()) {
    const lists = connection.filter((step) => typeof step !== 'number');
    const inflated = results[i] as Inflated[];
    for (const [j, list] of lists.entries()) {
      const { fields, error } = inflated[j] ?? { error: 'none' };
      wrong.push(...difference(list, fields).map((what) => `error ${error}: ${what}`));
      blocks++;
    }
  }
  t.strictSame(wrong.slice(0, 3), []);
  t.ok(blocks > 2 * SAMPLES.numRuns, `${blocks} blocks`);
});

/** Blocks of nghttp2, of which the last is spoilt in some bytes or cut. */
const SPOILT = fc.record({
  lists: fc.array(fc.array(PLAIN_FIELDS, { maxLength: 12 }), { minLength: 1, maxLength: 5 }),
  spoilt: fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255) }), { maxLength: 2 }),
  cut: fc.oneof({ arbitrary: fc.constant(0), weight: 4 }, { arbitrary: fc.nat(10), weight: 1 }),
});

/** Of which some mean something. */
const BYTES = fc.oneof(
  fc.nat(255),
  fc.constantFrom(0x82, 0xbe, 0x40, 0x41, 0x7e, 0, 0x10, 1, 2, 0x20, 0x81, 0x1f, 0x61, 0x3f),
);

const NOISE = fc.array(fc.array(BYTES, { maxLength: 24 }), { minLength: 1, maxLength: 3 });

async function spoiltConnections(): Promise<Uint8Array[][]> {
  const samples = fc.sample(SPOILT, { ...SAMPLES, numRuns: 4 * SAMPLES.numRuns });
  const deflated = await runNghttp2(
    samples.map(({ lists }) => ({ role: 'deflate', steps: lists.map((fields) => ({ fields })) })),
  );
  return samples.map(({ spoilt, cut }, i) => {
    const blocks = (deflated[i] as string[]).map(fromHex);
    const last = blocks[blocks.length - 1];
    for (const { at, byte } of spoilt) if (last.length > 0) last[at % last.length] = byte;
    return [...blocks.slice(0, -1), last.subarray(0, Math.max(0, last.length - cut))];
  });
}

t.test('both refuse the same blocks, and read the others alike', async (t) => {
  if (!(await requireNghttp2(t))) return;
  const noise = fc.sample(NOISE, { ...SAMPLES, numRuns: 4 * SAMPLES.numRuns });
  const connections = [
    ...(await spoiltConnections()),
    ...noise.map((blocks) => blocks.map((block) => Uint8Array.from(block))),
  ];
  const results = await runNghttp2(
    connections.map((blocks) => ({ role: 'inflate', steps: blocks.map((block) => ({ block: hex(block) })) })),
  );
  const wrong: string[] = [];
  const seen = { refused: 0, read: 0 };
  for (const [i, blocks] of connections.entries()) {
    const decoder = new HpackDecoder();
    // It stops at the first block that it refuses.
    for (const [j, { fields, error }] of (results[i] as Inflated[]).entries()) {
      const ours = decodeBlock(decoder, blocks[j]);
      const agreed = isCompressionError(ours.problem)
        ? error !== undefined
        : error === undefined && difference(fields ?? [], ours.fields).length === 0;
      if (!agreed) wrong.push(`${blocks.slice(0, j + 1).map(hex)}: problem ${ours.problem}, error ${error}`);
      if (error === undefined) seen.read++;
      else seen.refused++;
    }
  }
  t.strictSame(wrong.slice(0, 3), []);
  t.ok(seen.read > 2 * SAMPLES.numRuns, `${seen.read} were read`);
  t.ok(seen.refused > SAMPLES.numRuns, `${seen.refused} were refused`);
});
