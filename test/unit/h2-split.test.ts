/** Bytes in any pieces are the same frames, and no bytes whatever do harm. */
import fc from 'fast-check';
import t from 'tap';
import { FLAG, FRAME } from '../../proxy/http/h2/frames.ts';
import {
  block,
  clientStart,
  continuation,
  data,
  describeFrame,
  frame,
  GET,
  goAway,
  headers,
  headersBegin,
  join,
  POST,
  ping,
  priority,
  rstStream,
  settings,
  settingsAck,
  windowUpdate,
} from '../support/h2.ts';
import { listOf, startClient, startServer } from '../support/h2-session.ts';

const SOAK = process.env.FERRULE_SOAK === '1';
const RUNS = { seed: 20_261_121, numRuns: SOAK ? 20_000 : 400 };

const TEXT = fc.string({
  maxLength: 12,
  unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
});

/** Makes a frame for one of the streams so far; `next` is the one that was not opened yet. */
type Make = (stream: number, next: number) => Uint8Array;

const REQUEST = fc.boolean().map(
  (end): Make =>
    (_, next) =>
      headers(next, end ? GET : POST, end),
);
const CUT_REQUEST = fc.nat(40).map(
  (cut): Make =>
    (_, next) => {
      const whole = block(POST);
      return join(
        frame(FRAME.headers, 0, next, whole.subarray(0, cut)),
        continuation(next, new Uint8Array(0), false),
        continuation(next, whole.subarray(cut), true),
      );
    },
);
const PADDED_DATA = fc.tuple(TEXT, fc.nat(20)).map(
  ([text, padding]): Make =>
    (stream) =>
      frame(FRAME.data, FLAG.padded, stream, `${String.fromCharCode(padding)}${text}${'\0'.repeat(padding)}`),
);
const CONTENT = TEXT.map(
  (text): Make =>
    (stream) =>
      data(stream, text),
);
const HARMLESS: readonly Make[] = [
  (stream) => rstStream(stream, 8),
  (stream) => windowUpdate(stream, 10),
  (stream) => priority(stream, 0),
  () => ping(),
  () => settingsAck(),
  () => settings([4, 3]),
  () => settings([4, 70_000], [1, 0]),
  (stream) => frame(0x20, 0, stream, 'unknown'),
];
const ENDS: readonly Make[] = [
  (stream) => data(stream, 'end', true),
  (stream) => data(stream, '', true),
  (stream) => frame(FRAME.data, FLAG.padded | FLAG.endStream, stream, '\x02end\0\0'),
  (stream) => headers(stream, [['x-sum', '1']]),
];
const WRONG: readonly Make[] = [
  (stream) => headersBegin(stream, GET),
  (stream) => headers(stream, GET, false),
  (_, next) => data(next, 'idle'),
  () => goAway(0, 0, 'bye'),
];
const ANY = fc.tuple(fc.nat(12), fc.nat(255), TEXT).map(
  ([type, flags, text]): Make =>
    (stream) =>
      frame(type, flags, stream, text),
);

/** Frames that a client may send, mostly. */
const STREAM_OF_FRAMES = fc
  .array(
    fc.tuple(
      fc.oneof(
        { weight: 8, arbitrary: REQUEST },
        { weight: 3, arbitrary: CUT_REQUEST },
        { weight: 8, arbitrary: CONTENT },
        { weight: 4, arbitrary: PADDED_DATA },
        { weight: 6, arbitrary: fc.constantFrom(...HARMLESS) },
        { weight: 3, arbitrary: fc.constantFrom(...ENDS) },
        { weight: 1, arbitrary: fc.oneof(fc.constantFrom(...WRONG), ANY) },
      ),
      fc.nat(3),
    ),
    { minLength: 10, maxLength: 40 },
  )
  .map((made) => {
    let next = 1;
    const parts = made.map(([make, back]) => {
      const bytes = make(Math.max(1, next - 2 - 2 * back), next);
      const opens = bytes[3] === FRAME.headers && ((bytes[7] << 8) | bytes[8]) === next;
      if (opens) next += 2;
      return bytes;
    });
    return join(clientStart(), ...parts);
  });
const CUTS = fc.array(fc.nat(1500), { maxLength: 8 });

/** What comes of bytes that come in pieces of a buffer that is used again. */
function outcome(bytes: Uint8Array, cuts: readonly number[]): { heard: string[]; sent: string[] } {
  const { owner, session } = startServer();
  const buffer = new Uint8Array(bytes.length + 3);
  const ends = [...cuts.filter((cut) => cut < bytes.length), bytes.length].sort((a, b) => a - b);
  let from = 0;
  for (const to of ends) {
    buffer.fill(0xee);
    buffer.set(bytes.subarray(from, to), 3);
    session.receive(buffer, 3, 3 + to - from);
    from = to;
  }
  session.flush();
  return { heard: owner.news(), sent: owner.frames().map(describeFrame) };
}

t.test('byte by byte, in pieces, at once', async (t) => {
  let requests = 0;
  let errors = 0;
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(STREAM_OF_FRAMES, CUTS, (bytes, cuts) => {
        const whole = outcome(bytes, []);
        const pieces = outcome(bytes, cuts);
        const single = outcome(
          bytes,
          Array.from(bytes, (_, i) => i),
        );
        requests += whole.heard.filter((line) => line.includes('request')).length;
        errors += whole.heard.filter((line) => line.startsWith('ended')).length;
        t.strictSame(pieces, whole);
        t.strictSame(single, whole);
      }),
      RUNS,
    ),
  );
  t.ok(requests > RUNS.numRuns, `${requests} requests were heard`);
  t.ok(errors > RUNS.numRuns / 10 && errors < RUNS.numRuns, `${errors} connections ended`);
});

t.test('any bytes behind the preface: an error or nothing, and no call after the end', async (t) => {
  const calls = fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, asClient) => {
    const rig = asClient ? startClient() : startServer();
    const { session, owner } = rig;
    if ('open' in session) session.open('one', listOf(GET), true);
    const all = join(asClient ? settings() : clientStart(), bytes);
    session.receive(all, 0, all.length);
    session.receive(all, 0, all.length);
    session.flush();
    const heard = owner.news();
    const end = heard.findIndex((line) => line.startsWith('ended'));
    return end === -1 ? !session.isEnded : end === heard.length - 1;
  });
  t.doesNotThrow(() => fc.assert(calls, RUNS));
});

t.test('frames with one byte changed', async (t) => {
  const changed = fc.property(
    STREAM_OF_FRAMES,
    fc.nat(),
    fc.integer({ min: 1, max: 255 }),
    (bytes, at, by) => {
      bytes[at % bytes.length] ^= by;
      const whole = outcome(bytes, []);
      const single = outcome(
        bytes,
        Array.from(bytes, (_, i) => i),
      );
      t.strictSame(single, whole);
    },
  );
  t.doesNotThrow(() => fc.assert(changed, RUNS));
});
