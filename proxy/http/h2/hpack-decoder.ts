/** Header blocks to fields (RFC 7541). What a table has is an object already: an indexed field costs one load and one store. */
import { internCoded, internCodedName } from './coded-values.ts';
import {
  FIELD_OVERHEAD,
  type Field,
  type FieldList,
  type FieldName,
  MAX_LIST_BYTES,
  MAX_LIST_FIELDS,
  STATIC_FIELDS,
} from './field.ts';
import { internName, internValue } from './interning.ts';

/** What can be wrong with a header block: what HpackDecoder.decode returns, 0 for nothing. */
export const HPACK_PROBLEM = {
  none: 0,
  /** The block ends within a field. */
  truncated: 1,
  integer: 2,
  index: 3,
  sizeUpdatePlace: 4,
  sizeUpdateTooLarge: 5,
  huffman: 6,
  /** First that is no COMPRESSION_ERROR: the block was decoded to its end, the tables agree, and only this message is lost. */
  listTooLarge: 7,
  tooManyFields: 8,
} as const;

const TEXTS: Readonly<Record<number, string>> = {
  [HPACK_PROBLEM.truncated]: 'a header block ends within a field',
  [HPACK_PROBLEM.integer]: 'a header block has an integer of more than 5 further bytes',
  [HPACK_PROBLEM.index]: 'a header block has an index that no table entry has',
  [HPACK_PROBLEM.sizeUpdatePlace]: 'a header block has a table size update behind a field',
  [HPACK_PROBLEM.sizeUpdateTooLarge]:
    'a header block has a table size update above SETTINGS_HEADER_TABLE_SIZE',
  [HPACK_PROBLEM.huffman]: 'a header block has a string that is no Huffman code',
  [HPACK_PROBLEM.listTooLarge]: `the fields are larger than ${MAX_LIST_BYTES} bytes, 32 for each field included (% seen)`,
  [HPACK_PROBLEM.tooManyFields]: `there are more than ${MAX_LIST_FIELDS} header fields`,
};

/** Whether a problem ends the connection (RFC 7541 section 2.2, RFC 9113 section 4.3): the peer's table is not known any more. */
export function isCompressionError(problem: number): boolean {
  return problem > HPACK_PROBLEM.none && problem < HPACK_PROBLEM.listTooLarge;
}

/**
 * A problem in words.
 * @param problem one of HPACK_PROBLEM but `none`
 * @param seenBytes FieldList.size
 */
export function describeHpackProblem(problem: number, seenBytes: number): string {
  const text = TEXTS[problem];
  if (text === undefined) throw new RangeError(`there is no header block problem ${problem}`);
  return text.replace('(% seen)', `(${seenBytes} seen)`);
}

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const statics = STATIC_FIELDS;
const [mostFields, mostBytes] = [MAX_LIST_FIELDS, MAX_LIST_BYTES];

/** What SETTINGS_HEADER_TABLE_SIZE is until it is said otherwise, in bytes (RFC 9113 section 6.5.2). */
const DEFAULT_TABLE_SIZE = 4096;

const LAST_STATIC = STATIC_FIELDS.length - 1;
const FIRST_DYNAMIC = STATIC_FIELDS.length;

/** Most bytes of an integer behind its prefix: 35 bits, more than any length, index or size that can be right. */
const MOST_INTEGER_BYTES = 5;

/** Stands for no entry. */
const NONE = STATIC_FIELDS[1];

/** First bytes of the representations, without the bits of their integers (RFC 7541 section 6); the least is 0: not indexed. */
const INDEXED = 0x80;
const INCREMENTAL = 0x40;
const SIZE_UPDATE = 0x20;
const NEVER_INDEXED = 0x10;

/** The integer of an indexed field, all bits set: it goes on in the next bytes. */
const INDEX_MASK = 0x7f;

/** Set in the first byte of a string that is Huffman-coded. */
const HUFFMAN = 0x80;

/** The decoder of one connection's direction. */
export class HpackDecoder {
  /** How often the table has changed, or might have. */
  changes = 0;
  /** What our SETTINGS allow, in bytes. */
  private readonly maxTableSize: number;
  /** What the peer made of it, in bytes. */
  private tableSize: number;
  /** Sum of Field.size of the table. */
  private used = 0;
  /** Entries: those at `newest`, `newest - 1`, … modulo its length, which is a power of two. */
  private readonly entries: Field[];
  private readonly mask: number;
  private newest = 0;
  private count = 0;
  /** What readInteger read. */
  private integer = 0;
  /** Whether the string that readLength began is Huffman-coded. */
  private coded = false;
  /** What readField read. */
  private field: Field = NONE;

  /** @param maxTableSize as in our SETTINGS_HEADER_TABLE_SIZE, in bytes; what is not the default the peer must know already */
  constructor(maxTableSize: number = DEFAULT_TABLE_SIZE) {
    this.maxTableSize = maxTableSize;
    this.tableSize = maxTableSize;
    const most = Math.max(1, Math.floor(maxTableSize / FIELD_OVERHEAD));
    const room = 2 ** Math.ceil(Math.log2(most));
    this.mask = room - 1;
    this.entries = new Array<Field>(room).fill(NONE);
  }

  /**
   * Appends the fields of the header block `bytes[from, to)`, which is whole, to `into`. A list that gets too long is decoded to
   * its end for the table's sake, without keeping more fields; its size goes on counting.
   * @returns 0 or one of HPACK_PROBLEM
   */
  decode(bytes: Uint8Array, from: number, to: number, into: FieldList): number {
    const { items } = into;
    const { entries, mask } = this;
    let { count, size } = into;
    let dropped = 0;
    let at = this.readSizeUpdates(bytes, from, to);
    if (at < 0) return -at;
    while (at < to) {
      const index = bytes[at] - INDEXED;
      let field: Field;
      // The two usual cases; what they do not take is right as well, or has its problem.
      if (index > 0 && index < FIRST_DYNAMIC) {
        field = statics[index];
        at++;
      } else if (index >= FIRST_DYNAMIC && index < FIRST_DYNAMIC + this.count && index < INDEX_MASK) {
        field = entries[(this.newest - (index - FIRST_DYNAMIC)) & mask];
        at++;
      } else {
        at = this.readField(bytes, at, to);
        if (at < 0) return -at;
        field = this.field;
      }
      size += field.size;
      if (count < mostFields && size <= mostBytes) items[count++] = field;
      else dropped++;
    }
    into.count = count;
    into.size = size;
    if (dropped === 0) return HPACK_PROBLEM.none;
    return size > mostBytes ? HPACK_PROBLEM.listTooLarge : HPACK_PROBLEM.tooManyFields;
  }

  /** At the beginning of a block only (RFC 7541 section 4.2). Returns the position behind them or a negated problem. */
  private readSizeUpdates(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    while (at < to && bytes[at] >= SIZE_UPDATE && bytes[at] < INCREMENTAL) {
      at = this.readInteger(bytes, at, to, SIZE_UPDATE - 1);
      if (at < 0) return at;
      this.changes++;
      if (this.integer > this.maxTableSize) return -HPACK_PROBLEM.sizeUpdateTooLarge;
      this.tableSize = this.integer;
      this.evict(this.tableSize);
    }
    return at;
  }

  /** Reads one field representation (RFC 7541 section 6) to `this.field`. Returns the position behind it or a negated problem. */
  private readField(bytes: Uint8Array, from: number, to: number): number {
    const byte = bytes[from];
    if (byte >= INDEXED) {
      const at = this.readInteger(bytes, from, to, INDEX_MASK);
      if (at < 0) return at;
      const entry = this.entry(this.integer);
      if (entry === undefined) return -HPACK_PROBLEM.index;
      this.field = entry;
      return at;
    }
    if (byte >= INCREMENTAL) {
      const at = this.readLiteral(bytes, from, to, INCREMENTAL - 1, false);
      if (at > 0) this.add(this.field);
      return at;
    }
    if (byte >= SIZE_UPDATE) return -HPACK_PROBLEM.sizeUpdatePlace;
    return this.readLiteral(bytes, from, to, NEVER_INDEXED - 1, byte >= NEVER_INDEXED);
  }

  /** Name and value (RFC 7541 section 6.2); `mask` is of the bits of the first byte that are the name's index. */
  private readLiteral(
    bytes: Uint8Array,
    from: number,
    to: number,
    mask: number,
    neverIndexed: boolean,
  ): number {
    let at = from + 1;
    let label: FieldName | undefined;
    if ((bytes[from] & mask) === 0) {
      at = this.readLength(bytes, at, to);
      if (at < 0) return at;
      const end = at + this.integer;
      label = this.coded ? internCodedName(bytes, at, end) : internName(bytes, at, end);
      if (label === undefined) return -HPACK_PROBLEM.huffman;
      at = end;
    } else {
      at = this.readInteger(bytes, from, to, mask);
      if (at < 0) return at;
      label = this.entry(this.integer)?.label;
      if (label === undefined) return -HPACK_PROBLEM.index;
    }
    at = this.readLength(bytes, at, to);
    if (at < 0) return at;
    const end = at + this.integer;
    const field = this.coded
      ? internCoded(label, bytes, at, end, neverIndexed)
      : internValue(label, bytes, at, end, neverIndexed);
    if (field === undefined) return -HPACK_PROBLEM.huffman;
    this.field = field;
    return end;
  }

  /** The beginning of a string literal (RFC 7541 section 5.2), to `this.integer` and `this.coded`. */
  private readLength(bytes: Uint8Array, from: number, to: number): number {
    if (from === to) return -HPACK_PROBLEM.truncated;
    this.coded = bytes[from] >= HUFFMAN;
    const at = this.readInteger(bytes, from, to, HUFFMAN - 1);
    return at >= 0 && at + this.integer > to ? -HPACK_PROBLEM.truncated : at;
  }

  /** Reads an integer (RFC 7541 section 5.1), whose prefix is `mask` of the first byte, to `this.integer`. */
  private readInteger(bytes: Uint8Array, from: number, to: number, mask: number): number {
    this.integer = bytes[from] & mask;
    if (this.integer < mask) return from + 1;
    const most = from + MOST_INTEGER_BYTES;
    for (let at = from + 1, unit = 1; at < to; at++, unit *= 128) {
      if (at > most) return -HPACK_PROBLEM.integer;
      this.integer += (bytes[at] & 0x7f) * unit;
      if (bytes[at] < 0x80) return at + 1;
    }
    return -HPACK_PROBLEM.truncated;
  }

  /** The entry of an index of both tables (RFC 7541 section 2.3.3). */
  private entry(index: number): Field | undefined {
    if (index <= LAST_STATIC) return index === 0 ? undefined : statics[index];
    const age = index - FIRST_DYNAMIC;
    return age < this.count ? this.entries[(this.newest - age) & this.mask] : undefined;
  }

  /** Makes it the newest entry; one that is larger than the table empties it (RFC 7541 section 4.4). */
  private add(field: Field): void {
    this.changes++;
    this.evict(this.tableSize - field.size);
    if (field.size > this.tableSize) return;
    this.newest = (this.newest + 1) & this.mask;
    this.entries[this.newest] = field;
    this.count++;
    this.used += field.size;
  }

  /** Drops the oldest entries until at most `most` bytes are used; it may be negative. */
  private evict(most: number): void {
    while (this.used > most && this.count > 0) {
      const oldest = (this.newest - --this.count) & this.mask;
      this.used -= this.entries[oldest].size;
      // Else it would be kept in memory until the place is needed.
      this.entries[oldest] = NONE;
    }
  }
}
