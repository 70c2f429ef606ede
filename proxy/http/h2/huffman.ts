/**
 * The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), decoded a byte at a time. There is no encoder: why literals
 * are sent as they are is told in hpack-encoder.ts.
 */

/**
 * Lengths in bits of the codes of bytes 0 to 255 and of EOS. They are all of appendix B: the code is canonical, so that codes of
 * one length are consecutive numbers in the order of their symbols, and each length goes on where the shorter ones end.
 */
const CODE_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/** Nodes of the tree with two children: one less than symbols. */
const INNER_NODES = CODE_LENGTHS.length - 1;

/** Symbol that must not be sent; padding is the first bits of its code. */
const EOS = 256;

/** Longest padding in bits: more would be a byte that says nothing. */
const MOST_PADDING = 7;

/**
 * What a byte does in a state, which is an inner node of the code's tree, 0 the root. For index `state << 8 | byte`: the last
 * symbol that ends in this byte (bits 0 to 7), the state it leads to (bits 8 to 15, as the next index wants it), the first of two
 * symbols that end in it (bits 16 to 23), and how many end in it (bits 24 and 25: 0 to 2, as the shortest code has 5 bits); or -1:
 * EOS ends in it.
 */
const STEPS = new Int32Array(INNER_NODES << 8);

/** 1 for states in which a string may end: the root, and those in which nothing but padding is left over. */
const MAY_END = new Uint8Array(INNER_NODES);

fillTables();

/** Most bytes that `length` coded bytes can be decoded to, and a little: huffmanDecode may write one byte more than it yields. */
export function huffmanRoom(length: number): number {
  return 2 * length + 2;
}

/**
 * Decodes `bytes[from, to)` to the start of `into`, which has huffmanRoom for it.
 * @returns how many bytes it wrote, or -1: there is EOS in it, or its padding is too long or not the beginning of EOS
 */
export function huffmanDecode(bytes: Uint8Array, from: number, to: number, into: Uint8Array): number {
  let state = 0;
  let length = 0;
  for (let at = from; at < to; at++) {
    const step = STEPS[state | bytes[at]];
    if (step < 0) return -1;
    state = step & 0xff00;
    // Both are written whatever the number is: what is too much is overwritten, which costs less than to ask.
    into[length] = step >> 16;
    const count = step >> 24;
    into[length + (count >> 1)] = step;
    length += count;
  }
  return MAY_END[state >> 8] === 0 ? -1 : length;
}

/** Both children of each inner node: other inner nodes, or negated symbols less 1. */
function codeTree(): Int32Array {
  const children = new Int32Array(2 * INNER_NODES);
  let nodes = 1;
  let code = 0;
  let codeLength = 0;
  const symbols = CODE_LENGTHS.map((length, symbol) => ({ length, symbol }));
  for (const { length, symbol } of symbols.sort((a, b) => a.length - b.length || a.symbol - b.symbol)) {
    code <<= length - codeLength;
    codeLength = length;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const side = 2 * node + ((code >> bit) & 1);
      if (children[side] === 0) children[side] = nodes++;
      node = children[side];
    }
    children[2 * node + (code & 1)] = -symbol - 1;
    code++;
  }
  return children;
}

function fillTables(): void {
  const children = codeTree();
  for (let state = 0; state < INNER_NODES; state++) {
    for (let byte = 0; byte < 256; byte++) STEPS[(state << 8) | byte] = stepOf(children, state, byte);
  }
  for (let node = 0, bits = 0; bits <= MOST_PADDING; bits++) {
    MAY_END[node] = 1;
    node = children[2 * node + 1];
  }
}

function stepOf(children: Int32Array, state: number, byte: number): number {
  let node = state;
  let count = 0;
  let first = 0;
  let last = 0;
  for (let bit = 7; bit >= 0; bit--) {
    node = children[2 * node + ((byte >> bit) & 1)];
    if (node >= 0) continue;
    first = last;
    last = -node - 1;
    if (last === EOS) return -1;
    count++;
    node = 0;
  }
  return (count << 24) | (first << 16) | (node << 8) | last;
}
