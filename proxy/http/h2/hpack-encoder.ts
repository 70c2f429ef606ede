/**
 * Fields to header blocks (RFC 7541).
 *
 * Strings are sent as they are, not Huffman-coded: to code 55 bytes costs 290 ns here and 80 ns at the peer that decodes them,
 * where to copy them costs 20, and it saves 16 bytes; what comes often is in the table anyway.
 */
import { EncoderTable, MOST_TABLE_SIZE } from './encoder-table.ts';
import type { Field, FieldList } from './field.ts';
import { cameLately } from './lately.ts';
import { MadeBlocks } from './made-blocks.ts';

/** First bytes of the representations, without the bits of their integers (RFC 7541 section 6). */
const INDEXED = 0x80;
const INCREMENTAL = 0x40;
const SIZE_UPDATE = 0x20;
const NEVER_INDEXED = 0x10;
const NOT_INDEXED = 0x00;

/** Largest index of one byte, plus 1: the prefix of an indexed field, all bits set. */
const INDEX_MASK = 0x7f;

/** Of a string that is not Huffman-coded. */
const LENGTH_MASK = 0x7f;

/** Two table size updates of at most three bytes each (up to 4096). */
const SIZE_UPDATES_ROOM = 6;

/**
 * Sets of two hashes each of literals sent lately: what comes again while it is among them is put in the table. Requests have 3
 * to 10 literals, so that a field of every tenth request is found and one of every hundredth mostly is not. A power of two.
 */
const RECENT_SETS = 64;

/** Longer strings are copied by set(), which costs as much as so many bytes in a loop. */
const SHORT_STRING = 24;

/** The encoder of one connection's direction. */
export class HpackEncoder {
  private readonly table = new EncoderTable();
  private readonly recent = new Int32Array(2 * RECENT_SETS);
  /** The table size that the peer's decoder knows of. */
  private announcedSize: number = MOST_TABLE_SIZE;
  /** The smallest size since then. */
  private smallestSize: number = MOST_TABLE_SIZE;
  private readonly made = new MadeBlocks();
  /** The last block has a field that was put in the table, or is when it comes again. */
  private mayChange = false;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE, in bytes; of the table we use at most MOST_TABLE_SIZE. */
  peerTableSize(bytes: number): void {
    this.table.resize(Math.min(bytes, MOST_TABLE_SIZE));
    this.smallestSize = Math.min(this.smallestSize, this.table.size);
  }

  /** How many bytes `encode` can need at most: it writes less than the 32 that a field's size counts besides its bytes. */
  room(list: FieldList): number {
    return list.size + SIZE_UPDATES_ROOM;
  }

  /**
   * Writes the fields as one header block, which must be sent next of all that this encoder writes.
   * @param into has `room` from `at` on
   * @returns the end of the block
   */
  encode(list: FieldList, into: Uint8Array, at: number): number {
    const { table } = this;
    if (this.announcedSize !== this.smallestSize || this.announcedSize !== table.size)
      return this.encodeFields(list, into, this.writeSizes(into, at));
    if (!list.lasts) return this.encodeFields(list, into, at);
    const { changes } = table;
    const known = this.made.write(list, changes, into, at);
    if (known >= 0) return known;
    const end = this.encodeFields(list, into, at);
    if (!this.mayChange) this.made.keep(list, changes, into, at, end);
    return end;
  }

  private encodeFields(list: FieldList, into: Uint8Array, at: number): number {
    const { items, count } = list;
    const { table } = this;
    this.mayChange = false;
    let end = at;
    for (let i = 0; i < count; i++) {
      const field = items[i];
      const index = field.staticIndex !== 0 ? field.staticIndex : table.indexOf(field);
      if (index === 0) end = this.writeLiteral(field, into, end);
      else if (index < INDEX_MASK) into[end++] = INDEXED | index;
      else end = writeInteger(into, end, INDEXED, INDEX_MASK, index);
    }
    return end;
  }

  /** Tells the smallest size and the last one (RFC 7541 section 4.2). */
  private writeSizes(into: Uint8Array, at: number): number {
    const { size } = this.table;
    let end = at;
    const isSmallestTold = this.smallestSize === this.announcedSize || this.smallestSize === size;
    if (!isSmallestTold) end = writeInteger(into, end, SIZE_UPDATE, SIZE_UPDATE - 1, this.smallestSize);
    this.announcedSize = this.smallestSize = size;
    return writeInteger(into, end, SIZE_UPDATE, SIZE_UPDATE - 1, size);
  }

  /** A field that has no index (RFC 7541 section 6.2). */
  private writeLiteral(field: Field, into: Uint8Array, at: number): number {
    const { label } = field;
    if (!field.neverIndexed) this.mayChange = true;
    const nameIndex = label.staticIndex !== 0 ? label.staticIndex : this.table.indexOfName(label);
    const isAdded = !field.neverIndexed && this.isWorthAnEntry(field, nameIndex);
    let end: number;
    if (isAdded) end = writeInteger(into, at, INCREMENTAL, INCREMENTAL - 1, nameIndex);
    else {
      const first = field.neverIndexed ? NEVER_INDEXED : NOT_INDEXED;
      end = writeInteger(into, at, first, NEVER_INDEXED - 1, nameIndex);
    }
    if (nameIndex === 0) end = writeString(into, end, label.bytes);
    // Behind the lookup of the name, whose index changes with this.
    if (isAdded) this.table.add(field);
    return writeString(into, end, field.value);
  }

  /**
   * Whether it is likely to come again: it came lately. Also when its name did and has no index yet, for the sake of those of that
   * name that come once (ids, traces). So values that come once never drive out those that come often. A field that would take
   * more than half of the table is worth less than what it drives out.
   */
  private isWorthAnEntry(field: Field, nameIndex: number): boolean {
    if (2 * field.size > this.table.size) return false;
    const { recent } = this;
    return cameLately(recent, field.hash) || (nameIndex === 0 && cameLately(recent, field.label.hash));
  }
}

/** RFC 7541 section 5.1; `first` are the bits beside the prefix, `mask` is the prefix with all bits set. */
function writeInteger(into: Uint8Array, at: number, first: number, mask: number, value: number): number {
  if (value < mask) {
    into[at] = first | value;
    return at + 1;
  }
  into[at] = first | mask;
  let end = at + 1;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) into[end++] = 0x80 | (rest & 0x7f);
  into[end] = rest;
  return end + 1;
}

/** RFC 7541 section 5.2. */
function writeString(into: Uint8Array, at: number, text: Uint8Array): number {
  const start = writeInteger(into, at, 0, LENGTH_MASK, text.length);
  if (text.length > SHORT_STRING) into.set(text, start);
  else for (let i = 0; i < text.length; i++) into[start + i] = text[i];
  return start + text.length;
}
