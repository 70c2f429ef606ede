/** Flow control (RFC 9113 sections 5.2, 6.9): what may be sent, what the peer may send, and whose turn it is. */
import fc from 'fast-check';
import t from 'tap';
import { FLAG, FRAME, H2_ERROR, readUint31, SETTING } from '../../proxy/http/h2/frames.ts';
import { DEFAULT_WINDOWS } from '../../proxy/http/h2/options.ts';
import type { ServerSession } from '../../proxy/http/h2/server-session.ts';
import type { Stream } from '../../proxy/http/h2/stream.ts';
import {
  clientStart,
  data,
  describeFrame,
  frame,
  GET,
  headers,
  type PlainFrame,
  POST,
  rstStream,
  settings,
  windowUpdate,
} from '../support/h2.ts';
import { listOf, receive, ServerWitness, startServer } from '../support/h2-session.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 5000 : 200 };
const OK = listOf([[':status', '200']]);
const LARGEST = 2 ** 31 - 1;

/** Bytes of content by stream, and whether it ended. */
function content(frames: readonly PlainFrame[]): Map<number, number> {
  const lengths = new Map<number, number>();
  for (const { type, stream, payload } of frames) {
    if (type === FRAME.data) lengths.set(stream, (lengths.get(stream) ?? 0) + payload.length);
  }
  return lengths;
}

/** What windows were opened by: of the connection under 0. */
function updates(frames: readonly PlainFrame[]): Map<number, number> {
  const sums = new Map<number, number>();
  for (const { type, stream, payload } of frames) {
    if (type === FRAME.windowUpdate) sums.set(stream, (sums.get(stream) ?? 0) + readUint31(payload, 0));
  }
  return sums;
}

function streamOf(owner: ServerWitness, id: number): Stream<string> {
  const stream = owner.streams.get(id);
  if (stream === undefined) throw new Error(`there is no stream ${id}`);
  return stream;
}

/** A server that has so many bytes to send on every stream, and sends them as it may. */
class Sender extends ServerWitness {
  readonly left = new Map<number, number>();
  /** Streams in the order of their turns. */
  readonly turns: number[] = [];
  private readonly bytes = new Uint8Array(1 << 20);

  start(session: ServerSession<string>, id: number, length: number): void {
    const stream = streamOf(this, id);
    session.sendHead(stream, OK, false);
    this.left.set(id, length);
    this.go(session, stream);
  }

  override writable(session: ServerSession<string>, stream: Stream<string>): void {
    this.turns.push(stream.id);
    this.go(session, stream);
  }

  private go(session: ServerSession<string>, stream: Stream<string>): void {
    const left = this.left.get(stream.id) ?? 0;
    this.left.set(stream.id, left - session.sendData(stream, this.bytes, 0, left, true));
  }
}

/** A server with so many streams that wait for an answer. */
function senderWith(streams: number, ...pairs: [number, number][]) {
  const owner = new Sender();
  const { session } = startServer({}, owner);
  receive(session, clientStart(...pairs));
  for (let i = 0; i < streams; i++) receive(session, headers(2 * i + 1, GET));
  owner.frames();
  return { owner, session };
}

t.test('a stream sends as much as both windows allow, to the byte', async (t) => {
  const { owner, session } = senderWith(1);
  owner.start(session, 1, 70_000);
  session.flush();
  const frames = owner.frames();
  t.same([...content(frames)], [[1, 65_535]]);
  t.ok(
    frames.every(({ payload }) => payload.length <= 16_384),
    'in frames that the peer takes',
  );
  receive(session, windowUpdate(1, 3));
  t.same([...content(owner.frames())], [], 'the window of the connection is closed too');
  receive(session, windowUpdate(0, 2));
  t.same([...content(owner.frames())], [[1, 2]]);
  receive(session, windowUpdate(0, 10_000));
  t.same([...content(owner.frames())], [[1, 1]]);
  receive(session, windowUpdate(1, 10_000));
  const last = owner.frames();
  t.same([...content(last)], [[1, 4462]]);
  t.equal(last.at(-1)?.flags, FLAG.endStream);
  t.equal(session.streamCount, 0);
});

t.test('larger frames when the peer takes them, up to 64 KB', async (t) => {
  const { owner, session } = senderWith(
    1,
    [SETTING.maxFrameSize, 1 << 20],
    [SETTING.initialWindowSize, 1 << 20],
  );
  receive(session, windowUpdate(0, 1 << 20));
  owner.start(session, 1, 150_000);
  session.flush();
  t.same(
    owner
      .frames()
      .filter(({ type }) => type === FRAME.data)
      .map(({ payload }) => payload.length),
    [65_536, 65_536, 18_928],
  );
});

t.test('an end without content needs no window', async (t) => {
  const { owner, session } = senderWith(1, [SETTING.initialWindowSize, 0]);
  owner.start(session, 1, 0);
  session.flush();
  t.same(owner.frames().map(describeFrame).slice(-1), ['data stream 1 flags 1: 0 bytes']);
});

t.test('SETTINGS_INITIAL_WINDOW_SIZE changes what open streams may send, also below 0', async (t) => {
  const { owner, session } = senderWith(2, [SETTING.initialWindowSize, 100]);
  owner.start(session, 1, 1000);
  session.flush();
  t.same([...content(owner.frames())], [[1, 100]]);
  receive(session, settings([SETTING.initialWindowSize, 20]), windowUpdate(1, 80));
  t.same([...content(owner.frames())], [], 'at 0 now');
  receive(session, windowUpdate(1, 1), settings([SETTING.initialWindowSize, 50]));
  t.same([...content(owner.frames())], [[1, 31]], '1 at first, then 30 more');
  owner.start(session, 3, 1000);
  session.flush();
  t.same([...content(owner.frames())], [[3, 50]], 'a stream that had not sent yet');
});

t.test('windows have an end: 2^31-1', async (t) => {
  const connection = senderWith(0);
  receive(connection.session, windowUpdate(0, LARGEST - 65_535));
  t.equal(connection.session.isEnded, false);
  receive(connection.session, windowUpdate(0, 1));
  t.match(connection.owner.news(), [/^ended FLOW_CONTROL_ERROR/]);
  const stream = senderWith(1);
  receive(stream.session, windowUpdate(1, LARGEST - 65_535));
  stream.owner.news();
  receive(stream.session, windowUpdate(1, 1));
  t.match(stream.owner.news(), [/^1 reset FLOW_CONTROL_ERROR ours/]);
  const setting = senderWith(1);
  receive(setting.session, windowUpdate(1, LARGEST - 65_535), settings([SETTING.initialWindowSize, 65_536]));
  t.match(setting.owner.news().at(-1), /^ended FLOW_CONTROL_ERROR/);
});

t.test('streams that wait take turns: a long body does not stall short ones', async (t) => {
  const { owner, session } = senderWith(4, [SETTING.initialWindowSize, LARGEST]);
  receive(session, windowUpdate(0, LARGEST - 65_535));
  session.setBlocked(true);
  owner.start(session, 1, 200_000);
  owner.start(session, 3, 100);
  owner.start(session, 5, 40_000);
  owner.start(session, 7, 100);
  session.flush();
  t.same([...content(owner.frames())], [], 'blocked');
  session.setBlocked(false);
  session.flush();
  t.same(owner.turns.slice(0, 8), [1, 3, 5, 7, 1, 5, 1, 5]);
  t.same([...owner.left.values()], [0, 0, 0, 0]);
  t.same([...content(owner.frames()).values()], [200_000, 100, 40_000, 100]);
});

t.test('the window of the connection is shared in turns, and nobody jumps the queue', async (t) => {
  const { owner, session } = senderWith(3, [SETTING.initialWindowSize, 1 << 20]);
  owner.start(session, 1, 300_000);
  owner.start(session, 3, 300_000);
  session.flush();
  t.same([...content(owner.frames())], [[1, 65_535]]);
  receive(session, windowUpdate(0, 40_000));
  t.same(
    [...content(owner.frames())],
    [
      [1, 16_384 + 7232],
      [3, 16_384],
    ],
    'in turn',
  );
  owner.start(session, 5, 10);
  session.flush();
  t.same([...content(owner.frames())], [], 'it waits like the others');
  receive(session, windowUpdate(0, 50_000));
  t.ok(content(owner.frames()).get(5) === 10);
});

t.test('a turn has an end, however often its stream sends, and is of no use to others', async (t) => {
  const { owner, session } = senderWith(3, [SETTING.initialWindowSize, LARGEST]);
  receive(session, windowUpdate(0, LARGEST - 65_535));
  const piece = new Uint8Array(10_000);
  session.setBlocked(true);
  for (const id of [1, 3]) session.sendData(streamOf(owner, id), piece, 0, 10_000, false);
  const accepted: [number, number][] = [];
  owner.writable = (own, stream) => {
    if (accepted.length > 3) return;
    for (const id of [stream.id, stream.id, 5]) {
      accepted.push([id, own.sendData(streamOf(owner, id), piece, 0, 10_000, false)]);
    }
  };
  session.setBlocked(false);
  t.same(accepted, [
    [1, 10_000],
    [1, 6384],
    [5, 0],
    [3, 10_000],
    [3, 6384],
    [5, 0],
  ]);
});

t.test('a stream that is reset while it waits is passed over', async (t) => {
  const { owner, session } = senderWith(2);
  session.setBlocked(true);
  owner.start(session, 1, 100);
  owner.start(session, 3, 100);
  receive(session, rstStream(1, H2_ERROR.cancel));
  session.setBlocked(false);
  session.flush();
  t.same(owner.turns, [3]);
});

t.test('streams that the peer lets wait for too long are reset', async (t) => {
  const { owner, session } = senderWith(2, [SETTING.initialWindowSize, 10]);
  owner.start(session, 1, 100);
  owner.ms = 2000;
  owner.start(session, 3, 100);
  owner.news();
  session.resetStalled(1000);
  t.same(owner.news(), []);
  session.resetStalled(1001);
  t.match(owner.news(), [/^1 reset CANCEL ours: the windows/]);
  owner.ms = 5000;
  receive(session, windowUpdate(3, 20));
  session.resetStalled(4999);
  t.match(owner.news(), [/^3 reset CANCEL ours: the windows/], 'what is opened byte by byte is as closed');
});

t.test('streams whose reader reads, however slowly, are not', async (t) => {
  const { owner, session } = senderWith(1, [SETTING.initialWindowSize, 10]);
  owner.start(session, 1, 20_000);
  owner.news();
  for (let ms = 2000; ms < 12_000; ms += 1000) {
    owner.ms = ms;
    for (let n = 0; n < 2; n++) receive(session, windowUpdate(1, 512));
    session.resetStalled(ms - 1);
    t.same(owner.news(), []);
  }
  session.setBlocked(true);
  session.resetStalled(99_999);
  t.same(owner.news(), [], 'a socket that is slow is no fault of a stream');
});

t.test('any windows, frames and orders: never more than allowed, and all of it in the end', async (t) => {
  const action = fc.oneof(
    fc.record({
      what: fc.constant('stream' as const),
      id: fc.nat(2),
      by: fc.integer({ min: 1, max: 40_000 }),
    }),
    fc.record({
      what: fc.constant('connection' as const),
      id: fc.nat(2),
      by: fc.integer({ min: 1, max: 60_000 }),
    }),
    fc.record({ what: fc.constant('initial' as const), id: fc.nat(2), by: fc.nat(80_000) }),
    fc.record({ what: fc.constant('blocked' as const), id: fc.nat(1), by: fc.constant(0) }),
  );
  const property = fc.property(
    fc.array(action, { maxLength: 30 }),
    fc.array(fc.nat(150_000), { minLength: 3, maxLength: 3 }),
    (actions, lengths) => {
      const { owner, session } = senderWith(3);
      const windows = [65_535, 65_535, 65_535];
      let [connection, initial] = [65_535, 65_535];
      const spend = () => {
        session.flush();
        for (const [id, length] of content(owner.frames())) {
          windows[(id - 1) / 2] -= length;
          connection -= length;
          if (windows[(id - 1) / 2] < 0 || connection < 0) throw new Error(`stream ${id} sent too much`);
        }
      };
      for (const [i, length] of lengths.entries()) owner.start(session, 2 * i + 1, length);
      spend();
      for (const { what, id, by } of actions) {
        if (what === 'blocked') session.setBlocked(id === 1);
        else if (what === 'connection') receive(session, windowUpdate(0, by));
        else if (what === 'stream') {
          if (owner.streams.get(2 * id + 1)?.closed === false) receive(session, windowUpdate(2 * id + 1, by));
        } else receive(session, settings([SETTING.initialWindowSize, by]));
        if (what === 'connection') connection += by;
        if (what === 'stream') windows[id] += by;
        if (what === 'initial') {
          for (const i of windows.keys()) windows[i] += by - initial;
          initial = by;
        }
        // Windows of streams that have ended do not matter any more.
        for (const i of windows.keys()) if (owner.streams.get(2 * i + 1)?.closed) windows[i] = LARGEST;
        spend();
      }
      session.setBlocked(false);
      receive(session, windowUpdate(0, 1_000_000));
      for (const id of [1, 3, 5]) {
        if (owner.streams.get(id)?.closed === false) receive(session, windowUpdate(id, 1_000_000));
      }
      return [...owner.left.values()].every((left) => left === 0) && session.streamCount === 0;
    },
  );
  t.doesNotThrow(() => fc.assert(property, RUNS));
});

t.test('the peer must keep to the windows it was given', async (t) => {
  const { owner, session } = startServer({ windows: { ...DEFAULT_WINDOWS, connectionWindowBytes: 100_000 } });
  owner.consumes = false;
  receive(session, clientStart(), headers(1, POST, false), headers(3, POST, false));
  const full = data(1, new Uint8Array(16_000));
  receive(session, full, full, full, full, data(1, new Uint8Array(1535)));
  owner.news();
  receive(session, data(1, 'x'));
  t.match(owner.news(), [/^1 reset FLOW_CONTROL_ERROR ours: there is more content/]);
});

t.test('the same for the connection', async (t) => {
  const windows = { ...DEFAULT_WINDOWS, connectionWindowBytes: 65_535, maxHeldBytes: 10_000 };
  const { owner, session } = startServer({ windows });
  owner.consumes = false;
  receive(session, clientStart(), headers(1, POST, false), headers(3, POST, false));
  for (let i = 0; i < 4; i++)
    receive(session, data(1, new Uint8Array(10_000)), data(3, new Uint8Array(6000)));
  t.equal(session.isEnded, false);
  receive(session, data(3, new Uint8Array(1536)));
  t.match(
    owner.news().at(-1),
    /^ended FLOW_CONTROL_ERROR ours: there is more content than the window of the connection/,
  );
});

t.test('a stream is filled up by what is consumed, the connection by what arrives', async (t) => {
  const { owner, session } = startServer({ windows: { ...DEFAULT_WINDOWS, connectionWindowBytes: 65_536 } });
  owner.consumes = false;
  receive(session, clientStart(), headers(1, POST, false));
  owner.frames();
  const stream = streamOf(owner, 1);
  receive(session, data(1, new Uint8Array(16_384)), data(1, new Uint8Array(16_384)));
  t.same([...updates(owner.frames())], [[0, 32_768]]);
  session.consumed(stream, 30_000);
  session.flush();
  t.same([...updates(owner.frames())], [], 'less than half of a window is not worth a frame');
  session.consumed(stream, 2768);
  session.flush();
  t.same([...updates(owner.frames())], [[1, 32_768]]);
  receive(session, data(1, new Uint8Array(16_384)), data(1, new Uint8Array(16_384), true));
  owner.frames();
  session.consumed(stream, 32_768);
  session.flush();
  t.same([...updates(owner.frames())], [], 'nothing more comes on a stream that has ended');
});

t.test('padding is consumed by nobody, and comes back', async (t) => {
  const { owner, session } = startServer();
  owner.consumes = false;
  receive(session, clientStart(), headers(1, POST, false));
  owner.frames();
  const padded = frame(FRAME.data, FLAG.padded, 1, `\xff${'\0'.repeat(255)}`);
  for (let i = 0; i < 300; i++) receive(session, padded);
  t.equal(updates(owner.frames()).get(1), 128 * 256 * 2);
  t.equal(session.isEnded, false);
});

t.test('content of streams that are gone comes back to the connection', async (t) => {
  const { owner, session } = startServer({ windows: { ...DEFAULT_WINDOWS, connectionWindowBytes: 65_536 } });
  receive(session, clientStart(), headers(1, POST, false));
  session.reset(streamOf(owner, 1), H2_ERROR.cancel);
  session.flush();
  owner.frames();
  for (let i = 0; i < 40; i++) receive(session, data(1, new Uint8Array(16_384)));
  t.equal(updates(owner.frames()).get(0), 40 * 16_384);
  t.equal(session.isEnded, false);
});

t.test('a slow reader stops its own stream only, until all of them hold too much', async (t) => {
  const windows = { ...DEFAULT_WINDOWS, connectionWindowBytes: 65_535, maxHeldBytes: 200_000 };
  const { owner, session } = startServer({ windows });
  owner.consumes = false;
  receive(session, clientStart());
  for (const id of [1, 3, 5, 7]) receive(session, headers(id, POST, false));
  owner.frames();
  let connection = 65_535;
  const send = (id: number) => {
    connection -= 16_383;
    receive(session, data(id, new Uint8Array(16_383)));
    connection += updates(owner.frames()).get(0) ?? 0;
  };
  for (const id of [1, 3, 5]) for (let i = 0; i < 4; i++) send(id);
  t.ok(connection > 30_000, 'three streams that nobody reads, and the connection is open');
  for (let i = 0; i < 2; i++) send(7);
  t.ok(connection < 40_000);
  const before = connection;
  for (let i = 0; i < 2; i++) send(7);
  t.equal(connection, before - 2 * 16_383, 'more than 200 KB are held: no more comes back');
  const stream = streamOf(owner, 1);
  session.consumed(stream, 65_532);
  session.flush();
  const sums = updates(owner.frames());
  t.ok((sums.get(0) ?? 0) > 32_000, 'until enough was consumed');
  t.ok((sums.get(1) ?? 0) >= 65_000);
});

t.test('a reset releases what its reader held', async (t) => {
  const windows = { ...DEFAULT_WINDOWS, connectionWindowBytes: 65_535, maxHeldBytes: 30_000 };
  const { owner, session } = startServer({ windows });
  owner.consumes = false;
  receive(session, clientStart(), headers(1, POST, false));
  for (let i = 0; i < 3; i++) receive(session, data(1, new Uint8Array(16_000)));
  t.equal(updates(owner.frames()).get(0), undefined);
  receive(session, rstStream(1, H2_ERROR.cancel));
  t.equal(updates(owner.frames()).get(0), 48_000);
});

t.test('windows grow while readers keep up, and only as far as there is room for all', async (t) => {
  const windows = { ...DEFAULT_WINDOWS, maxHeldBytes: 14 * 65_535 };
  const { owner, session } = startServer({ windows });
  receive(session, clientStart());
  for (const id of [1, 3, 5]) receive(session, headers(id, POST, false));
  owner.frames();
  const most = (id: number) => {
    let [window, largest] = [65_535, 65_535];
    for (let i = 0; i < 400; i++) {
      receive(session, data(id, new Uint8Array(16_000)));
      window += (updates(owner.frames()).get(id) ?? 0) - 16_000;
      largest = Math.max(largest, window);
      owner.news();
    }
    return largest;
  };
  t.equal(most(1), 8 * 65_535, 'half of what may be held is for growth: 7 times what it began with');
  t.ok(most(3) <= 65_535, 'and it is used up');
  receive(session, rstStream(1, H2_ERROR.cancel));
  t.equal(most(5), 8 * 65_535, 'a stream that ends gives it back');
});

t.test('windows of readers that do not keep up stay as they are', async (t) => {
  const { owner, session } = startServer();
  owner.consumes = false;
  receive(session, clientStart(), headers(1, POST, false));
  const stream = streamOf(owner, 1);
  receive(session, data(1, new Uint8Array(16_000)));
  for (let i = 0; i < 100; i++) {
    receive(session, data(1, new Uint8Array(16_000)));
    session.consumed(stream, 16_000);
    owner.news();
  }
  t.equal(stream.windowSize, 65_535);
});
