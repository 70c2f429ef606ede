/** Field lines of heads and trailer sections (RFC 9112 section 5), indexed where they are. */
import { BYTE, equalsFolded, isBlank, LOWER, TOKEN, VALUE } from './bytes.ts';
import { FIELD, fieldId } from './names.ts';
import { MAX_FIELDS, PROBLEM } from './problems.ts';

/** What a reader returns when the bytes so far are right and do not suffice. */
export const MORE = 0;

// Imported (and exported) bindings are loaded at every use, constants of this module are compiled in: that halves the time.
const [tokens, values] = [TOKEN, VALUE];
const { tab: TAB, lf: LF, cr: CR, space: SPACE, colon: COLON } = BYTE;

const NOTHING = new Uint8Array(0);

/** Where the fields of a message are. Reused: each reading overwrites it. */
export class FieldIndex {
  /** What all offsets point into. */
  bytes: Uint8Array = NOTHING;
  private viewed: Uint8Array = NOTHING;
  private view: DataView = new DataView(NOTHING.buffer);
  /** Of the first field line. */
  fieldsStart = 0;
  /** Behind the blank line. */
  end = 0;
  count = 0;
  /** Four per field: name start, name end, value start, value end (without whitespace around it). */
  readonly fields: Int32Array;
  /** FIELD numbers. */
  readonly ids: Uint8Array;
  /** 1: belongs to this hop or to the framing; it is not forwarded, and no later stage may act on it. */
  readonly dropped: Uint8Array;

  /** @param mostFields more are refused */
  constructor(mostFields: number = MAX_FIELDS) {
    this.fields = new Int32Array(4 * mostFields);
    this.ids = new Uint8Array(mostFields);
    this.dropped = new Uint8Array(mostFields);
  }

  /** Makes `bytes` what offsets point into. Returns a view of them, made anew only for other bytes than the last time. */
  attach(bytes: Uint8Array): DataView {
    if (this.viewed !== bytes) {
      this.viewed = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.bytes = bytes;
    return this.view;
  }

  /** The first field of that name, in lower case, that is not dropped, or -1. For names that FIELD does not have. */
  find(name: Uint8Array): number {
    const { bytes, fields, dropped, count } = this;
    for (let i = 0; i < count; i++) {
      if (dropped[i] === 0 && equalsFolded(bytes, fields[4 * i], fields[4 * i + 1], name, LOWER)) return i;
    }
    return -1;
  }

  /** The value of field `i` as Latin-1 text; for logs and answers, not for every request. */
  value(i: number): string {
    const { buffer, byteOffset, byteLength } = this.bytes;
    const [start, end] = this.fields.subarray(4 * i + 2, 4 * i + 4);
    return Buffer.from(buffer, byteOffset, byteLength).toString('latin1', start, end);
  }
}

/**
 * Reads field lines up to and with the blank line.
 * @returns the offset behind the blank line, MORE, or a negated PROBLEM
 */
export function readFields(index: FieldIndex, bytes: Uint8Array, from: number, limit: number): number {
  const { fields, ids, dropped } = index;
  const mostFields = ids.length;
  const view = index.attach(bytes);
  index.fieldsStart = from;
  let count = 0;
  for (let at = from; at < limit; at += 2) {
    const nameStart = at;
    while (at < limit && tokens[bytes[at]] !== 0) at++;
    if (at === limit) return MORE;
    if (bytes[at] !== COLON || nameStart === at) return lastLine(index, count, nameStart, at, limit);
    if (count === mostFields) return -PROBLEM.tooManyFields;
    const slot = 4 * count;
    fields[slot] = nameStart;
    fields[slot + 1] = at;
    ids[count] = fieldId(bytes, nameStart, at);
    dropped[count++] = 0;
    at++;
    while (at < limit && (bytes[at] === SPACE || bytes[at] === TAB)) at++;
    fields[slot + 2] = at;
    at = valueStop(bytes, view, at, limit);
    let valueEnd = at;
    // An empty value ends before the colon at the latest, which is no blank.
    while (bytes[valueEnd - 1] === SPACE || bytes[valueEnd - 1] === TAB) valueEnd--;
    fields[slot + 3] = Math.max(valueEnd, fields[slot + 2]);
    if (at + 1 >= limit || bytes[at] !== CR || bytes[at + 1] !== LF) return lineEnd(bytes, at, limit);
  }
  return MORE;
}

/**
 * Where a value stops that goes on at `at`: at the first byte that no value has, or `limit`. Visible ASCII is passed four bytes at a
 * time, most of every value; what is behind the first other byte (a tab or obs-text, which are allowed) one by one.
 */
function valueStop(bytes: Uint8Array, view: DataView, at: number, limit: number): number {
  let stop = at;
  for (const last = limit - 4; stop <= last; stop += 4) {
    const four = view.getInt32(stop, true);
    // The top bit of a byte is set in one of these when it is above 0x7f, below 0x20 or 0x7f. Borrows and carries come
    // only from such a byte, so that the lowest one is told exactly.
    const odd = (four | (four - 0x20202020) | (four + 0x01010101)) & 0x80808080;
    if (odd !== 0) {
      stop += (31 - Math.clz32(odd & -odd)) >> 3;
      break;
    }
  }
  while (stop < limit && values[bytes[stop]] !== 0) stop++;
  return stop;
}

/** The offset behind the CR LF at `at`, MORE, or a negated PROBLEM. */
export function lineEnd(bytes: Uint8Array, at: number, limit: number): number {
  if (at >= limit) return MORE;
  if (bytes[at] !== CR) return bytes[at] === LF ? -PROBLEM.lineEnd : -PROBLEM.value;
  if (at + 1 >= limit) return MORE;
  return bytes[at + 1] === LF ? at + 2 : -PROBLEM.lineEnd;
}

/** The line at `start`, which is no field: its name stops at `at`, and no colon follows. */
function lastLine(index: FieldIndex, count: number, start: number, at: number, limit: number): number {
  if (start !== at || index.bytes[at] !== CR) return nameProblem(index.bytes, start, at);
  index.count = count;
  index.end = lineEnd(index.bytes, at, limit);
  return index.end;
}

/** Why the line at `start` is no field: its name stops at `at`, and no colon follows. */
function nameProblem(bytes: Uint8Array, start: number, at: number): number {
  const byte = bytes[at];
  if (isBlank(byte)) return start === at ? -PROBLEM.folded : -PROBLEM.blankBeforeColon;
  if (byte === COLON) return -PROBLEM.emptyName;
  return byte === LF ? -PROBLEM.lineEnd : -PROBLEM.name;
}

/** Trailer fields that mean something before the body cannot mean it behind it (RFC 9110 section 6.5.1): not forwarded. */
export function dropForbiddenTrailers(index: FieldIndex): void {
  for (let i = 0; i < index.count; i++) index.dropped[i] = index.ids[i] === FIELD.other ? 0 : 1;
}
