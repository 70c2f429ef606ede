/** Copies of every short length, from anywhere to anywhere. */
import t from 'tap';
import { Block, copyBlock, copyInto } from '../../proxy/core/block.ts';

/** Beyond the length from which the copy is made in another way. */
const LONGEST = 260;

/** Bytes that tell their place, in the middle of a larger buffer, as those of `Buffer.from` are. */
function pooled(first: number): Uint8Array {
  const whole = Uint8Array.from({ length: 2 * LONGEST }, (_, index) => (first + 7 * index) & 0xff);
  return new Uint8Array(whole.buffer, 13, LONGEST + 20);
}

/** A block of zeros that begins within its buffer. */
function block(): Block {
  return new Block(new Uint8Array(new ArrayBuffer(2 * LONGEST), 5, LONGEST + 20));
}

t.test('what is copied is there, and nothing else', async (t) => {
  // Two that take turns: a view of one must not be taken for one of the other.
  const sources = [pooled(1), pooled(100)];
  let wrong = 0;
  for (let length = 0; length <= LONGEST; length++) {
    const source = sources[length % 2];
    const from = length % 11;
    const at = length % 7;
    const expected = new Uint8Array(LONGEST + 20);
    expected.set(source.subarray(from, from + length), at);
    const into = block();
    copyInto(into, at, source, from, from + length);
    if (Buffer.compare(into.bytes, expected) !== 0) wrong++;
    const start = new Uint8Array(LONGEST + 20);
    start.set(source.subarray(0, length), at);
    const second = block();
    copyBlock(second, at, new Block(source), length);
    if (Buffer.compare(second.bytes, start) !== 0) wrong++;
  }
  t.equal(wrong, 0);
});

t.test('within one block, from behind', async (t) => {
  const bytes = Uint8Array.from({ length: 64 }, (_, index) => index);
  copyInto(new Block(bytes), 2, bytes, 32, 48);
  t.strictSame([...bytes.subarray(0, 20)], [0, 1, ...Array.from({ length: 16 }, (_, i) => 32 + i), 18, 19]);
});
