/**
 * Header blocks of one connection that came before, and the heads they are. A client that makes the same call again sends the same bytes,
 * and while its compression table stays as it is they mean the same: such a head is neither decoded nor judged again.
 */
import { emptyList } from '../../core/spares.ts';
import { coin } from './coin.ts';
import { hashBytes } from './field.ts';
import type { H2Head } from './head.ts';
import { cameLately } from './lately.ts';
import { isSame, ownCopy } from './ranges.ts';

/** Blocks that are remembered: the methods that a client calls, or the answers and trailers of a server. */
const PLACES = 16;

/**
 * Longer blocks are not remembered, in bytes. What a table has takes one byte or two of a block, so that most are shorter; long ones have
 * values that are in no table, and often another one each time.
 */
export const MOST_KNOWN_BYTES = 128;

/**
 * Sets of two hashes each of blocks that came lately: what comes twice is remembered. Fewer than PLACES, so that of more blocks than have
 * a place most do not drive out each other. A power of two.
 */
const SEEN_SETS = 4;

/** A block, and what it is. */
interface Known {
  readonly hash: number;
  readonly bytes: Uint8Array;
  readonly head: H2Head;
}

/** See above. */
export class KnownBlocks {
  /** Of the table as it is; those that are asked for often are in front. */
  private readonly known: Known[] = emptyList();
  private changes = 0;
  private seen: Int32Array | undefined = undefined;
  /** The block that was asked for last, where it came lately and is not known, and its hash. */
  private candidate: Uint8Array | undefined = undefined;
  private hash = 0;

  /**
   * The head that the block `bytes[from, to)` is.
   * @param changes of the decoder so far
   * @returns undefined when that is not known
   */
  find(bytes: Uint8Array, from: number, to: number, changes: number): H2Head | undefined {
    this.candidate = undefined;
    if (changes !== this.changes) this.forget(changes);
    if (to - from > MOST_KNOWN_BYTES) return undefined;
    const { known } = this;
    const hash = hashBytes(bytes, from, to, 0);
    for (let at = 0; at < known.length; at++) {
      const one = known[at];
      if (one.hash !== hash || !isSame(one.bytes, bytes, from, to)) continue;
      if (at > 0) {
        known[at] = known[at - 1];
        known[at - 1] = one;
      }
      return one.head;
    }
    this.seen ??= new Int32Array(2 * SEEN_SETS);
    if (!cameLately(this.seen, hash)) return undefined;
    this.candidate = ownCopy(bytes, from, to);
    this.hash = hash;
    return undefined;
  }

  /**
   * The block that was asked for last is that head, which has been judged.
   * @param changes of the decoder, now that it has read the block
   * @returns the head to go on with: itself, or one that lasts
   */
  keep(head: H2Head, changes: number): H2Head {
    const { known, candidate, hash } = this;
    this.candidate = undefined;
    if (candidate === undefined || changes !== this.changes) return head;
    const lasting = head.lasting();
    const place = known.length < PLACES ? known.length : PLACES - 1 - coin();
    known[place] = { hash, bytes: candidate, head: lasting };
    return lasting;
  }

  /** The table is another one, with which nothing is what it was. */
  private forget(changes: number): void {
    this.changes = changes;
    if (this.known.length > 0) this.known.length = 0;
  }
}
