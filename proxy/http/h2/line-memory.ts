/**
 * From a field line of HTTP/1, as it stands, to its Field: clients say the same in most of their lines each time, and comparing a line
 * with what came before costs a third of folding, hashing and finding its name and value. One memory per thread, bounded; what it
 * does not have, interning.ts finds or makes.
 */
import type { Field, FieldName } from './field.ts';
import { internField, internValue } from './interning.ts';

/** Most lines that are remembered: several times what the clients of a busy pod repeat. */
const PLACE_BITS = 9;
const LINES = 1 << PLACE_BITS;

/** Longer lines are not remembered: a full memory of such lines takes half a megabyte. Most cookies and tokens are shorter. */
const MOST_LINE_BYTES = 1024;

/** Lines are compared and hashed by words of this many bytes. */
const WORD = 4;

/** A line that was seen at least twice. */
class Line {
  readonly hash: number;
  readonly field: Field;
  /** It has the value alone; else the name, and all up to the end of the value. */
  readonly valueOnly: boolean;
  /** What was read. */
  readonly view: DataView;

  constructor(hash: number, field: Field, valueOnly: boolean, view: DataView, from: number, to: number) {
    this.hash = hash;
    this.field = field;
    this.valueOnly = valueOnly;
    const own = new Uint8Array(to - from);
    for (let i = from; i < to; i++) own[i - from] = view.getUint8(i);
    this.view = new DataView(own.buffer);
  }
}

const lines = Array.from<Line | undefined>({ length: LINES });
/** The hash of what was last missed in a place: only what comes twice is remembered, and ids that come once drive out nothing. */
const missed = new Int32Array(LINES);

/**
 * The field of a line, with its name in lower case.
 * @param view of `bytes`
 */
export function fieldOfLine(
  bytes: Uint8Array,
  view: DataView,
  nameStart: number,
  nameEnd: number,
  valueStart: number,
  valueEnd: number,
): Field {
  if (!isRemembered(nameStart, valueEnd)) return internField(bytes, nameStart, nameEnd, valueStart, valueEnd);
  const hash = hashLine(view, nameStart, nameEnd, valueEnd);
  const line = lines[hash >>> (32 - PLACE_BITS)];
  if (line?.hash === hash && !line.valueOnly && isSame(line.view, view, nameStart, valueEnd))
    return line.field;
  const field = internField(bytes, nameStart, nameEnd, valueStart, valueEnd);
  noteMiss(line, hash, field, false, view, nameStart, valueEnd);
  return field;
}

/** The field of that name with the value `bytes[from, to)`; for values that stand elsewhere than in a field line. */
export function fieldOfValue(
  label: FieldName,
  bytes: Uint8Array,
  view: DataView,
  from: number,
  to: number,
): Field {
  if (!isRemembered(from, to)) return internValue(label, bytes, from, to, false);
  const hash = hashLine(view, from, from, to);
  const line = lines[hash >>> (32 - PLACE_BITS)];
  if (
    line?.hash === hash &&
    line.valueOnly &&
    line.field.label === label &&
    isSame(line.view, view, from, to)
  ) {
    return line.field;
  }
  const field = internValue(label, bytes, from, to, false);
  noteMiss(line, hash, field, true, view, from, to);
  return field;
}

function isRemembered(from: number, to: number): boolean {
  return to - from >= WORD && to - from <= MOST_LINE_BYTES;
}

function noteMiss(
  line: Line | undefined,
  hash: number,
  field: Field,
  valueOnly: boolean,
  view: DataView,
  from: number,
  to: number,
): void {
  const place = hash >>> (32 - PLACE_BITS);
  if (missed[place] !== hash) missed[place] = hash;
  // Lines that differ only where the hash does not look would drive out each other.
  else if (line?.hash !== hash) lines[place] = new Line(hash, field, valueOnly, view, from, to);
}

/**
 * Of the length and of words at the ends, in the middle and behind it, and at the end of a name: enough to tell lines apart that
 * come often, and most ids.
 */
function hashLine(view: DataView, from: number, nameEnd: number, to: number): number {
  const length = to - from;
  const quarter = (length - WORD) >> 2;
  let hash = length ^ view.getInt32(from, true);
  hash = Math.imul(hash, 0x01000193) ^ view.getInt32(Math.max(from, nameEnd - WORD), true);
  hash = Math.imul(hash, 0x01000193) ^ view.getInt32(from + 2 * quarter, true);
  hash = Math.imul(hash, 0x01000193) ^ view.getInt32(from + 3 * quarter, true);
  hash = Math.imul(hash, 0x01000193) ^ view.getInt32(to - WORD, true);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
}

function isSame(own: DataView, view: DataView, from: number, to: number): boolean {
  if (own.byteLength !== to - from) return false;
  const last = to - from - WORD;
  for (let i = 0; i < last; i += WORD) {
    if (own.getInt32(i, true) !== view.getInt32(from + i, true)) return false;
  }
  return own.getInt32(last, true) === view.getInt32(from + last, true);
}
