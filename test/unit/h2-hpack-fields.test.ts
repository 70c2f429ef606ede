/** Fields as objects: what is wrong with them, and that a field is one object wherever it comes from. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { internCoded } from '../../proxy/http/h2/coded-values.ts';
import {
  describeFieldProblem,
  FIELD_PROBLEM,
  Field,
  FieldList,
  FieldName,
  H2_FIELD,
  hashBytes,
  STATIC_FIELDS,
} from '../../proxy/http/h2/field.ts';
import { HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';
import { HpackEncoder } from '../../proxy/http/h2/hpack-encoder.ts';
import { fieldOf, internField, internName, internValue } from '../../proxy/http/h2/interning.ts';
import { FIELD } from '../../proxy/http/names.ts';
import { decodeBlock, fieldsOf, fromHex, plain } from '../support/hpack.ts';

const P = FIELD_PROBLEM;
const NOTHING = new Uint8Array(0);

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

t.test('what is wrong with a field is found when it is made', async (t) => {
  const cases: [name: string, value: string, problem: number][] = [
    ['x-app', 'one', P.none],
    ['x-app', '', P.none],
    ['x-app', 'a\tb \x80\xff', P.none],
    ['', 'one', P.emptyName],
    ['x app', 'one', P.name],
    ['x:app', 'one', P.name],
    ['x-app\r\n', 'one', P.name],
    ['x-\xe9', 'one', P.name],
    [':', 'one', P.unknownPseudo],
    ['::path', '/', P.name],
    ['X-App', 'one', P.upperCase],
    [':Path', '/', P.upperCase],
    [':path', '/', P.none],
    [':method', 'GET', P.none],
    [':scheme', 'http', P.none],
    [':authority', 'a', P.none],
    [':status', '200', P.none],
    [':protocol', 'websocket', P.none],
    [':version', '2', P.unknownPseudo],
    ['x-app', 'a\r\nb', P.value],
    ['x-app', 'a\nb', P.value],
    ['x-app', 'a\0b', P.value],
    ['x-app', '\x7f', P.value],
    ['x-app', '\x1b', P.value],
    [':path', '/\r\n', P.value],
    ['x-app', ' one', P.valueEdge],
    ['x-app', 'one\t', P.valueEdge],
    ['x-app', ' ', P.valueEdge],
    ['connection', 'close', P.connectionSpecific],
    ['keep-alive', 'timeout=5', P.connectionSpecific],
    ['proxy-connection', 'close', P.connectionSpecific],
    ['transfer-encoding', 'chunked', P.connectionSpecific],
    ['upgrade', 'h2c', P.connectionSpecific],
    ['te', 'trailers', P.none],
    ['te', 'trailers, gzip', P.te],
    ['te', '', P.te],
    ['content_length', '5', P.framingAlias],
    ['transfer.encoding', 'chunked', P.framingAlias],
  ];
  for (const [name, value, problem] of cases) {
    t.equal(fieldOf(name, value).problem, problem, JSON.stringify(`${name}: ${value}`));
    if (problem !== P.none) t.match(describeFieldProblem(problem), /^[a-zA-Z].*[a-z")]$/);
  }
  t.throws(() => describeFieldProblem(P.none), RangeError);
});

t.test('names have numbers, in any case', async (t) => {
  const cases: [string, number][] = [
    ['host', FIELD.host],
    ['content-length', FIELD.contentLength],
    ['l5d-anything', FIELD.mesh],
    ['l5d_anything', FIELD.mesh],
    ['x-app', FIELD.other],
    ['cookie', H2_FIELD.cookie],
    ['content-type', H2_FIELD.contentType],
    ['grpc-status', H2_FIELD.grpcStatus],
    ['grpc-message', H2_FIELD.grpcMessage],
    ['grpc-timeout', H2_FIELD.grpcTimeout],
    [':method', H2_FIELD.method],
    [':protocol', H2_FIELD.protocol],
    [':other', H2_FIELD.unknownPseudo],
    ['content-type-options-of-a-long-name', FIELD.other],
  ];
  for (const [name, id] of cases) t.equal(fieldOf(name, 'x').id, id, name);
  t.equal(http1('Content-Type', 'x').id, H2_FIELD.contentType);
  t.equal(http1('COOKIE', 'x').id, H2_FIELD.cookie);
});

t.test('the static table is that of RFC 7541, and the only objects of its fields', async (t) => {
  t.equal(STATIC_FIELDS.length, 62);
  const samples: [number, string, string][] = [
    [1, ':authority', ''],
    [2, ':method', 'GET'],
    [14, ':status', '500'],
    [16, 'accept-encoding', 'gzip, deflate'],
    [28, 'content-length', ''],
    [61, 'www-authenticate', ''],
  ];
  for (const [index, name, value] of samples) {
    t.strictSame(plain(STATIC_FIELDS[index]).slice(0, 2), [name, value]);
    t.equal(STATIC_FIELDS[index].staticIndex, index);
    t.equal(fieldOf(name, value), STATIC_FIELDS[index]);
  }
  t.equal(fieldOf(':status', '404'), STATIC_FIELDS[13]);
  t.equal(fieldOf(':status', '418').staticIndex, 0);
  t.equal(fieldOf(':status', '418').label, STATIC_FIELDS[8].label);
  t.equal(STATIC_FIELDS[8].label.staticIndex, 8, 'the first entry that has the name');
  t.equal(fieldOf(':method', 'GET', true).staticIndex, 0, 'never indexed: not by the static table either');
});

t.test(
  'a field is one object, from HTTP/1, from HTTP/2, Huffman-coded or not, on any connection',
  async (t) => {
    const name = 'x-once-and-again';
    const first = http1('X-Once-And-Again', 'hello');
    t.strictSame(plain(first), [name, 'hello', false]);
    t.equal(first.size, name.length + 'hello'.length + 32);
    t.equal(fieldOf(name, 'hello'), first);
    t.equal(http1('x-ONCE-and-again', 'hello'), first);
    const raw = Buffer.concat([fromHex('40 10'), Buffer.from(name), fromHex('05'), Buffer.from('hello')]);
    const coded = Buffer.concat([fromHex('00 10'), Buffer.from(name), fromHex('84 9cb4507f')]);
    t.equal(fieldsOf(new HpackDecoder(), raw)[0], first);
    // The third time the coded bytes themselves are known.
    for (let i = 0; i < 4; i++) t.equal(fieldsOf(new HpackDecoder(), coded)[0], first);
    t.equal(
      fieldOf('authorization', 'Basic YTpi'),
      http1('Authorization', 'Basic YTpi'),
      'a guarded one too',
    );
    t.not(fieldOf(name, 'hello', true), first, 'but for what must not be indexed');
    t.equal(fieldOf(name, 'hello', true), fieldOf(name, 'hello', true));
    const never = Uint8Array.from(coded);
    never[0] = 0x10;
    for (let i = 0; i < 4; i++) t.equal(fieldsOf(new HpackDecoder(), never)[0], fieldOf(name, 'hello', true));
    t.equal(fieldsOf(new HpackDecoder(), coded)[0].neverIndexed, false);
  },
);

t.test('a field owns its memory', async (t) => {
  const bytes = Buffer.from('x-owned: value');
  const field = internField(bytes, 0, 7, 9, 14);
  const long = Buffer.alloc(5000, 'a');
  const large = internValue(field.label, long, 0, long.length, false);
  bytes.fill(0x7a);
  long.fill(0x7a);
  t.strictSame(plain(field), ['x-owned', 'value', false]);
  t.equal(plain(large)[1], 'a'.repeat(5000));
  t.equal(field.value.constructor, Uint8Array, 'a plain array, not a Buffer');
});

t.test('what comes once does not drive out what comes often, and memory is bounded', async (t) => {
  const often = Array.from({ length: 50 }, (_, i) => `often-${i}`);
  // A few rounds until those that share places have found theirs.
  for (let round = 0; round < 20; round++) for (const value of often) fieldOf('x-often', value);
  const before = often.map((value) => fieldOf('x-often', value));
  const weak: WeakRef<Field>[] = [];
  const label = internName(Buffer.from('x-trace'), 0, 7);
  for (let i = 0; i < 100_000; i++) {
    const bytes = Buffer.from(`trace-${i}`);
    const field = internValue(label, bytes, 0, bytes.length, false);
    if (i % 10 === 0) weak.push(new WeakRef(field));
  }
  const after = often.map((value) => fieldOf('x-often', value));
  t.equal(after.filter((field, i) => field === before[i]).length, often.length);
  const gone = () => weak.filter((ref) => ref.deref() === undefined).length;
  // Weak references last until the turn ends.
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  t.ok(gone() >= 9000, `${gone()} of ${weak.length} were forgotten`);
});

t.test('what left the tables of a connection is forgotten', async (t) => {
  const decoder = new HpackDecoder();
  const encoder = new HpackEncoder();
  const into = new Uint8Array(10_000);
  const make = (i: number) => {
    // Larger than what is interned for the decoder, and small enough for the encoder's table.
    const coded = fieldsOf(decoder, literal('x-large', `${i}`.padEnd(3000, 'x')))[0];
    const list = new FieldList();
    const field = new Field(coded.label, Uint8Array.from(Buffer.from(`${i}`.padEnd(1500, 'y'))));
    list.push(field);
    for (let round = 0; round < 2; round++) encoder.encode(list, into, 0);
    return [new WeakRef(coded), new WeakRef(field)];
  };
  const weak = Array.from({ length: 30 }, (_, i) => make(i));
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  const left = [0, 1].map((side) => weak.filter((refs) => refs[side].deref() !== undefined).length);
  t.strictSame(left, [1, 2], 'the decoder has one entry of 3 KB, the encoder two of 1.5 KB');
  t.equal(decodeBlock(decoder, fromHex('be')).fields[0][1].length, 3000);
  const list = new FieldList();
  list.push(weak[29][1].deref() as Field);
  t.equal(encoder.encode(list, into, 0), 1);
});

t.test('names and values longer than what is remembered are right as well', async (t) => {
  for (const length of [127, 128, 129, 5000]) {
    const name = `x${'a'.repeat(length - 1)}`;
    t.strictSame(plain(fieldOf(name, 'v')), [name, 'v', false]);
    t.strictSame(plain(http1(name.toUpperCase(), 'v')), [name, 'v', false]);
  }
  for (const length of [2000, 2048, 4000, 60_000]) {
    const value = 'v'.repeat(length);
    t.strictSame(plain(fieldOf('x-long', value)), ['x-long', value, false]);
  }
  // '0' is five zero bits: 8 of them in 5 bytes; longer than the scratch of the decoder.
  const rest = 20_000 - 127;
  const length = [0xff, 0x80 | (rest & 0x7f), 0x80 | ((rest >> 7) & 0x7f), rest >> 14];
  const coded = Uint8Array.from([0x04, ...length, ...new Array<number>(20_000).fill(0)]);
  const found = decodeBlock(new HpackDecoder(), coded);
  t.strictSame(found.fields, [[':path', '0'.repeat(32_000), false]]);
});

t.test('names and values that share a hash are not mixed up', async (t) => {
  const names = sharedHash((i) => Buffer.from(`x-${i.toString(36)}`), 0);
  const labels = names.map((name) => internName(name, 0, name.length));
  t.equal(labels[0].hash, labels[1].hash);
  const value = Buffer.from('one');
  const again = [0, 1, 0, 1, 0, 1].map((side) => internValue(labels[side], value, 0, 3, false));
  t.strictSame(
    again.map((field) => latin1(field.name)),
    [0, 1, 0, 1, 0, 1].map((side) => latin1(names[side])),
  );

  const seed = labels[0].hash;
  const values = sharedHash((i) => Buffer.from(`value ${i}`), seed);
  const fields = [0, 1, 0, 1, 0, 1].map((side) =>
    internValue(labels[0], values[side], 0, values[side].length, false),
  );
  t.equal(fields[0].hash, fields[1].hash);
  t.strictSame(
    fields.map((field) => latin1(field.value)),
    [0, 1, 0, 1, 0, 1].map((side) => latin1(values[side])),
  );

  // Eight of the ten letters whose codes have five bits, in five bytes.
  const coded = sharedHash((i) => fiveBits((i * 61_803_399) % 1e8), seed);
  // What comes twice in a row is remembered; then the other one comes, by its bytes or its name.
  for (const [side, name] of [
    ...[
      [0, 0],
      [0, 0],
      [1, 0],
      [1, 0],
      [0, 0],
      [0, 0],
    ],
    ...[
      [0, 1],
      [0, 1],
      [0, 0],
      [0, 0],
      [1, 1],
      [1, 1],
      [0, 0],
    ],
  ]) {
    const field = internCoded(labels[name], coded[side], 0, 5, false);
    t.equal(field?.label, labels[name]);
    t.equal(latin1(field?.value ?? NOTHING), letters(coded[side]));
  }
});

/** Two of many byte strings whose hashes are equal. */
function sharedHash(make: (i: number) => Uint8Array, seed: number): Uint8Array[] {
  const seen = new Map<number, number>();
  for (let i = 0; i < 2_000_000; i++) {
    const bytes = make(i);
    const hash = hashBytes(bytes, 0, bytes.length, seed);
    const other = seen.get(hash);
    if (other !== undefined) return [make(other), bytes];
    seen.set(hash, i);
  }
  throw new Error('no two hashes are equal');
}

/** The Huffman code of the digits of a number, least first, each as a letter of five bits. */
function fiveBits(number: number): Uint8Array {
  let code = 0n;
  for (let i = 0, rest = number; i < 8; i++, rest = Math.floor(rest / 10))
    code = (code << 5n) | BigInt(rest % 10);
  return Uint8Array.from({ length: 5 }, (_, i) => Number((code >> BigInt(32 - 8 * i)) & 0xffn));
}

function letters(coded: Uint8Array): string {
  const bits = [...coded].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return (bits.match(/.{5}/g) ?? []).map((five) => '012aceiost'[Number.parseInt(five, 2)]).join('');
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

t.test('hashes tell apart values that differ in any one byte, if they are not long', async (t) => {
  const label = new FieldName(Uint8Array.from(Buffer.from('x-app')));
  const value = Buffer.from('/api/v1/customers/0123456789/orders/0123456789abcdef/items?page=1');
  const hashes = new Set([new Field(label, Uint8Array.from(value)).hash]);
  for (let i = 0; i < value.length; i++) {
    const other = Uint8Array.from(value);
    other[i] ^= 1;
    hashes.add(new Field(label, other).hash);
  }
  t.equal(hashes.size, value.length + 1);
  t.equal(
    new Field(label, Uint8Array.from(value), true).hash === new Field(label, Uint8Array.from(value)).hash,
    false,
  );
});

/** A literal with a new name, to be indexed. */
function literal(name: string, value: string): Uint8Array {
  const rest = value.length - 127;
  const length = [0x7f, 0x80 | (rest & 0x7f), rest >> 7];
  return Uint8Array.from([0x40, name.length, ...Buffer.from(name), ...length, ...Buffer.from(value)]);
}

function http1(name: string, value: string): Field {
  const line = Buffer.from(`${name}: ${value}`, 'latin1');
  return internField(line, 0, name.length, name.length + 2, line.length);
}
