/**
 * Header blocks that one connection's encoder has made of lists that last. While its compression table stays as it is, it would make the
 * same again.
 */
import { emptyList } from '../../core/spares.ts';
import { coin } from './coin.ts';
import type { FieldList } from './field.ts';
import { ownCopy } from './ranges.ts';

/** Blocks that are remembered: those of the calls or answers of some clients. */
const PLACES = 16;

/** Longer ones are not, in bytes: what is in the table takes one byte or two. */
const MOST_BYTES = 128;

/** See above. */
export class MadeBlocks {
  /** Lists, and their blocks in the same places; those that are asked for often are in front. */
  private readonly lists: FieldList[] = emptyList();
  private readonly blocks: Uint8Array[] = emptyList();
  /** Of the table, when they were made. */
  private changes = 0;

  /**
   * Writes the block of a list that lasts.
   * @param changes of the table so far
   * @returns the end of the block; -1: it is not known
   */
  write(list: FieldList, changes: number, into: Uint8Array, at: number): number {
    if (changes !== this.changes) return -1;
    const { lists, blocks } = this;
    const place = placeOf(lists, list);
    if (place < 0) return -1;
    const bytes = blocks[place];
    if (place > 0) {
      lists[place] = lists[place - 1];
      lists[place - 1] = list;
      blocks[place] = blocks[place - 1];
      blocks[place - 1] = bytes;
    }
    for (let i = 0; i < bytes.length; i++) into[at + i] = bytes[i];
    return at + bytes.length;
  }

  /** The block of that list, which `write` did not know, is `bytes[from, to)`, and has changed nothing. */
  keep(list: FieldList, changes: number, bytes: Uint8Array, from: number, to: number): void {
    const { lists, blocks } = this;
    if (changes !== this.changes) lists.length = blocks.length = 0;
    this.changes = changes;
    if (to - from > MOST_BYTES) return;
    const place = lists.length < PLACES ? lists.length : PLACES - 1 - coin();
    lists[place] = list;
    blocks[place] = ownCopy(bytes, from, to);
  }
}

/** As `indexOf`, which is a call. */
function placeOf(lists: readonly FieldList[], list: FieldList): number {
  for (let place = 0; place < lists.length; place++) if (lists[place] === list) return place;
  return -1;
}
