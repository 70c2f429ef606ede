/** Bodies that are kept share memory one after the other, never at the same time. */
import fc from 'fast-check';
import t from 'tap';
import { Retained, sendAgain } from '../../proxy/forward/retained.ts';
import { MessageBody } from '../../proxy/http/body.ts';
import { BODY } from '../../proxy/http/head.ts';
import type { BodyWriter, Exchange } from '../../proxy/model/exchange.ts';
import { join } from '../support/h2.ts';

const RUNS = { seed: 20_261_122, numRuns: process.env.FERRULE_SOAK === '1' ? 10_000 : 200 };

/** Beyond it a body is not kept: 64 KiB. */
const MOST = 65_536;

/** What `Retained` knows of an exchange whose body came on HTTP/2. */
function exchange(): Exchange {
  const requestBody = new MessageBody();
  requestBody.start(BODY.untilClose, 0);
  requestBody.done = true;
  return { requestBody, requestLength: 0, replayable: true, keptBytes: 0 } as Partial<Exchange> as Exchange;
}

/** What would be sent again, and whether its end would be. */
function sentAgain(of: Exchange): { readonly bytes: Uint8Array; readonly ended: boolean } {
  let bytes: Uint8Array = new Uint8Array(0);
  let ended = false;
  const writer: Partial<BodyWriter> = {
    write: (more, from, to) => {
      bytes = join(bytes, more.subarray(from, to));
    },
    end: () => {
      ended = true;
    },
  };
  sendAgain(of, writer as BodyWriter);
  return { bytes, ended };
}

const LENGTHS = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.constantFrom(255, 256, 257, 1023, 1024, 1025),
  fc.integer({ min: 0, max: 40_000 }),
);

/** One of a few exchanges: some bytes of its body come, or it need not be sent again and another takes its place. */
const STEPS = fc.array(
  fc.record({
    who: fc.nat({ max: 3 }),
    length: fc.option(LENGTHS, { freq: 3 }),
    first: fc.nat({ max: 255 }),
  }),
  { maxLength: 60 },
);

t.test('every body comes out as it went in, whoever had its memory before', async (t) => {
  let sent = 0;
  const slab = new Uint8Array(1 << 17);
  fc.assert(
    fc.property(STEPS, (steps) => {
      const retained = new Retained();
      const exchanges = Array.from({ length: 4 }, exchange);
      const bodies: Uint8Array[] = exchanges.map(() => new Uint8Array(0));
      for (const { who, length, first } of steps) {
        if (length === null) {
          retained.release(exchanges[who]);
          exchanges[who].replayable = true;
          bodies[who] = new Uint8Array(0);
          continue;
        }
        const from = 3 * first + 1;
        for (let i = 0; i < length; i++) slab[from + i] = first + i;
        retained.keep(exchanges[who], slab, from, from + length);
        bodies[who] = join(bodies[who], slab.slice(from, from + length));
        for (const [index, each] of exchanges.entries()) {
          if (bodies[index].length > MOST) {
            if (each.replayable) throw new Error('what is kept is not all of it');
            continue;
          }
          const { bytes, ended } = sentAgain(each);
          if (Buffer.compare(bytes, bodies[index]) !== 0 || !ended)
            throw new Error(`body ${index} is another`);
          sent += bytes.length;
        }
      }
    }),
    RUNS,
  );
  t.ok(sent > 1000 * RUNS.numRuns, `${sent} bytes were looked at`);
});

t.test('memory for short bodies is used again, that for longer ones is not', async (t) => {
  const retained = new Retained();
  const bytes = new Uint8Array(5000);
  const [first, second, third] = [exchange(), exchange(), exchange()];
  retained.keep(first, bytes, 0, 100);
  const memory = first.keptBody;
  retained.release(first);
  retained.keep(second, bytes, 0, 5000);
  retained.release(second);
  retained.keep(third, bytes, 0, 1);
  t.equal(third.keptBody, memory);
  retained.keep(third, bytes, 0, 5000);
  const fourth = exchange();
  retained.keep(fourth, bytes, 0, 1);
  t.equal(fourth.keptBody, memory, 'also after its body has grown out of it');
});

t.test('a body that is too long is given up, and its memory with it', async (t) => {
  const retained = new Retained();
  const long = exchange();
  retained.keep(long, new Uint8Array(MOST), 0, MOST);
  t.equal(long.keptBytes, MOST);
  retained.keep(long, new Uint8Array(1), 0, 1);
  t.match([long.replayable, long.keptBytes, long.keptBody], [false, 0, undefined]);
});

t.test('all bodies together take 64 MB; what is released may be kept again', async (t) => {
  const retained = new Retained();
  const bytes = new Uint8Array(MOST);
  const kept = Array.from({ length: 1024 }, exchange);
  for (const each of kept) retained.keep(each, bytes, 0, MOST);
  t.ok(kept.every(({ replayable }) => replayable));
  const late = exchange();
  retained.keep(late, bytes, 0, 1);
  t.notOk(late.replayable);
  retained.release(kept[0]);
  const later = exchange();
  retained.keep(later, bytes, 0, MOST);
  t.match([later.replayable, later.keptBytes], [true, MOST]);
});
