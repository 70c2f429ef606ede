/** The dynamic table as an encoder needs it (RFC 7541 section 2.3.2): from a field or a name to its index. */
import { FIELD_OVERHEAD, type Field, type FieldName, STATIC_FIELDS } from './field.ts';

/**
 * Largest table used, in bytes, whatever a peer allows: the default of the protocol. It holds 40 to 60 usual fields, and is what
 * one connection can make us keep in memory.
 */
export const MOST_TABLE_SIZE = 4096;

const FIRST_DYNAMIC = STATIC_FIELDS.length;

/** Entries of a table full of fields without bytes. A power of two. */
const MOST_ENTRIES = MOST_TABLE_SIZE / FIELD_OVERHEAD;
const ENTRY_MASK = MOST_ENTRIES - 1;

/** Chains of entries by hash: at least as many as there are usual entries. A power of two. */
const CHAINS = 64;
const CHAIN_MASK = CHAINS - 1;

/** Stands for no entry. */
const NONE = STATIC_FIELDS[1];

/**
 * Finds fields and names by identity. Entries are numbered one by one, modulo 2^32, and chained from newer to older ones by their
 * hashes; the oldest leave first, so that a chain ends at the first number that is too old, and nothing is ever unchained. An
 * attacker's longest chain is the table.
 */
export class EncoderTable {
  /** Most bytes. */
  size: number = MOST_TABLE_SIZE;
  /** How often it has changed. */
  changes = 0;
  private used = 0;
  private count = 0;
  /** Number of the newest entry. */
  private newest = 0;
  /** At an entry's number, modulo the length: itself, and the numbers that follow in its two chains. */
  private readonly entries: Field[] = new Array<Field>(MOST_ENTRIES).fill(NONE);
  private readonly nextFields = new Int32Array(MOST_ENTRIES);
  private readonly nextNames = new Int32Array(MOST_ENTRIES);
  /** By hash: the number of the newest entry of a chain. */
  private readonly fieldChains = new Int32Array(CHAINS);
  private readonly nameChains = new Int32Array(CHAINS);

  /** The index of the field; 0: it has none. */
  indexOf(field: Field): number {
    const { entries, nextFields, newest, count } = this;
    let number = this.fieldChains[field.hash & CHAIN_MASK];
    for (let age = (newest - number) | 0; age >= 0 && age < count; age = (newest - number) | 0) {
      if (entries[number & ENTRY_MASK] === field) return FIRST_DYNAMIC + age;
      number = nextFields[number & ENTRY_MASK];
    }
    return 0;
  }

  /** The index of the newest field that has the name; 0: none has it. */
  indexOfName(name: FieldName): number {
    const { entries, nextNames, newest, count } = this;
    let number = this.nameChains[name.hash & CHAIN_MASK];
    for (let age = (newest - number) | 0; age >= 0 && age < count; age = (newest - number) | 0) {
      if (entries[number & ENTRY_MASK].label === name) return FIRST_DYNAMIC + age;
      number = nextNames[number & ENTRY_MASK];
    }
    return 0;
  }

  /** Makes a field, which is not larger than the table, the newest entry. */
  add(field: Field): void {
    this.changes++;
    this.evict(this.size - field.size);
    const number = (this.newest + 1) | 0;
    const place = number & ENTRY_MASK;
    const fieldChain = field.hash & CHAIN_MASK;
    const nameChain = field.label.hash & CHAIN_MASK;
    this.entries[place] = field;
    this.nextFields[place] = this.fieldChains[fieldChain];
    this.nextNames[place] = this.nameChains[nameChain];
    this.fieldChains[fieldChain] = this.nameChains[nameChain] = this.newest = number;
    this.count++;
    this.used += field.size;
  }

  /** @param size in bytes, at most MOST_TABLE_SIZE */
  resize(size: number): void {
    this.changes++;
    this.size = size;
    this.evict(size);
  }

  /** Drops the oldest entries until at most `most` bytes are used. */
  private evict(most: number): void {
    while (this.used > most) {
      const place = (this.newest - --this.count) & ENTRY_MASK;
      this.used -= this.entries[place].size;
      // Else it would be kept in memory until the place is needed.
      this.entries[place] = NONE;
    }
  }
}
