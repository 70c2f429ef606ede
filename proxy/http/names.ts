/** Names the codec or its callers ask for, as numbers: fields and methods. All other names stay bytes. */
import { ALIAS, equalsFolded, LOWER, latin1 } from './bytes.ts';

/** Names of fields that the codec acts on; `other` is every other name, for which there is FieldIndex.find. */
export const FIELD = {
  other: 0,
  host: 1,
  connection: 2,
  contentLength: 3,
  transferEncoding: 4,
  upgrade: 5,
  expect: 6,
  te: 7,
  trailer: 8,
  keepAlive: 9,
  proxyConnection: 10,
  /** Any name that begins with `l5d-`, also when spelt with `_` or `.` for `-`. */
  mesh: 11,
  /** Content-Length or Transfer-Encoding spelt with `_` or `.` for `-`: refused, some applications read them as the real ones. */
  framingAlias: 12,
} as const;

/** Request methods, which are case-sensitive; `other` is every token that is not here. */
export const METHOD = {
  other: 0,
  get: 1,
  head: 2,
  post: 3,
  put: 4,
  delete: 5,
  options: 6,
  patch: 7,
  connect: 8,
  trace: 9,
} as const;

/** The same bytes, as a table that folds nothing. */
const EXACT = Uint8Array.from({ length: 256 }, (_, byte) => byte);

/** Rows of a slot table: words of that length, in the last row also all that are longer. */
const ROWS = 32;

const FIELDS = new Map<string, number>([
  ['host', FIELD.host],
  ['connection', FIELD.connection],
  ['content-length', FIELD.contentLength],
  ['transfer-encoding', FIELD.transferEncoding],
  ['upgrade', FIELD.upgrade],
  ['expect', FIELD.expect],
  ['te', FIELD.te],
  ['trailer', FIELD.trailer],
  ['keep-alive', FIELD.keepAlive],
  ['proxy-connection', FIELD.proxyConnection],
]);

const METHODS = new Map<string, number>([
  ['GET', METHOD.get],
  ['HEAD', METHOD.head],
  ['POST', METHOD.post],
  ['PUT', METHOD.put],
  ['DELETE', METHOD.delete],
  ['OPTIONS', METHOD.options],
  ['PATCH', METHOD.patch],
  ['CONNECT', METHOD.connect],
  ['TRACE', METHOD.trace],
]);

const FIELD_SLOTS = slotsOf(FIELDS);
const FIELD_WORDS = wordsOf(FIELDS);
const METHOD_SLOTS = slotsOf(METHODS);
const METHOD_WORDS = wordsOf(METHODS);

const MESH_PREFIX = latin1('l5d-');
for (let row = MESH_PREFIX.length; row < ROWS; row++) FIELD_SLOTS[slot(row, MESH_PREFIX[0])] = FIELD.mesh;

/** The FIELD number of the name `bytes[start, end)`, which is not empty; case does not matter. */
export function fieldId(bytes: Uint8Array, start: number, end: number): number {
  const candidate = FIELD_SLOTS[slot(end - start, bytes[start])];
  return candidate === 0 ? FIELD.other : confirmed(candidate, bytes, start, end);
}

/** The METHOD number of the token `bytes[start, end)`, which is not empty. */
export function methodId(bytes: Uint8Array, start: number, end: number): number {
  const candidate = METHOD_SLOTS[slot(end - start, bytes[start])];
  if (candidate === 0) return METHOD.other;
  return equalsFolded(bytes, start, end, METHOD_WORDS[candidate], EXACT) ? candidate : METHOD.other;
}

function confirmed(id: number, bytes: Uint8Array, start: number, end: number): number {
  if (id === FIELD.mesh) {
    const isMesh = equalsFolded(bytes, start, start + MESH_PREFIX.length, MESH_PREFIX, ALIAS);
    return isMesh ? FIELD.mesh : FIELD.other;
  }
  const word = FIELD_WORDS[id];
  if (equalsFolded(bytes, start, end, word, LOWER)) return id;
  const framing = id === FIELD.contentLength || id === FIELD.transferEncoding;
  return framing && equalsFolded(bytes, start, end, word, ALIAS) ? FIELD.framingAlias : FIELD.other;
}

/** Length and first letter tell all known words apart: an unknown word costs one load, a known one a comparison. */
function slot(length: number, first: number): number {
  return Math.min(length, ROWS - 1) * 32 + (first & 31);
}

function slotsOf(words: ReadonlyMap<string, number>): Uint8Array {
  const slots = new Uint8Array(ROWS * 32);
  for (const [word, id] of words) {
    const at = slot(word.length, word.charCodeAt(0));
    if (slots[at] !== 0) throw new Error(`${word} needs a better table: its slot is taken`);
    slots[at] = id;
  }
  return slots;
}

function wordsOf(words: ReadonlyMap<string, number>): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const [word, id] of words) found[id] = latin1(word);
  return found;
}
