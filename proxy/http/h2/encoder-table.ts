/** The dynamic table as an encoder needs it (RFC 7541 section 2.3.2): from a field or name to its index. */
import { FIELD_OVERHEAD, type Field, type FieldName, STATIC_FIELDS } from './field.ts';

/**
 * Largest table used, in bytes, whatever a peer allows: the default of the protocol. It holds 40 to 60 usual fields, and is what
 * one connection can make us keep in memory.
 */
export const MOST_TABLE_SIZE = 4096;

const FIRST_DYNAMIC = STATIC_FIELDS.length;

/** Entries of a full table of fields without bytes: a power of two. */
const MOST_ENTRIES = MOST_TABLE_SIZE / FIELD_OVERHEAD;

/** Sets of two places each, so that all entries and their names have one, a quarter of them when the fields are usual ones. */
const SETS = MOST_ENTRIES;

/** Stands for no entry. */
const NONE = STATIC_FIELDS[1];

/**
 * Finds by identity, in sets of two by hash: a third of the time of a Map. An entry can lose its place to a newer one; it is
 * not found any more then, and costs a literal.
 */
export class EncoderTable {
  /** Most bytes. */
  size: number = MOST_TABLE_SIZE;
  private used = 0;
  private count = 0;
  /** Number of the newest entry; they are numbered one by one, modulo 2^32. */
  private newest = 0;
  /** Entries, at their number modulo its length. */
  private readonly entries: Field[] = new Array<Field>(MOST_ENTRIES).fill(NONE);
  private readonly keys: (Field | FieldName)[] = new Array<Field | FieldName>(2 * SETS).fill(NONE);
  /** The number of the entry that each key means. */
  private readonly numbers = new Int32Array(2 * SETS);

  /** The index of the field, or of the newest field with the name; 0: it has none. */
  indexOf(key: Field | FieldName, hash: number): number {
    const place = 2 * (hash & (SETS - 1));
    if (this.keys[place] === key) return FIRST_DYNAMIC + ((this.newest - this.numbers[place]) | 0);
    if (this.keys[place + 1] === key) return FIRST_DYNAMIC + ((this.newest - this.numbers[place + 1]) | 0);
    return 0;
  }

  /** Makes a field, which is not larger than the table, the newest entry. */
  add(field: Field): void {
    this.evict(this.size - field.size);
    this.newest = (this.newest + 1) | 0;
    this.entries[this.newest & (MOST_ENTRIES - 1)] = field;
    this.count++;
    this.used += field.size;
    this.place(field, field.hash);
    if (field.label.staticIndex === 0) this.place(field.label, field.label.hash);
  }

  /** @param size in bytes, at most MOST_TABLE_SIZE */
  resize(size: number): void {
    this.size = size;
    this.evict(size);
  }

  /** Drops the oldest entries until at most `most` bytes are used. */
  private evict(most: number): void {
    while (this.used > most) {
      const number = (this.newest - --this.count) | 0;
      const field = this.entries[number & (MOST_ENTRIES - 1)];
      this.entries[number & (MOST_ENTRIES - 1)] = NONE;
      this.used -= field.size;
      this.displace(field, field.hash, number);
      if (field.label.staticIndex === 0) this.displace(field.label, field.label.hash, number);
    }
  }

  /** Lets the key mean the newest entry. */
  private place(key: Field | FieldName, hash: number): void {
    const { keys, numbers } = this;
    const first = 2 * (hash & (SETS - 1));
    const second = first + 1;
    let place = first;
    if (keys[first] !== key && keys[first] !== NONE) {
      const older = ((numbers[first] - numbers[second]) | 0) > 0;
      if (keys[second] === key || keys[second] === NONE || older) place = second;
    }
    keys[place] = key;
    numbers[place] = this.newest;
  }

  /** Forgets the key if it means that entry. */
  private displace(key: Field | FieldName, hash: number, number: number): void {
    const first = 2 * (hash & (SETS - 1));
    for (let place = first; place <= first + 1; place++) {
      if (this.keys[place] === key && this.numbers[place] === number) this.keys[place] = NONE;
    }
  }
}
