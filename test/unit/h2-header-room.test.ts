/** Long content that goes on at once is sent from where it was received, with its new header in the place of the old one. */
import t from 'tap';
import { FLAG, FRAME } from '../../proxy/http/h2/frames.ts';
import { headerRoom } from '../../proxy/http/h2/header-room.ts';
import { Output } from '../../proxy/http/h2/output.ts';
import { FrameReader, TAKE } from '../../proxy/http/h2/reader.ts';
import { data, FrameSplitter, frame, join } from '../support/h2.ts';

const LONG = 'x'.repeat(10_000);
const SHORT = 'short';

/** Passes DATA frames on to stream 7 of another connection. */
function relay() {
  const sent: Uint8Array[] = [];
  const stayed: number[] = [];
  let flushes = 0;
  const output = new Output({
    outputReady: () => {
      flushes++;
    },
    send: (bytes, from, to, stay) => {
      sent.push(bytes.slice(from, to));
      if (stay) stayed.push(from);
    },
    sendBlock: ({ bytes }, length) => {
      sent.push(bytes.slice(0, length));
    },
  });
  const reader = new FrameReader(
    {
      noPreface: () => {},
      frameBegins: () => TAKE.content,
      frame: () => false,
      content: (bytes, from, to, last) => {
        if (to > from) output.data(7, bytes, from, to, last && reader.flags === FLAG.endStream);
        return true;
      },
      badPadding: () => {},
    },
    false,
  );
  const frames = () => {
    output.flush();
    return new FrameSplitter().push(join(...sent));
  };
  return { output, reader, stayed, frames, flushes: () => flushes };
}

t.test('whole frames, one behind the other', async (t) => {
  const { reader, stayed, frames } = relay();
  const bytes = join(data(1, LONG), data(3, SHORT), data(1, LONG), data(1, LONG, true));
  const expected = new FrameSplitter().push(bytes.slice()).map((one) => ({ ...one, stream: 7 }));
  reader.read(bytes, 0, bytes.length);
  t.strictSame(frames(), expected);
  t.strictSame(stayed, [0, 10_009, 10_023, 20_032], 'sent from where their headers were');
  t.equal(headerRoom.end, -1, 'nobody else writes there');
});

t.test('the end of the batch is waited for, though nothing is put together', async (t) => {
  const { reader, stayed, flushes } = relay();
  const bytes = data(1, LONG, true);
  reader.read(bytes, 0, bytes.length);
  t.strictSame(stayed, [0]);
  t.equal(flushes(), 1);
});

t.test('what has no header of its own before it is copied', async (t) => {
  const { reader, stayed, frames } = relay();
  const long = data(1, LONG);
  // The header in one read and the content in the next; then one with padding.
  reader.read(long, 0, 9);
  const rest = long.slice(9);
  reader.read(rest, 0, rest.length);
  const padded = frame(FRAME.data, FLAG.padded, 1, `\x02${LONG}\0\0`);
  reader.read(padded, 0, padded.length);
  t.strictSame(stayed, []);
  t.strictSame(rest, long.slice(9), 'and what was received stays as it was');
  const lengths = frames().map(({ payload }) => payload.length);
  t.strictSame(lengths, [10_000, 10_000]);
});

t.test('frames that are cut by the ends of reads', async (t) => {
  const { reader, stayed, frames } = relay();
  const parts = [data(1, LONG), data(1, LONG), data(1, LONG, true)];
  const bytes = join(...parts);
  // As a slab: room before each read, which ends within a frame. What is short goes along with what it is next to.
  const cuts = [0, 10_009 + 1_000, 20_018 + 9_500, bytes.length];
  const room = 16;
  for (let i = 1; i < cuts.length; i++) {
    const piece = join(new Uint8Array(room), bytes.slice(cuts[i - 1], cuts[i]));
    reader.read(piece, room, piece.length, true);
  }
  const content = (list: ReturnType<typeof frames>) => join(...list.map(({ payload }) => payload));
  const sent = frames();
  t.strictSame(content(sent), content(new FrameSplitter().push(bytes)));
  t.strictSame(
    sent.map(({ payload, flags }) => [payload.length, flags]),
    [
      [10_000, 0],
      [991, 0],
      [9_009, 0],
      [9_491, 0],
      [509, FLAG.endStream],
    ],
  );
  t.strictSame(stayed, [room, room + 10_009, room - 9, room + 9_009], 'all but a short piece by itself');
});

t.test(
  'the short rest of a frame goes along with a long one behind it, and is copied before a short one',
  async (t) => {
    // 16 bytes are free before each read; where frames are sent from is where their headers are.
    const first = 16;
    const cases = [
      { next: LONG, places: [first, first - 9, first + 1000] },
      { next: SHORT, places: [first] },
    ];
    for (const { next, places } of cases) {
      const { reader, stayed, frames } = relay();
      const bytes = join(data(1, LONG), data(1, next));
      const cut = 9 + 9000;
      for (const piece of [bytes.slice(0, cut), bytes.slice(cut)]) {
        const room = new Uint8Array(16);
        reader.read(join(room, piece), room.length, room.length + piece.length, true);
      }
      t.strictSame(
        frames().map(({ payload }) => payload.length),
        [9000, 1000, next.length],
      );
      t.strictSame(stayed, places);
    }
  },
);

t.test(
  'what one read has brought says nothing of the next, nor of what was put together before',
  async (t) => {
    const { output, reader, stayed, frames } = relay();
    const room = 16;
    const read = (bytes: Uint8Array) =>
      reader.read(join(new Uint8Array(room), bytes), room, room + bytes.length, true);
    const bytes = join(data(1, LONG), data(1, LONG));
    const cut = 9 + 9000;
    read(bytes.slice(0, cut));
    output.rstStream(3, 0);
    read(bytes.slice(cut));
    t.strictSame(stayed, [room, room + 1000], 'the rest goes along with what waits before it');
    read(data(1, SHORT));
    t.equal(stayed.length, 2, 'a short frame by itself is copied');
    t.strictSame(
      frames().map(({ type, payload }) => [type, payload.length]),
      [
        [FRAME.data, 9000],
        [FRAME.rstStream, 4],
        [FRAME.data, 1000],
        [FRAME.data, 10_000],
        [FRAME.data, SHORT.length],
      ],
    );
  },
);
