/**
 * From bytes to Field and FieldName: the object that was made before, if it is still remembered, so that a field decoded on one
 * connection is found in the table of another one's encoder. One memory per thread, bounded. It is a cache: two objects of
 * one field can exist, and cost a table entry more, nothing else.
 */
import { LOWER, latin1 } from '../bytes.ts';
import { Field, FieldName, hashBytes, hashField, STATIC_FIELDS } from './field.ts';

const lower = LOWER;

/**
 * Sets of two places. A newcomer takes the second place and a field seen again takes the first, so that fields that come once
 * (ids, traces) drive out each other, never those that come often. 2048 fields: several times what a busy pod's peers send.
 */
const FIELD_SETS = 1024;

/** Larger fields are not remembered: a full memory of such fields takes 4 MB. Most tokens and cookies are shorter. */
const MOST_FIELD_SIZE = 2048;

/** As FIELD_SETS; there are fewer names than values. */
const NAME_SETS = 256;

/** Longer names are not remembered; no known name has 100. */
const MOST_NAME_BYTES = 128;

const UNUSED_NAME = new FieldName(new Uint8Array(0));
const fields: Field[] = new Array<Field>(2 * FIELD_SETS).fill(new Field(UNUSED_NAME, new Uint8Array(0)));
const names: FieldName[] = new Array<FieldName>(2 * NAME_SETS).fill(UNUSED_NAME);
const folded = new Uint8Array(MOST_NAME_BYTES);

/** Static fields by name, as text: each field of such a name is compared with them before it is made. */
const statics = new Map<string, FieldName>();
const staticsOf = new Map<FieldName, Field[]>();
for (const field of STATIC_FIELDS.slice(1)) {
  statics.set(textOf(field.name), field.label);
  staticsOf.set(field.label, [...(staticsOf.get(field.label) ?? []), field]);
}

/** The name `bytes[from, to)`, in lower case or as it is; it may have any problem. */
export function internName(bytes: Uint8Array, from: number, to: number): FieldName {
  if (to - from > MOST_NAME_BYTES) return new FieldName(copy(bytes, from, to));
  const hash = hashBytes(bytes, from, to, 0);
  const set = 2 * (hash & (NAME_SETS - 1));
  const first = names[set];
  if (first.hash === hash && same(first.bytes, bytes, from, to)) return first;
  const second = names[set + 1];
  if (second.hash === hash && same(second.bytes, bytes, from, to)) {
    names[set] = second;
    names[set + 1] = first;
    return second;
  }
  const own = copy(bytes, from, to);
  const name = statics.get(textOf(own)) ?? new FieldName(own);
  names[set + 1] = name;
  return name;
}

/** The field of that name and the value `bytes[from, to)`; `mustNot` be indexed, or may be unless its name is guarded. */
export function internValue(
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  mustNot: boolean,
): Field {
  const neverIndexed = mustNot || to - from < label.guardedBelow;
  const hash = hashField(label, bytes, from, to, neverIndexed);
  const set = 2 * (hash & (FIELD_SETS - 1));
  const first = fields[set];
  if (first.hash === hash && isField(first, label, bytes, from, to, neverIndexed)) return first;
  const second = fields[set + 1];
  if (second.hash === hash && isField(second, label, bytes, from, to, neverIndexed)) {
    fields[set] = second;
    fields[set + 1] = first;
    return second;
  }
  const field =
    staticField(label, bytes, from, to, neverIndexed) ??
    new Field(label, copy(bytes, from, to), neverIndexed);
  if (field.size <= MOST_FIELD_SIZE) fields[set + 1] = field;
  return field;
}

/** The field with a name in any case, as HTTP/1 has it, and a value without whitespace around it. */
export function internField(
  bytes: Uint8Array,
  nameStart: number,
  nameEnd: number,
  valueStart: number,
  valueEnd: number,
): Field {
  return internValue(internFolded(bytes, nameStart, nameEnd), bytes, valueStart, valueEnd, false);
}

/** A field of the proxy's own or of a test, from Latin-1 text; not for every request. */
export function fieldOf(name: string, value: string, neverIndexed = false): Field {
  const [nameBytes, valueBytes] = [latin1(name), latin1(value)];
  return internValue(
    internName(nameBytes, 0, nameBytes.length),
    valueBytes,
    0,
    valueBytes.length,
    neverIndexed,
  );
}

function internFolded(bytes: Uint8Array, from: number, to: number): FieldName {
  const length = to - from;
  const into = length <= MOST_NAME_BYTES ? folded : new Uint8Array(length);
  for (let i = 0; i < length; i++) into[i] = lower[bytes[from + i]];
  return internName(into, 0, length);
}

function staticField(
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  neverIndexed: boolean,
): Field | undefined {
  if (label.staticIndex === 0 || neverIndexed) return undefined;
  return staticsOf.get(label)?.find(({ value }) => same(value, bytes, from, to));
}

function isField(
  field: Field,
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  neverIndexed: boolean,
): boolean {
  return field.label === label && field.neverIndexed === neverIndexed && same(field.value, bytes, from, to);
}

function same(own: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean {
  if (own.length !== to - from) return false;
  for (let i = 0; i < own.length; i++) if (own[i] !== bytes[from + i]) return false;
  return true;
}

/** Own memory: slice() of a Buffer would share it. */
function copy(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, from, to);
}

function textOf(name: Uint8Array): string {
  return String.fromCharCode(...name);
}
