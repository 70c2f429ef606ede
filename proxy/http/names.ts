/** Names the codec or its callers ask for, as numbers: fields and methods. All other names stay bytes. */
import { ALIAS, equalsFolded, LOWER, latin1 } from './bytes.ts';

/** Field names; `other` is every name that is not here. */
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
  accept: 13,
  userAgent: 14,
  requestId: 15,
  traceparent: 16,
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

/** The same bytes, as a table that maps nothing. */
const EXACT = Uint8Array.from({ length: 256 }, (_, byte) => byte);

/**
 * Known words by length and first letter, which tell all of ours apart: an unknown word costs one load, a known one a
 * comparison.
 */
class WordTable {
  private readonly slots: Uint8Array;
  private readonly words: Uint8Array[] = [];
  private readonly longest: number;

  constructor(words: Readonly<Record<string, number>>) {
    this.longest = Math.max(...Object.keys(words).map((word) => word.length));
    this.slots = new Uint8Array((this.longest + 1) * 32);
    for (const [word, id] of Object.entries(words)) {
      const slot = word.length * 32 + (word.charCodeAt(0) & 31);
      if (this.slots[slot] !== 0) throw new Error(`${word} needs a better table: its slot is taken`);
      this.slots[slot] = id;
      this.words[id] = latin1(word);
    }
  }

  /** The only word that `bytes[start, end)` can be, or 0; `start < end`. */
  candidate(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    return length > this.longest ? 0 : this.slots[length * 32 + (bytes[start] & 31)];
  }

  matches(id: number, bytes: Uint8Array, start: number, end: number, fold: Uint8Array): boolean {
    return equalsFolded(bytes, start, end, this.words[id], fold);
  }
}

const FIELDS = new WordTable({
  host: FIELD.host,
  connection: FIELD.connection,
  'content-length': FIELD.contentLength,
  'transfer-encoding': FIELD.transferEncoding,
  upgrade: FIELD.upgrade,
  expect: FIELD.expect,
  te: FIELD.te,
  trailer: FIELD.trailer,
  'keep-alive': FIELD.keepAlive,
  'proxy-connection': FIELD.proxyConnection,
  accept: FIELD.accept,
  'user-agent': FIELD.userAgent,
  'x-request-id': FIELD.requestId,
  traceparent: FIELD.traceparent,
});

const METHODS = new WordTable({
  GET: METHOD.get,
  HEAD: METHOD.head,
  POST: METHOD.post,
  PUT: METHOD.put,
  DELETE: METHOD.delete,
  OPTIONS: METHOD.options,
  PATCH: METHOD.patch,
  CONNECT: METHOD.connect,
  TRACE: METHOD.trace,
});

const MESH_PREFIX = latin1('l5d-');
const MESH_LETTER = MESH_PREFIX[0];

/** The FIELD number of the name `bytes[start, end)`, which is not empty; case does not matter. */
export function fieldId(bytes: Uint8Array, start: number, end: number): number {
  const id = FIELDS.candidate(bytes, start, end);
  if (id !== 0) {
    if (FIELDS.matches(id, bytes, start, end, LOWER)) return id;
    const framing = id === FIELD.contentLength || id === FIELD.transferEncoding;
    return framing && FIELDS.matches(id, bytes, start, end, ALIAS) ? FIELD.framingAlias : FIELD.other;
  }
  const mayBeMesh = LOWER[bytes[start]] === MESH_LETTER && end - start >= MESH_PREFIX.length;
  return mayBeMesh && equalsFolded(bytes, start, start + MESH_PREFIX.length, MESH_PREFIX, ALIAS)
    ? FIELD.mesh
    : FIELD.other;
}

/** The METHOD number of the token `bytes[start, end)`, which is not empty. */
export function methodId(bytes: Uint8Array, start: number, end: number): number {
  const id = METHODS.candidate(bytes, start, end);
  return id !== 0 && METHODS.matches(id, bytes, start, end, EXACT) ? id : METHOD.other;
}
