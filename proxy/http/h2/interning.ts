/**
 * From bytes to Field and FieldName: the object that was made before, if it is still remembered, so that a field decoded on one
 * connection is found in the table of another one's encoder. One memory per thread, bounded. It is a cache: two objects of
 * one field can exist, and cost a table entry more, nothing else.
 */
import { LOWER, latin1 } from '../bytes.ts';
import { coin } from './coin.ts';
import { Field, FieldName, hashBytes, hashField, STATIC_FIELDS } from './field.ts';
import { isSame, ownCopy } from './ranges.ts';

const lower = LOWER;

/**
 * Places of a set, the first half of them for those that were seen again: a newcomer takes a place of the second half, and a field
 * seen again there changes with one of the first. So what comes once (ids, traces) drives out each other, never what comes often.
 */
const PLACES = 4;
const KEPT = PLACES / 2;

/** 2048 fields: several times what a busy pod's peers repeat. A power of two. */
const FIELD_SETS = 512;

/** Larger fields are not remembered: a full memory of such fields takes 4 MB. Most tokens and cookies are shorter. */
const MOST_FIELD_SIZE = 2048;

/** As FIELD_SETS; there are fewer names than values. */
const NAME_SETS = 128;

/** Longer names are not remembered; no known name has 100. */
const MOST_NAME_BYTES = 128;

const UNUSED_NAME = new FieldName(new Uint8Array(0));
const fields: Field[] = new Array<Field>(PLACES * FIELD_SETS).fill(new Field(UNUSED_NAME, new Uint8Array(0)));
const names: FieldName[] = new Array<FieldName>(PLACES * NAME_SETS).fill(UNUSED_NAME);
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
  if (to - from > MOST_NAME_BYTES) return new FieldName(ownCopy(bytes, from, to));
  const hash = hashBytes(bytes, from, to, 0);
  const first = PLACES * (hash & (NAME_SETS - 1));
  for (let place = first; place < first + PLACES; place++) {
    const name = names[place];
    if (name.hash !== hash || !isSame(name.bytes, bytes, from, to)) continue;
    if (place >= first + KEPT) {
      const kept = first + coin();
      names[place] = names[kept];
      names[kept] = name;
    }
    return name;
  }
  const own = ownCopy(bytes, from, to);
  const name = statics.get(textOf(own)) ?? new FieldName(own);
  names[first + KEPT + coin()] = name;
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
  const first = PLACES * (hash & (FIELD_SETS - 1));
  for (let place = first; place < first + PLACES; place++) {
    const field = fields[place];
    if (field.hash !== hash || !isField(field, label, bytes, from, to, neverIndexed)) continue;
    if (place >= first + KEPT) {
      const kept = first + coin();
      fields[place] = fields[kept];
      fields[kept] = field;
    }
    return field;
  }
  const field =
    staticField(label, bytes, from, to, neverIndexed) ??
    new Field(label, ownCopy(bytes, from, to), neverIndexed);
  if (field.size <= MOST_FIELD_SIZE) fields[first + KEPT + coin()] = field;
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
  for (const field of staticsOf.get(label) ?? []) if (isSame(field.value, bytes, from, to)) return field;
  return undefined;
}

function isField(
  field: Field,
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  neverIndexed: boolean,
): boolean {
  return field.label === label && field.neverIndexed === neverIndexed && isSame(field.value, bytes, from, to);
}

function textOf(name: Uint8Array): string {
  return String.fromCharCode(...name);
}
