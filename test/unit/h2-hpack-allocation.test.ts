/** Fields that were seen before cost no memory on their way through a proxy. */
import t from 'tap';
import { FieldList } from '../../proxy/http/h2/field.ts';
import { HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';
import { HpackEncoder } from '../../proxy/http/h2/hpack-encoder.ts';
import { internField } from '../../proxy/http/h2/interning.ts';
import { allocatedWhenCompiled } from '../support/allocation.ts';
import { fromHex } from '../support/hpack.ts';

const MESSAGES = 50_000;

/** Less than a number on the heap for each message. */
const NEARLY_NOTHING = MESSAGES * 8;

/** `:method: GET`, then literals that are not indexed: `:path: /helloworld.Greeter/SayHello` coded, `x-app: one` as it is. */
const BLOCK = fromHex('82 04 95 6272d141fc1eca245f15852a4b631b87eb1968a0ff 00 05 782d617070 03 6f6e65');

/** The same as HTTP/1 fields begin: name and value from 0 to 5 and from 7 to 10. */
const LINE = Uint8Array.from(Buffer.from('X-App: one'));

t.test('decoding and encoding what was seen before allocates nothing', async (t) => {
  const decoder = new HpackDecoder();
  const encoder = new HpackEncoder();
  // Nothing is put in this one's table: all fields stay literals.
  const bare = new HpackEncoder();
  bare.peerTableSize(0);
  const list = new FieldList();
  const into = new Uint8Array(1000);
  let ends = 0;
  const forward = () => {
    for (let i = 0; i < MESSAGES; i++) {
      list.clear();
      if (decoder.decode(BLOCK, 0, BLOCK.length, list) !== 0) throw new Error('the block is wrong');
      list.push(internField(LINE, 0, 5, 7, 10));
      ends = encoder.encode(list, into, 0) + bare.encode(list, into, 0);
    }
  };
  const bytes = allocatedWhenCompiled(forward, NEARLY_NOTHING);
  t.ok(bytes < NEARLY_NOTHING, `${bytes} bytes for ${MESSAGES} messages`);
  t.equal(list.items[2], list.items[3]);
  const literals =
    1 + (2 + '/helloworld.Greeter/SayHello'.length) + 2 * (1 + 1 + 'x-app'.length + 1 + 'one'.length);
  t.equal(ends, 4 + literals, 'four indexes of one, literals of the other');
});
