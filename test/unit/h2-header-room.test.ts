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
  return { reader, stayed, frames, flushes: () => flushes };
}

t.test('whole long frames, one behind the other', async (t) => {
  const { reader, stayed, frames } = relay();
  const bytes = join(data(1, LONG), data(3, SHORT), data(1, LONG), data(1, LONG, true));
  const expected = new FrameSplitter().push(bytes.slice()).map((one) => ({ ...one, stream: 7 }));
  reader.read(bytes, 0, bytes.length);
  t.strictSame(frames(), expected);
  t.strictSame(stayed, [0, 10_009 + 14, 2 * 10_009 + 14], 'sent from where their headers were');
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
  // The header in one read and the content in the next; then both ends of a frame; then one with padding.
  reader.read(long, 0, 9);
  const rest = long.slice(9);
  reader.read(rest, 0, rest.length);
  reader.read(long, 0, 9_009);
  reader.read(long, 9_009, long.length);
  const padded = frame(FRAME.data, FLAG.padded, 1, `\x02${LONG}\0\0`);
  reader.read(padded, 0, padded.length);
  t.strictSame(stayed, []);
  t.strictSame(rest, long.slice(9), 'and what was received stays as it was');
  const lengths = frames().map(({ payload }) => payload.length);
  t.strictSame(lengths, [10_000, 9_000, 1_000, 10_000]);
});
