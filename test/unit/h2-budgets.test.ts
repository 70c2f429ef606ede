/** Floods are cut, and clients that only work hard are not (RFC 9113 section 10.5; CVE-2023-44487, CVE-2025-8671, CVE-2019-9511 to -9518). */
import t from 'tap';
import { MOST_RESETS } from '../../proxy/forward/http2-upstream.ts';
import { FIRST_RESETS } from '../../proxy/http/h2/budgets.ts';
import { FRAME, H2_ERROR, readUint32, SETTING } from '../../proxy/http/h2/frames.ts';
import { DEFAULT_OPTIONS } from '../../proxy/http/h2/options.ts';
import type { ServerSession } from '../../proxy/http/h2/server-session.ts';
import type { Stream } from '../../proxy/http/h2/stream.ts';
import {
  clientStart,
  continuation,
  data,
  describeFrame,
  frame,
  GET,
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
import { listOf, receive, ServerWitness, startClient, startServer } from '../support/h2-session.ts';

const { cancel, enhanceYourCalm } = H2_ERROR;
const OK = listOf([[':status', '200']]);
const TRAILERS = listOf([['grpc-status', '0']]);

t.test('a proxy of ours passes on fewer resets than another one takes', async (t) => {
  t.ok(MOST_RESETS + DEFAULT_OPTIONS.maxStreams < FIRST_RESETS);
});

/** Everything is heard, nothing written down: floods are long. */
class Quiet extends ServerWitness {
  requests = 0;
  onRequest: (session: ServerSession<string>, stream: Stream<string>) => void = () => {};
  onData: (session: ServerSession<string>, stream: Stream<string>) => void = () => {};

  override requestHead(session: ServerSession<string>, stream: Stream<string>): void {
    this.requests++;
    this.onRequest(session, stream);
  }

  override data(
    session: ServerSession<string>,
    stream: Stream<string>,
    _: Uint8Array,
    from: number,
    to: number,
  ): void {
    session.consumed(stream, to - from);
    this.onData(session, stream);
  }

  override streamReset(): void {}
  override requestProblem(): void {}

  override writable(): void {}
}

/** How many times a flood's bytes are taken before the connection is cut; `most` if it is not. Time stands still. */
function cutAfter(make: (i: number) => Uint8Array, most: number, begin: Uint8Array = clientStart()): number {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  receive(session, begin);
  for (let i = 0; i < most; i++) {
    owner.sent = [];
    receive(session, make(i));
    if (session.isEnded) return i + 1;
  }
  return most;
}

const id = (i: number) => 2 * i + 1;

t.test('floods are cut after so many frames, and told why', async (t) => {
  const open = join(clientStart(), headers(1, POST, false));
  const floods: readonly (readonly [
    name: string,
    most: number,
    make: (i: number) => Uint8Array,
    begin?: Uint8Array,
  ])[] = [
    ['rapid reset', FIRST_RESETS + 1, (i) => join(headers(id(i), GET), rstStream(id(i), cancel))],
    [
      'resets we are made to do: a window update of 0',
      FIRST_RESETS + 1,
      (i) => join(headers(id(i), GET), windowUpdate(id(i), 0)),
    ],
    [
      'the same: content behind the end',
      FIRST_RESETS + 1,
      (i) => join(headers(id(i), GET), data(id(i), 'x')),
    ],
    [
      'the same: a window that overflows',
      FIRST_RESETS + 1,
      (i) => join(headers(id(i), GET), windowUpdate(id(i), 2 ** 31 - 1)),
    ],
    ['the same: malformed requests', FIRST_RESETS + 1, (i) => headers(id(i), [])],
    [
      'the same: priority',
      FIRST_RESETS + 1,
      (i) => join(headers(id(i), GET), frame(FRAME.priority, 0, id(i), 'abcd')),
    ],
    ['ping', 10_005, () => ping()],
    ['settings', 502, () => settings([SETTING.initialWindowSize, 5])],
    ['acknowledgements of settings', 10_005, () => settingsAck()],
    ['priority', 10_005, () => priority(1, 3)],
    ['unknown frames', 10_005, () => frame(0x20, 0, 0, '')],
    ['window updates', 10_005, () => windowUpdate(0, 1)],
    ['empty DATA', 10_005, () => data(1, ''), open],
    [
      'empty DATA with padding counts as what it is: bytes',
      12_000,
      () => frame(FRAME.data, 8, 1, '\x01\0'),
      open,
    ],
  ];
  for (const [name, most, make, begin] of floods) {
    const after = cutAfter(make, 12_000, begin);
    if (most === 12_000) t.equal(after, most, name);
    else t.ok(after <= most && after > most / 2, `${name}: cut after ${after}`);
  }
  const { owner, session } = startServer();
  receive(session, clientStart());
  while (!session.isEnded) receive(session, ping());
  const last = owner.frames().at(-1);
  t.equal(last && readUint32(last.payload, 4), enhanceYourCalm);
  t.match(last && describeFrame(last), /too many control frames/);
});

t.test('resets over the limit of streams count when the client knows the limit, not before', async (t) => {
  const begin = (acked: boolean) => {
    const parts = Array.from({ length: 128 }, (_, i) => headers(id(i), GET));
    return join(clientStart(), ...(acked ? [settingsAck()] : []), ...parts);
  };
  const more = (i: number) => headers(id(128 + i), GET);
  t.equal(cutAfter(more, 5000, begin(false)), 5000);
  t.equal(cutAfter(more, 5000, begin(true)), FIRST_RESETS + 1);
});

t.test('CONTINUATION without an end is cut by its bytes and its frames', async (t) => {
  const begin = join(clientStart(), headersBegin(1, GET));
  t.equal(
    cutAfter(() => continuation(1, new Uint8Array(0), false), 1000, begin),
    65,
  );
  t.ok(cutAfter(() => continuation(1, new Uint8Array(16_384), false), 1000, begin) < 10);
});

t.test('what does not become whole from one look to the next is stuck', async (t) => {
  const begin = join(headers(1, POST, false), data(1, ''));
  const [whole, block] = [ping(), headersBegin(3, GET)];
  const stuck: Readonly<Record<string, Uint8Array>> = {
    'the header of a frame': whole.subarray(0, 5),
    'a frame': whole.subarray(0, 12),
    'a header block': block,
    'a header block whose next frame is not whole': join(
      block,
      continuation(3, new Uint8Array(0), false),
      whole.subarray(0, 1),
    ),
  };
  for (const [name, part] of Object.entries(stuck)) {
    const { session } = startServer();
    receive(session, clientStart(), begin, part);
    t.strictSame([session.isStuck(), session.isStuck()], [false, true], name);
  }
  const { session } = startServer();
  receive(session, clientStart(), begin, data(1, 'content').subarray(0, 12));
  t.strictSame([session.isStuck(), session.isStuck()], [false, false], 'content comes when it comes');
  const slow = startServer().session;
  receive(slow, clientStart(), whole.subarray(0, 5));
  const looks = Array.from({ length: 5 }, () => {
    receive(slow, whole.subarray(5), whole.subarray(0, 5));
    return slow.isStuck();
  });
  t.notOk(looks.includes(true), 'what is never whole at a look, but another each time, goes on');
});

t.test('a peer that does not read what it asks for is cut', async (t) => {
  const { session } = startServer();
  receive(session, clientStart());
  session.setBlocked(true);
  let sent = 0;
  for (; !session.isEnded; sent++) receive(session, ping());
  t.equal(sent, 4097);
});

t.test('what is used up comes back with time', async (t) => {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  receive(session, clientStart());
  let next = 0;
  const reset = () => receive(session, headers(id(next), GET), rstStream(id(next++), cancel));
  for (let i = 0; i < FIRST_RESETS; i++) reset();
  for (let second = 0; second < 20; second++) {
    owner.ms += 1000;
    for (let i = 0; i < 90; i++) reset();
    for (let i = 0; i < 1900; i++) receive(session, ping());
  }
  t.equal(session.isEnded, false, '90 resets and 1900 pings a second');
  for (let i = 0; i < 12_000; i++) receive(session, ping());
  t.equal(session.isEnded, true);
});

t.test(
  'gRPC streaming: small messages both ways, two window updates and a ping for each, for long',
  async (t) => {
    const owner = new Quiet();
    const { session } = startServer({}, owner);
    const message = new Uint8Array(30);
    owner.onRequest = (own, stream) => own.sendHead(stream, OK, false);
    owner.onData = (own, stream) => own.sendData(stream, message, 0, message.length, false);
    receive(session, clientStart());
    for (let i = 0; i < 100; i++) receive(session, headers(id(i), POST, false));
    // No time passes: the frames themselves must earn what comes with them.
    for (let i = 0; i < 200_000 && !session.isEnded; i++) {
      const stream = id(i % 100);
      receive(session, data(stream, 'a message'), windowUpdate(0, 30), windowUpdate(stream, 30), ping());
      owner.sent = [];
    }
    t.equal(session.isEnded, false);
    t.equal(session.streamCount, 100);
  },
);

t.test('a download: a window update for every frame that was sent', async (t) => {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  const piece = new Uint8Array(16_384);
  const streams: Stream<string>[] = [];
  owner.onRequest = (own, stream) => {
    own.sendHead(stream, OK, false);
    streams.push(stream);
  };
  receive(session, clientStart(), headers(1, GET));
  for (let i = 0; i < 50_000 && !session.isEnded; i++) {
    session.sendData(streams[0], piece, 0, 16_000, false);
    receive(session, windowUpdate(0, 16_000), windowUpdate(1, 16_000), ping());
    owner.sent = [];
  }
  t.equal(session.isEnded, false);
});

t.test('windows of one byte, for ever, are work without a use', async (t) => {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  const piece = new Uint8Array(1000);
  const streams: Stream<string>[] = [];
  owner.onRequest = (own, stream) => {
    own.sendHead(stream, OK, false);
    streams.push(stream);
  };
  receive(session, clientStart([SETTING.initialWindowSize, 1]), headers(1, GET));
  let frames = 0;
  for (; frames < 50_000 && !session.isEnded; frames++) {
    session.sendData(streams[0], piece, 0, 1000, false);
    receive(session, windowUpdate(1, 1));
    owner.sent = [];
  }
  t.ok(frames < 11_000, `cut after ${frames}`);
});

t.test('calls that run into their deadlines, all of them, for long', async (t) => {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  receive(session, clientStart());
  // 100 calls at once, all cancelled after 10 ms: 10,000 a second.
  for (let round = 0; round < 300; round++) {
    for (let i = 0; i < 100; i++)
      receive(session, headers(id(100 * round + i), POST, false), data(id(100 * round + i), 'x', true));
    owner.ms += 10;
    for (let i = 0; i < 100; i++) receive(session, rstStream(id(100 * round + i), cancel));
    owner.sent = [];
  }
  t.equal(session.isEnded, false);
  t.equal(owner.requests, 30_000);
});

t.test('streams that are cancelled at their first answer, at once, for long', async (t) => {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  owner.onRequest = (own, stream) => own.sendHead(stream, OK, false);
  receive(session, clientStart());
  for (let i = 0; i < 30_000; i++) {
    receive(session, headers(id(i), POST, false));
    receive(session, rstStream(id(i), cancel));
    owner.sent = [];
  }
  t.equal(session.isEnded, false);
});

t.test('requests of which every second is cancelled at once (hedging)', async (t) => {
  const owner = new Quiet();
  const { session } = startServer({}, owner);
  owner.onRequest = (own, stream) => {
    if (stream.id % 4 === 3) return;
    own.sendHead(stream, OK, false);
    own.sendTrailers(stream, TRAILERS);
  };
  receive(session, clientStart());
  for (let i = 0; i < 30_000; i++) {
    receive(session, headers(id(i), GET));
    if (id(i) % 4 === 3) receive(session, rstStream(id(i), cancel));
    owner.sent = [];
  }
  t.equal(session.isEnded, false);
  t.equal(session.streamCount, 0);
});

t.test('a server that resets what we ask for is not cut, one that floods is', async (t) => {
  const { owner, session } = startClient();
  receive(session, settings());
  for (let i = 0; i < 5000; i++) {
    session.open('x', listOf(GET), true);
    receive(session, rstStream(id(i), H2_ERROR.refusedStream));
  }
  t.equal(session.isEnded, false);
  owner.news();
  while (!session.isEnded) receive(session, ping());
  t.match(owner.news().at(-1), /^ended ENHANCE_YOUR_CALM/);
});

t.test('interim responses have an end', async (t) => {
  const { owner, session } = startClient();
  receive(session, settings());
  session.open('x', listOf(GET), true);
  for (let i = 0; i < 32; i++) receive(session, headers(1, [[':status', '103']], false));
  t.equal(session.streamCount, 1);
  receive(session, headers(1, [[':status', '103']], false));
  t.match(owner.news().at(-1), /^1 reset ENHANCE_YOUR_CALM ours: there are too many interim/);
});
