/** Memory to put bytes together in, and how they get there. */

/** Up to this length, in bytes, a loop over words costs less than set() from a part of an array, which has to be made first: 25 ns. */
const MOST_LOOPED = 128;

/** Bytes of a word. What is optimised makes no BigInt of it. */
const WORD = 8;

/** Memory that is seen as bytes and as words. */
export class Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
  }
}

/** Copies `bytes[from, to)` to a block. Fast where it is one and the same array, as the slab, from which most are copied. */
export function copyInto(block: Block, at: number, bytes: Uint8Array, from: number, to: number): void {
  if (to - from > MOST_LOOPED) return block.bytes.set(bytes.subarray(from, to), at);
  if (bytes !== copied) {
    copied = bytes;
    copiedView = viewOf(bytes);
  }
  copyWords(copiedView, from, to, block.view, at);
}

/** Copies `from[0, length)` to another block. */
export function copyBlock(block: Block, at: number, from: Block, length: number): void {
  if (length > MOST_LOOPED) block.bytes.set(from.bytes.subarray(0, length), at);
  else copyWords(from.view, 0, length, block.view, at);
}

/** The array that was copied from last, which lives on until there is another. To make a view of it costs as much as to copy some hundred bytes. */
let copied: Uint8Array = new Uint8Array(0);
let copiedView = viewOf(copied);

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function copyWords(source: DataView, from: number, to: number, target: DataView, at: number): void {
  const offset = at - from;
  let i = from;
  for (const last = to - WORD; i <= last; i += WORD)
    target.setBigInt64(i + offset, source.getBigInt64(i, true), true);
  for (; i < to; i++) target.setInt8(i + offset, source.getInt8(i));
}
