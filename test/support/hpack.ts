/** Header blocks and fields for tests of HPACK. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import type { Test } from 'tap';
import { type Field, FieldList } from '../../proxy/http/h2/field.ts';
import { HPACK_PROBLEM, type HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';
import type { HpackEncoder } from '../../proxy/http/h2/hpack-encoder.ts';
import { fieldOf } from '../../proxy/http/h2/interning.ts';
import { missing } from './peers.ts';

/** Name, value, and whether no hop may index it. */
export type PlainField = readonly [name: string, value: string, neverIndexed: boolean];

/** What a decoder made of a block. */
export interface DecodedBlock {
  /** One of HPACK_PROBLEM. */
  readonly problem: number;
  readonly fields: readonly PlainField[];
  /** FieldList.size. */
  readonly size: number;
}

/** The bytes of hexadecimal digits; blanks between them do not matter. */
export function fromHex(digits: string): Uint8Array {
  return Uint8Array.from(Buffer.from(digits.replaceAll(/\s/g, ''), 'hex'));
}

/** A field as text. */
export function plain(field: Field): PlainField {
  return [latin1(field.name), latin1(field.value), field.neverIndexed];
}

/** Fields of texts, made as messages make them. */
export function listOf(fields: readonly PlainField[]): FieldList {
  const list = new FieldList();
  for (const [name, value, neverIndexed] of fields) list.push(fieldOf(name, value, neverIndexed));
  return list;
}

/** Decodes one block, in the middle of other bytes. */
export function decodeBlock(decoder: HpackDecoder, block: Uint8Array): DecodedBlock {
  const around = new Uint8Array(block.length + 20).fill(0x82);
  around.set(block, 10);
  const list = new FieldList();
  const problem = decoder.decode(around, 10, 10 + block.length, list);
  return { problem, fields: list.items.slice(0, list.count).map(plain), size: list.size };
}

/** The field objects of a block that is right. */
export function fieldsOf(decoder: HpackDecoder, block: Uint8Array): Field[] {
  const list = new FieldList();
  const problem = decoder.decode(block, 0, block.length, list);
  if (problem !== 0) throw new Error(`problem ${problem}`);
  return list.items.slice(0, list.count);
}

/** Encodes one block; throws when it needs more than `room` says or writes outside of it. */
export function encodeBlock(encoder: HpackEncoder, fields: readonly PlainField[]): Uint8Array {
  const list = listOf(fields);
  const room = encoder.room(list);
  const into = new Uint8Array(room + 20).fill(0xa5);
  const end = encoder.encode(list, into, 10);
  if (end - 10 > room) throw new Error(`${end - 10} bytes, but room for ${room}`);
  if ([...into.subarray(0, 10), ...into.subarray(end)].some((byte) => byte !== 0xa5)) {
    throw new Error('the encoder wrote outside of its block');
  }
  return into.slice(10, end);
}

/** The dynamic table of a decoder, newest entry first: what its indexes mean. */
export function tableOf(decoder: HpackDecoder): PlainField[] {
  const table: PlainField[] = [];
  for (let index = 62; ; index++) {
    const block = index < 127 ? [0x80 | index] : [0xff, index - 127];
    const { problem, fields } = decodeBlock(decoder, Uint8Array.from(block));
    if (problem === HPACK_PROBLEM.index) return table;
    table.push(fields[0]);
  }
}

const NAMES = [
  ...[':method', ':path', ':status', 'content-type', 'content-length', 'accept', 'te', 'x-request-id', 'x'],
  ...['traceparent', 'authorization', 'cookie', 'set-cookie', 'grpc-timeout'],
];

/** Fields that come again within a sequence of lists, some of them large, and some that come once. */
export const PLAIN_FIELDS: fc.Arbitrary<PlainField> = fc.tuple(
  fc.oneof(
    { arbitrary: fc.constantFrom(...NAMES), weight: 8 },
    { arbitrary: fc.stringMatching(/^[a-z][a-z0-9-]{0,40}$/), weight: 1 },
  ),
  fc.oneof(
    {
      arbitrary: fc.constantFrom('', 'GET', '/', '200', 'gzip, deflate', 'application/grpc', 'a'),
      weight: 8,
    },
    { arbitrary: fc.nat(30).map((n) => `value-${n}`), weight: 8 },
    { arbitrary: fc.nat(4).map((n) => `${n}`.repeat(900 * n + 100)), weight: 1 },
    { arbitrary: fc.string({ unit: anyByte(), maxLength: 60 }), weight: 4 },
  ),
  fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
);

/** One connection: lists of fields, most of them the same ones again and again, and table sizes of the peer between them. */
export const CONNECTIONS: fc.Arbitrary<readonly (number | readonly PlainField[])[]> = fc
  .array(PLAIN_FIELDS, { minLength: 3, maxLength: 16 })
  .chain((usual) => {
    const field = fc.oneof(
      { arbitrary: fc.constantFrom(...usual), weight: 6 },
      { arbitrary: PLAIN_FIELDS, weight: 1 },
    );
    const size = fc.oneof(fc.constantFrom(0, 64, 200, 1000, 4096, 70_000), fc.nat(5000));
    return fc.array(
      fc.oneof({ arbitrary: fc.array(field, { maxLength: 12 }), weight: 12 }, { arbitrary: size, weight: 1 }),
      { minLength: 1, maxLength: 25 },
    );
  });

function anyByte(): fc.Arbitrary<string> {
  return fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
}

/** A step of libnghttp2: the table size that its peer allows, fields to deflate, or a block in hexadecimal digits to inflate. */
export type Nghttp2Step =
  | { readonly size: number }
  | { readonly fields: readonly PlainField[] }
  | { readonly block: string };

/** What one deflater or inflater of libnghttp2 does, from its beginning. */
export interface Nghttp2Script {
  readonly role: 'deflate' | 'inflate';
  readonly steps: readonly Nghttp2Step[];
}

/** What an inflater says to a block: fields, or the number of the error that ended it. */
export interface Inflated {
  readonly fields?: readonly PlainField[];
  readonly error?: number;
}

const PROGRAM = fileURLToPath(new URL('nghttp2-hpack.py', import.meta.url));

/**
 * Runs scripts through libnghttp2 (Debian: libnghttp2-14), by Python's ctypes. Returns for each script the results of its steps
 * but `size`: blocks in hexadecimal digits of a deflater, Inflated of an inflater.
 */
export async function runNghttp2(scripts: readonly Nghttp2Script[]): Promise<unknown[]> {
  return await new Promise((resolve, reject) => {
    const child = execFile('python3', [PROGRAM], { maxBuffer: 2 ** 28 }, (error, stdout) => {
      if (error !== null) reject(error);
      else resolve(JSON.parse(stdout) as unknown[]);
    });
    // A program that ended before it read all: the callback is told why it ended.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(JSON.stringify(scripts));
  });
}

/** Whether libnghttp2 and Python are there; when not, the test is skipped or fails as for a missing program. */
export async function requireNghttp2(t: Test): Promise<boolean> {
  try {
    await runNghttp2([]);
    return true;
  } catch (error) {
    missing(t, `python3 cannot load libnghttp2.so.14 (Debian: libnghttp2-14): ${String(error).slice(-200)}`);
    return false;
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}
