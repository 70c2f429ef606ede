/**
 * Header blocks that one connection's encoder has made of lists that last. While its compression table stays as it is, it would make the
 * same again.
 */
import type { FieldList } from './field.ts';
import { ownCopy } from './ranges.ts';

/** Blocks that are remembered: those of the calls or answers of some clients. A power of two. */
const PLACES = 16;

/** Longer ones are not, in bytes: what is in the table takes one byte or two. */
const MOST_BYTES = 128;

/** A list, and its block. */
class Place {
  list: FieldList | undefined = undefined;
  /** Of the table, when it was made. */
  changes = 0;
  bytes: Uint8Array = NONE;
}

const NONE = new Uint8Array(0);

/** See above. */
export class MadeBlocks {
  /** Not made before there is a list that lasts. */
  private places: Place[] | undefined = undefined;

  /**
   * Writes the block of a list that lasts.
   * @param changes of the table so far
   * @returns the end of the block; -1: it is not known
   */
  write(list: FieldList, changes: number, into: Uint8Array, at: number): number {
    const place = this.places?.[list.number & (PLACES - 1)];
    if (place === undefined || place.list !== list || place.changes !== changes) return -1;
    const { bytes } = place;
    for (let i = 0; i < bytes.length; i++) into[at + i] = bytes[i];
    return at + bytes.length;
  }

  /** The block of that list is `bytes[from, to)`, and has changed nothing. */
  keep(list: FieldList, changes: number, bytes: Uint8Array, from: number, to: number): void {
    if (to - from > MOST_BYTES) return;
    this.places ??= Array.from({ length: PLACES }, () => new Place());
    const place = this.places[list.number & (PLACES - 1)];
    place.list = list;
    place.changes = changes;
    place.bytes = ownCopy(bytes, from, to);
  }
}
