/**
 * Fields of HTTP/2 messages as objects that are made once and passed from decoder to encoder: a field that both have in their
 * tables is never looked at again. interning.ts finds the object of a field that was seen before.
 */
import { BYTE, equalsFolded, isBlank, LOWER, latin1, TOKEN, VALUE } from '../bytes.ts';
import { FIELD, fieldId } from '../names.ts';
import { MAX_FIELDS, MAX_HEAD_BYTES, MAX_OWN_FIELDS } from '../problems.ts';
import { STATIC_TABLE } from './static-table.ts';

const { colon: COLON } = BYTE;
const [tokens, values] = [TOKEN, VALUE];

/**
 * Numbers of names that http/names.ts does not have, for FieldName.id. Those below `firstRegular` are pseudo-header fields
 * (RFC 9113 section 8.3, RFC 8441 section 4).
 */
export const H2_FIELD = {
  method: 32,
  scheme: 33,
  authority: 34,
  path: 35,
  status: 36,
  protocol: 37,
  unknownPseudo: 38,
  firstRegular: 64,
  cookie: 64,
  contentType: 65,
  grpcStatus: 66,
  grpcMessage: 67,
  grpcTimeout: 68,
  accept: 69,
} as const;

/** What can be wrong with a field, whatever message it is in: Field.problem. Each makes the message malformed. */
export const FIELD_PROBLEM = {
  none: 0,
  emptyName: 1,
  name: 2,
  upperCase: 3,
  unknownPseudo: 4,
  value: 5,
  valueEdge: 6,
  connectionSpecific: 7,
  te: 8,
  framingAlias: 9,
} as const;

const TEXTS: Readonly<Record<number, string>> = {
  [FIELD_PROBLEM.emptyName]: 'a field has no name (RFC 9113 section 8.2.1)',
  [FIELD_PROBLEM.name]: 'a field name has a byte that no token has (RFC 9113 section 8.2.1)',
  [FIELD_PROBLEM.upperCase]: 'a field name has an upper-case letter (RFC 9113 section 8.2.1)',
  [FIELD_PROBLEM.unknownPseudo]: 'there is a pseudo-header field that no RFC defines (RFC 9113 section 8.3)',
  [FIELD_PROBLEM.value]: 'a field value has a control byte (RFC 9113 section 8.2.1)',
  [FIELD_PROBLEM.valueEdge]: 'a field value begins or ends with whitespace (RFC 9113 section 8.2.1)',
  [FIELD_PROBLEM.connectionSpecific]:
    'there is a connection-specific field, which HTTP/2 does not have (RFC 9113 section 8.2.2)',
  [FIELD_PROBLEM.te]: 'TE is not exactly "trailers" (RFC 9113 section 8.2.2)',
  [FIELD_PROBLEM.framingAlias]: 'a field is spelt nearly like Content-Length or Transfer-Encoding',
};

/**
 * A problem in words, as the end of a sentence.
 * @param problem one of FIELD_PROBLEM but `none`
 */
export function describeFieldProblem(problem: number): string {
  const text = TEXTS[problem];
  if (text === undefined) throw new RangeError(`there is no field problem ${problem}`);
  return text;
}

const PSEUDO_FIELDS: ReadonlyMap<string, number> = new Map([
  [':method', H2_FIELD.method],
  [':scheme', H2_FIELD.scheme],
  [':authority', H2_FIELD.authority],
  [':path', H2_FIELD.path],
  [':status', H2_FIELD.status],
  [':protocol', H2_FIELD.protocol],
]);

const MORE_FIELDS: ReadonlyMap<string, number> = new Map([
  ['cookie', H2_FIELD.cookie],
  ['content-type', H2_FIELD.contentType],
  ['grpc-status', H2_FIELD.grpcStatus],
  ['grpc-message', H2_FIELD.grpcMessage],
  ['grpc-timeout', H2_FIELD.grpcTimeout],
  ['accept', H2_FIELD.accept],
]);

/** No name in the maps of this file is longer, in bytes. */
const LONGEST_KNOWN_NAME = 19;

/** What a field adds to the size of a table or list besides its bytes (RFC 7541 section 4.1). */
export const FIELD_OVERHEAD = 32;

/**
 * Whose values are kept out of compression tables, though their sender did not ask for it, when they are shorter than so many
 * bytes: one connection carries requests of many clients, and who can add requests and watch sizes can test guesses of a whole
 * value against the table (RFC 7541 section 7.1). Authorization is often a password in base64; a cookie of 20 bytes is taken
 * for random, as nghttp2 and browsers take it.
 */
const GUARDED_BELOW: ReadonlyMap<string, number> = new Map([
  ['authorization', Number.POSITIVE_INFINITY],
  ['proxy-authorization', Number.POSITIVE_INFINITY],
  ['cookie', 20],
  ['set-cookie', 20],
]);

/** A field name, shared by the fields that have it. Immutable. */
export class FieldName {
  /** Lower case, or `problem` says otherwise. */
  readonly bytes: Uint8Array;
  /** A FIELD number of http/names.ts, or one of H2_FIELD. */
  readonly id: number;
  /** One of FIELD_PROBLEM. */
  readonly problem: number;
  /** Of the bytes, 32 bits signed. */
  readonly hash: number;
  /** First entry of the static table that has the name (RFC 7541 appendix A), 0: none. */
  readonly staticIndex: number;
  /** Values shorter than this, in bytes, are never indexed; 0 for most names. */
  readonly guardedBelow: number;

  /** @param bytes become its own */
  constructor(bytes: Uint8Array, staticIndex = 0) {
    const text = String.fromCharCode(...bytes.subarray(0, LONGEST_KNOWN_NAME + 1)).toLowerCase();
    this.bytes = bytes;
    this.id = idOf(bytes, text);
    this.guardedBelow = GUARDED_BELOW.get(text) ?? 0;
    this.problem = problemOfName(bytes, this.id);
    this.hash = hashBytes(bytes, 0, bytes.length, 0);
    this.staticIndex = staticIndex;
  }
}

/** A field: name and value, and what is known of them. Immutable; holds its own memory. */
export class Field {
  readonly label: FieldName;
  /** `label.bytes`: lower case, or `problem` says otherwise. */
  readonly name: Uint8Array;
  readonly value: Uint8Array;
  /** A FIELD number of http/names.ts, or one of H2_FIELD. */
  readonly id: number;
  /** Bytes of name and value and 32 (RFC 7541 section 4.1). */
  readonly size: number;
  /** One of FIELD_PROBLEM: 0, or why it must not be in a message. */
  readonly problem: number;
  /** Must not be put in a compression table: its sender says so to every hop (RFC 7541 section 6.2.3), or its name does. */
  readonly neverIndexed: boolean;
  /** Of name, value and `neverIndexed`, 32 bits signed: equal for equal fields, and different for nearly all others. */
  readonly hash: number;
  /** Its entry in the static table (RFC 7541 appendix A), 0: none. */
  readonly staticIndex: number;

  /**
   * For interning.ts, constants and tests: whoever has bytes of a message asks interning.ts.
   * @param value becomes its own
   */
  constructor(label: FieldName, value: Uint8Array, neverIndexed = false, staticIndex = 0) {
    this.label = label;
    this.name = label.bytes;
    this.value = value;
    this.id = label.id;
    this.size = label.bytes.length + value.length + FIELD_OVERHEAD;
    this.problem = label.problem === FIELD_PROBLEM.none ? problemOfValue(value, label.id) : label.problem;
    this.neverIndexed = neverIndexed || value.length < label.guardedBelow;
    this.hash = hashField(label, value, 0, value.length, this.neverIndexed);
    this.staticIndex = staticIndex;
  }
}

/** Most fields of a message: what HTTP/1 allows must fit, since sidecars carry it this way, with the start line as fields and their own. */
export const MAX_LIST_FIELDS: number = MAX_FIELDS + MAX_OWN_FIELDS;

/** The most that `FieldList.size` may be, in bytes: as much as HTTP/1 allows, whose heads do not count 32 for each field. */
export const MAX_LIST_BYTES: number = MAX_HEAD_BYTES + FIELD_OVERHEAD * MAX_LIST_FIELDS;

/** What a list without fields may keep in memory, in bytes: nearly every head. Idle connections have many lists. */
const MOST_KEPT_BYTES = 4096;

/** The fields of one message in order. Reused: its owner clears it. Those that last are nobody's to change; see lasting-lists.ts. */
export class FieldList {
  /** It stays as it is. */
  readonly lasts: boolean;
  /** The first `count` are meant. */
  readonly items: Field[] = [];
  count = 0;
  /** Sum of Field.size, in bytes (RFC 9113 section 6.5.2, SETTINGS_MAX_HEADER_LIST_SIZE). */
  size = 0;

  constructor(lasts = false) {
    this.lasts = lasts;
  }

  /** Forgets all fields. The array keeps its room, and what was in it until it is overwritten, unless that is much. */
  clear(): void {
    if (this.size > MOST_KEPT_BYTES) this.items.length = 0;
    this.count = 0;
    this.size = 0;
  }

  /** A list of its own with the same fields. */
  copy(): FieldList {
    const list = new FieldList();
    list.take(this);
    return list;
  }

  /** Has the fields of another one, in place of its own. */
  take({ items, count }: FieldList): void {
    this.clear();
    for (let i = 0; i < count; i++) this.push(items[i]);
  }

  /** Appends a field. */
  push(field: Field): void {
    this.items[this.count++] = field;
    this.size += field.size;
  }
}

/** Most words of four bytes that a hash looks at: enough to tell values apart, and a bound for long ones. */
const HASHED_WORDS = 32;

/** A hash of the bytes, 32 bits signed: of all of them, but for longer values of every second, third, … word. */
export function hashBytes(bytes: Uint8Array, from: number, to: number, seed: number): number {
  const length = to - from;
  const stride = 4 + 4 * Math.floor(length / (4 * HASHED_WORDS));
  let hash = seed ^ length;
  let at = from;
  for (const last = to - 4; at <= last; at += stride) {
    const word = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    hash = mixed(hash ^ word);
  }
  for (; at < to; at++) hash = mixed(hash ^ bytes[at]);
  return mixed(hash ^ (hash >>> 16));
}

/** Spreads each bit over the higher ones, and those over the low ones, by which tables are indexed. */
function mixed(hash: number): number {
  const product = Math.imul(hash, 0x9e3779b1);
  return product ^ (product >>> 15);
}

/** Field.hash of a field that may not exist yet. */
export function hashField(
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  neverIndexed: boolean,
): number {
  return hashBytes(bytes, from, to, neverIndexed ? ~label.hash : label.hash);
}

function idOf(name: Uint8Array, text: string): number {
  if (name.length === 0) return FIELD.other;
  if (name[0] === COLON) return PSEUDO_FIELDS.get(text) ?? H2_FIELD.unknownPseudo;
  return MORE_FIELDS.get(text) ?? fieldId(name, 0, name.length);
}

/** RFC 9113 section 8.2.1: a token in lower case, but for the colon of a pseudo-header field. */
function problemOfName(name: Uint8Array, id: number): number {
  if (name.length === 0) return FIELD_PROBLEM.emptyName;
  for (let i = name[0] === COLON ? 1 : 0; i < name.length; i++) {
    if (tokens[name[i]] === 0) return FIELD_PROBLEM.name;
    if (name[i] !== LOWER[name[i]]) return FIELD_PROBLEM.upperCase;
  }
  switch (id) {
    case H2_FIELD.unknownPseudo:
      return FIELD_PROBLEM.unknownPseudo;
    case FIELD.framingAlias:
      return FIELD_PROBLEM.framingAlias;
    case FIELD.connection:
    case FIELD.keepAlive:
    case FIELD.proxyConnection:
    case FIELD.transferEncoding:
    case FIELD.upgrade:
      // RFC 9113 section 8.2.2.
      return FIELD_PROBLEM.connectionSpecific;
    default:
      return FIELD_PROBLEM.none;
  }
}

const TRAILERS = latin1('trailers');

/** RFC 9113 sections 8.2.1 and 8.2.2; stricter than the former about control bytes, as HTTP/1 is. */
function problemOfValue(value: Uint8Array, id: number): number {
  const end = value.length;
  for (let i = 0; i < end; i++) {
    if (values[value[i]] === 0) return FIELD_PROBLEM.value;
  }
  if (end > 0 && (isBlank(value[0]) || isBlank(value[end - 1]))) return FIELD_PROBLEM.valueEdge;
  if (id === FIELD.te && !equalsFolded(value, 0, end, TRAILERS, LOWER)) return FIELD_PROBLEM.te;
  return FIELD_PROBLEM.none;
}

/** The static table: fields at 1 to 61, nothing at 0. They are the only objects of these fields. */
export const STATIC_FIELDS: readonly Field[] = staticFields();

function staticFields(): Field[] {
  const labels = new Map<string, FieldName>();
  const fields: Field[] = [];
  for (const [i, [name, value]] of STATIC_TABLE.entries()) {
    const index = i + 1;
    const label = labels.get(name) ?? new FieldName(latin1(name), index);
    labels.set(name, label);
    fields[index] = new Field(label, latin1(value), false, index);
  }
  return fields;
}
