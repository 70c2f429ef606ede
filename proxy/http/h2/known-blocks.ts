/**
 * Header blocks of one connection that came before, and the heads they are. A client that makes the same call again sends the same bytes,
 * and while its compression table stays as it is they mean the same: such a head is neither decoded nor judged again.
 */
import { coin } from './coin.ts';
import { hashBytes } from './field.ts';
import type { H2Head } from './head.ts';
import { isSame, ownCopy } from './ranges.ts';

/** Blocks that are remembered: the methods that a client calls, or the answers and trailers of a server. */
const PLACES = 8;

/**
 * Longer blocks are not remembered, in bytes. What a table has takes one byte or two of a block, so that most are shorter; long ones have
 * values that are in no table, and often another one each time.
 */
const MOST_BYTES = 128;

/** Sets of two hashes each of blocks that came lately. A power of two. */
const SEEN_SETS = 8;

/** A block, and what it is. */
interface Known {
  readonly hash: number;
  /** Of the decoder, when it came. */
  readonly changes: number;
  readonly bytes: Uint8Array;
  readonly head: H2Head;
}

/** See above. */
export class KnownBlocks {
  /** Those that are asked for often are in front. */
  private readonly known: Known[] = [];
  /** Hashes of blocks that came: what comes twice is remembered, so that what comes once drives out nothing. */
  private seen: Int32Array | undefined = undefined;
  /** The block that was asked for last, and came before: its hash, where it is, and `changes`. */
  private cameBefore = false;
  private hash = 0;
  private changes = 0;
  private bytes: Uint8Array | undefined = undefined;
  private from = 0;
  private to = 0;

  /**
   * The head that the block `bytes[from, to)` is.
   * @param changes of the decoder so far
   * @returns undefined when that is not known
   */
  find(bytes: Uint8Array, from: number, to: number, changes: number): H2Head | undefined {
    this.cameBefore = false;
    if (to - from > MOST_BYTES) return undefined;
    const { known } = this;
    const hash = hashBytes(bytes, from, to, 0);
    for (let at = 0; at < known.length; at++) {
      const one = known[at];
      if (one.hash !== hash || one.changes !== changes || !isSame(one.bytes, bytes, from, to)) continue;
      if (at > 0) {
        known[at] = known[at - 1];
        known[at - 1] = one;
      }
      return one.head;
    }
    this.cameBefore = this.cameLately(hash);
    this.hash = hash;
    this.changes = changes;
    this.bytes = bytes;
    this.from = from;
    this.to = to;
    return undefined;
  }

  /**
   * The block that was asked for last, which is where it was, is that head, which has been judged.
   * @param changes of the decoder, now that it has read the block
   * @returns the head to go on with: itself, or one that lasts
   */
  keep(head: H2Head, changes: number): H2Head {
    const { hash, bytes, from, to } = this;
    if (!this.cameBefore || changes !== this.changes || bytes === undefined) return head;
    const lasting = head.lasting();
    this.known[this.placeOf(hash)] = { hash, changes, bytes: ownCopy(bytes, from, to), head: lasting };
    return lasting;
  }

  private cameLately(hash: number): boolean {
    this.seen ??= new Int32Array(2 * SEEN_SETS);
    const { seen } = this;
    const first = 2 * (hash & (SEEN_SETS - 1));
    if (seen[first] === hash || seen[first + 1] === hash) return true;
    seen[first + coin()] = hash;
    return false;
  }

  /** Where it was with another table, a new place, or one of the last. */
  private placeOf(hash: number): number {
    const { known } = this;
    const before = known.findIndex((one) => one.hash === hash);
    if (before >= 0) return before;
    return known.length < PLACES ? known.length : PLACES - 1 - coin();
  }
}
