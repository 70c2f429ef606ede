/** Field lines of heads and trailer sections (RFC 9112 section 5), indexed where they are. */
import { BYTE, isBlank, TOKEN, VALUE } from './bytes.ts';
import { FIELD, fieldId } from './names.ts';
import { MAX_FIELDS, PROBLEM } from './problems.ts';

/** What a reader returns when the bytes so far are right and do not suffice. */
export const MORE = 0;

/** Where the fields of a message are. Reused: each reading overwrites it. */
export class FieldIndex {
  /** What all offsets point into. */
  bytes: Uint8Array = new Uint8Array(0);
  /** Of the first field line. */
  fieldsStart = 0;
  /** Behind the blank line. */
  end = 0;
  count = 0;
  /** Four per field: name start, name end, value start, value end (without whitespace around it). */
  readonly fields = new Int32Array(4 * MAX_FIELDS);
  /** FIELD numbers. */
  readonly ids = new Uint8Array(MAX_FIELDS);
  /** 1: belongs to this hop or to the framing; it is not forwarded, and no later stage may act on it. */
  readonly dropped = new Uint8Array(MAX_FIELDS);

  /** The first field of that FIELD number that is not dropped, or -1. */
  find(id: number): number {
    for (let i = 0; i < this.count; i++) if (this.ids[i] === id && this.dropped[i] === 0) return i;
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
  index.bytes = bytes;
  index.fieldsStart = from;
  let count = 0;
  for (let at = from; at < limit; count++) {
    const nameStart = at;
    while (at < limit && TOKEN[bytes[at]] !== 0) at++;
    const nameEnd = at;
    if (at === limit) return MORE;
    if (bytes[at] !== BYTE.colon || nameStart === nameEnd) {
      if (nameStart !== nameEnd || bytes[at] !== BYTE.cr) return nameProblem(bytes, nameStart, at);
      index.count = count;
      index.end = lineEnd(bytes, at, limit);
      return index.end;
    }
    if (count === MAX_FIELDS) return -PROBLEM.tooManyFields;
    at++;
    while (at < limit && isBlank(bytes[at])) at++;
    const valueStart = at;
    while (at < limit && VALUE[bytes[at]] !== 0) at++;
    let valueEnd = at;
    while (valueEnd > valueStart && isBlank(bytes[valueEnd - 1])) valueEnd--;
    const next = lineEnd(bytes, at, limit);
    if (next <= 0) return next;
    at = next;
    const slot = 4 * count;
    fields[slot] = nameStart;
    fields[slot + 1] = nameEnd;
    fields[slot + 2] = valueStart;
    fields[slot + 3] = valueEnd;
    ids[count] = fieldId(bytes, nameStart, nameEnd);
    dropped[count] = 0;
  }
  return MORE;
}

/** The offset behind the CR LF at `at`, MORE, or a negated PROBLEM. */
export function lineEnd(bytes: Uint8Array, at: number, limit: number): number {
  if (at >= limit) return MORE;
  if (bytes[at] !== BYTE.cr) return bytes[at] === BYTE.lf ? -PROBLEM.lineEnd : -PROBLEM.value;
  if (at + 1 >= limit) return MORE;
  return bytes[at + 1] === BYTE.lf ? at + 2 : -PROBLEM.lineEnd;
}

/** Why the line at `start` is no field: its name stops at `at`, and no colon follows. */
function nameProblem(bytes: Uint8Array, start: number, at: number): number {
  const byte = bytes[at];
  if (isBlank(byte)) return start === at ? -PROBLEM.folded : -PROBLEM.blankBeforeColon;
  if (byte === BYTE.colon) return -PROBLEM.emptyName;
  return byte === BYTE.lf ? -PROBLEM.lineEnd : -PROBLEM.name;
}

/** Trailer fields that mean something before the body cannot mean it behind it (RFC 9110 section 6.5.1): not forwarded. */
export function dropForbiddenTrailers(index: FieldIndex): void {
  for (let i = 0; i < index.count; i++) index.dropped[i] = index.ids[i] === FIELD.other ? 0 : 1;
}
