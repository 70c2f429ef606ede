/**
 * From Huffman-coded names and values to FieldName and Field. Some encoders never index what they send most (nghttp2: `:path`), so that the same
 * coded bytes come with every request; recognising them costs half of decoding them. One memory per thread, bounded.
 */
import { type Field, type FieldName, hashField } from './field.ts';
import { huffmanDecode, huffmanRoom } from './huffman.ts';
import { internName, internValue } from './interning.ts';
import { isSame, ownCopy } from './ranges.ts';

/** Values of which each has one place. As many as a busy pod's peers repeat; full of the longest they take 1.5 MB. */
const PLACES = 1024;

/** Longer values are decoded each time, in coded bytes: most of those are tokens, which their senders index or change. */
const MOST_CODED_BYTES = 512;

/** Room for most values; longer ones get an array of their own for the moment. */
const SCRATCH_BYTES = 8192;

const UNUSED = new Uint8Array(0);
const hashes = new Int32Array(PLACES);
const fields: (Field | undefined)[] = new Array<Field | undefined>(PLACES).fill(undefined);
const coded: Uint8Array[] = new Array<Uint8Array>(PLACES).fill(UNUSED);

/**
 * Of the value last decoded in each place: what comes twice is remembered, so that values that come once (ids, traces) cost no
 * memory and drive out nothing.
 */
const candidates = new Int32Array(PLACES);

const scratch = new Uint8Array(huffmanRoom(SCRATCH_BYTES));

/**
 * The field of that name with the value that is coded as `bytes[from, to)`.
 * @returns undefined when they are no Huffman code
 */
export function internCoded(
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  neverIndexed: boolean,
): Field | undefined {
  if (to - from > MOST_CODED_BYTES) return decoded(label, bytes, from, to, neverIndexed);
  const hash = hashField(label, bytes, from, to, neverIndexed);
  const place = hash & (PLACES - 1);
  const known = fields[place];
  if (hashes[place] === hash && known !== undefined && known.label === label) {
    // The flag is in the hash already; that it is never lost does not hang on hashes.
    if ((known.neverIndexed || !neverIndexed) && isSame(coded[place], bytes, from, to)) return known;
  }
  const field = decoded(label, bytes, from, to, neverIndexed);
  if (field === undefined) return undefined;
  if (candidates[place] === hash) {
    hashes[place] = hash;
    fields[place] = field;
    coded[place] = ownCopy(bytes, from, to);
  }
  candidates[place] = hash;
  return field;
}

/**
 * The name that is coded as `bytes[from, to)`.
 * @returns undefined when they are no Huffman code
 */
export function internCodedName(bytes: Uint8Array, from: number, to: number): FieldName | undefined {
  const into = scratchFor(to - from);
  const length = huffmanDecode(bytes, from, to, into);
  return length < 0 ? undefined : internName(into, 0, length);
}

function decoded(
  label: FieldName,
  bytes: Uint8Array,
  from: number,
  to: number,
  neverIndexed: boolean,
): Field | undefined {
  const into = scratchFor(to - from);
  const length = huffmanDecode(bytes, from, to, into);
  return length < 0 ? undefined : internValue(label, into, 0, length, neverIndexed);
}

function scratchFor(length: number): Uint8Array {
  return length <= SCRATCH_BYTES ? scratch : new Uint8Array(huffmanRoom(length));
}
