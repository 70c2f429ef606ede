/** How connections begin and end: SETTINGS, GOAWAY in two steps, heads that are refused, output. */
import t from 'tap';
import { ClientSession } from '../../proxy/http/h2/client-session.ts';
import { FRAME, H2_ERROR, PREFACE, readUint31, readUint32, SETTING } from '../../proxy/http/h2/frames.ts';
import { DEFAULT_OPTIONS, DEFAULT_WINDOWS } from '../../proxy/http/h2/options.ts';
import { ServerSession } from '../../proxy/http/h2/server-session.ts';
import type { Stream } from '../../proxy/http/h2/stream.ts';
import {
  clientStart,
  data,
  describeFrame,
  FrameSplitter,
  GET,
  goAway,
  headers,
  join,
  type PlainField,
  type PlainFrame,
  POST,
  ping,
  settings,
} from '../support/h2.ts';
import {
  ClientWitness,
  listOf,
  receive,
  ServerWitness,
  startClient,
  startServer,
} from '../support/h2-session.ts';

const { noError } = H2_ERROR;
const OK = listOf([[':status', '200']]);

function lines(frames: readonly PlainFrame[]): string[] {
  return frames.map(describeFrame);
}

function pairs({ payload }: PlainFrame): number[][] {
  return Array.from({ length: payload.length / 6 }, (_, i) => [
    (payload[6 * i] << 8) | payload[6 * i + 1],
    readUint32(payload, 6 * i + 2),
  ]);
}

t.test('a server begins with SETTINGS, and opens the window of the connection', async (t) => {
  const owner = new ServerWitness();
  const session = new ServerSession<string>(owner, DEFAULT_OPTIONS);
  t.equal(owner.outputReadies, 0);
  session.start();
  t.equal(owner.outputReadies, 1, 'told once');
  session.flush();
  const [first, second, ...rest] = owner.frames();
  t.same(pairs(first), [
    [SETTING.maxConcurrentStreams, 128],
    [SETTING.enableConnectProtocol, 1],
    [SETTING.maxHeaderListSize, 74_240],
  ]);
  t.same(
    [second.type, second.stream, readUint31(second.payload, 0)],
    [FRAME.windowUpdate, 0, (1 << 20) - 65_535],
  );
  t.same(rest, []);
});

t.test('a client begins with the preface, and wants no pushes', async (t) => {
  const owner = new ClientWitness();
  const windows = { ...DEFAULT_WINDOWS, streamWindowBytes: 100_000, connectionWindowBytes: 65_535 };
  const session = new ClientSession<string>(owner, { ...DEFAULT_OPTIONS, windows, maxFrameBytes: 20_000 });
  session.start();
  session.flush();
  const all = join(...owner.sent);
  t.same(all.subarray(0, PREFACE.length), PREFACE);
  const [first, ...rest] = new FrameSplitter().push(all.subarray(PREFACE.length));
  t.same(pairs(first), [
    [SETTING.enablePush, 0],
    [SETTING.maxHeaderListSize, 74_240],
    [SETTING.initialWindowSize, 100_000],
    [SETTING.maxFrameSize, 20_000],
  ]);
  t.same(rest, []);
});

t.test('a server drains in two steps, and serves what came between them', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET));
  session.drain();
  session.drain();
  session.flush();
  const [, away, probe, ...rest] = owner.frames();
  t.equal(describeFrame(away), 'goAway stream 0 flags 0: 2147483647 NO_ERROR ""');
  t.equal(probe.type, FRAME.ping);
  t.same(rest, []);
  receive(session, headers(3, GET));
  t.match(owner.news(), [/^1 request/, /^3 request/], 'it was on its way');
  receive(session, ping(Buffer.from(probe.payload).toString('latin1'), true));
  t.same(lines(owner.frames()), ['goAway stream 0 flags 0: 3 NO_ERROR ""']);
  receive(session, headers(5, POST, false), data(5, 'x', true));
  t.same([owner.news(), owner.frames()], [[], []], 'too late: the client sends it elsewhere');
  for (const stream of owner.streams.values()) session.sendHead(stream, OK, true);
  t.equal(session.isEnded, true);
  t.same(owner.news(), [], 'told when all has been sent');
  session.flush();
  t.same(owner.news(), ['ended NO_ERROR ours: it was drained']);
  t.match(lines(owner.frames()).at(-1), /^goAway stream 0 flags 0: 3 NO_ERROR/);
});

t.test('a drain without streams ends with the answer to the ping', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  session.drain();
  session.flush();
  const probe = owner.frames().at(-1);
  t.same(owner.news(), []);
  receive(session, ping(Buffer.from(probe?.payload ?? '').toString('latin1'), true));
  t.same(owner.news(), ['ended NO_ERROR ours: it was drained']);
});

t.test('a client drains by opening no more streams', async (t) => {
  const { owner, session } = startClient();
  receive(session, settings());
  session.open('a', listOf(GET), true);
  session.flush();
  session.drain();
  t.equal(session.capacity, 0);
  receive(session, headers(1, [[':status', '200']]));
  t.same(owner.news(), ['capacity 128', '1 response :status=200 END', 'ended NO_ERROR ours: it was drained']);
  const idle = startClient();
  idle.session.drain();
  idle.session.flush();
  t.match(idle.owner.news().at(-1), /^ended NO_ERROR ours/);
});

t.test('a client that says GOAWAY is served to the end', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET), goAway(0, noError, 'leaving'));
  t.match(owner.news(), [/^1 request/, 'goaway 0 NO_ERROR "leaving"']);
  const stream = owner.streams.get(1);
  if (stream !== undefined) session.sendHead(stream, OK, true);
  session.flush();
  t.same(owner.news(), ['ended NO_ERROR theirs: the peer said GOAWAY (NO_ERROR: leaving)']);
});

t.test('close says why, and ends every stream', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET), headers(3, GET));
  owner.news();
  owner.frames();
  session.close(H2_ERROR.enhanceYourCalm, 'no head within 10 s');
  session.close(noError, 'again');
  session.flush();
  t.same(lines(owner.frames()), ['goAway stream 0 flags 0: 3 ENHANCE_YOUR_CALM "no head within 10 s"']);
  t.same(owner.news(), [
    '1 reset ENHANCE_YOUR_CALM ours',
    '3 reset ENHANCE_YOUR_CALM ours',
    'ended ENHANCE_YOUR_CALM ours: no head within 10 s',
  ]);
});

t.test('pings of ours are told apart from those of the peer', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  session.sendPing();
  session.flush();
  const sent = owner.frames().at(-1);
  receive(session, ping('whatever', true));
  t.same(owner.news(), []);
  receive(session, ping(Buffer.from(sent?.payload ?? '').toString('latin1'), true));
  t.same(owner.news(), ['pong']);
});

/** Answers what is malformed. */
class Refuser extends ServerWitness {
  override requestProblem(session: ServerSession<string>, stream: Stream<string>, problem: number): void {
    super.requestProblem(session, stream, problem);
    session.sendHead(stream, listOf([[':status', '400']]), true);
  }
}

const LARGE: readonly PlainField[] = [
  ...GET,
  ...Array.from({ length: 10 }, (): PlainField => ['x', 'y'.repeat(8000)]),
];

t.test('heads that are refused: answered or not, the stream is over', async (t) => {
  const MANY: readonly PlainField[] = [...GET, ...Array.from({ length: 272 }, (): PlainField => ['x', 'y'])];
  const cases: readonly (readonly [string, Uint8Array[], boolean, string, string[]])[] = [
    [
      'malformed',
      [headers(1, [])],
      false,
      '400 a pseudo-header field is missing (RFC 9113 section 8.3)',
      ['RST PROTOCOL_ERROR'],
    ],
    [
      'malformed, answered',
      [headers(1, [])],
      true,
      '400 a pseudo-header field is missing (RFC 9113 section 8.3)',
      ['HEADERS END', 'RST PROTOCOL_ERROR'],
    ],
    [
      'too many fields',
      [headers(1, MANY)],
      false,
      '431 there are more than 272 header fields',
      ['RST ENHANCE_YOUR_CALM'],
    ],
    [
      'too many, answered',
      [headers(1, MANY)],
      true,
      '431 there are more than 272 header fields',
      ['HEADERS END'],
    ],
    [
      'too many with content',
      [headers(1, MANY, false), data(1, 'x', true)],
      true,
      '431 there are more than 272 header fields',
      ['HEADERS END', 'RST NO_ERROR'],
    ],
  ];
  for (const [name, parts, answers, problem, expected] of cases) {
    const { owner, session } = startServer({}, answers ? new Refuser() : new ServerWitness());
    receive(session, clientStart(), ...parts, ping());
    t.same(owner.news(), [`1 problem ${problem}`], name);
    const sent = lines(owner.frames().slice(1, -1)).map((line) =>
      line.replace(/^headers .* flags 5.*/, 'HEADERS END').replace(/^rstStream .*: /, 'RST '),
    );
    t.same(sent, expected, name);
    receive(session, headers(3, GET));
    t.match(owner.news(), [/^3 request/], `${name}: the connection goes on`);
  }
});

t.test('a head over the limit in bytes, of several frames, is answered too', async (t) => {
  const { owner, session } = startServer({}, new Refuser());
  const whole = headers(1, LARGE).subarray(9);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < whole.length; at += 16_000) {
    const piece = whole.slice(at, at + 16_000);
    const type = at === 0 ? FRAME.headers : FRAME.continuation;
    const flags = (at === 0 ? 1 : 0) | (at + 16_000 >= whole.length ? 4 : 0);
    parts.push(join(Uint8Array.of(0, piece.length >> 8, piece.length, type, flags, 0, 0, 0, 1), piece));
  }
  receive(session, clientStart(), ...parts, headers(3, GET));
  t.match(owner.news(), [/^1 problem 431 the header fields are longer than 74240 bytes/, /^3 request/]);
});

t.test('heads that are longer than a frame go out in several, and come in again', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET));
  owner.frames();
  const stream = owner.streams.get(1);
  const long = LARGE.slice(4, 11);
  if (stream !== undefined) session.sendHead(stream, listOf([[':status', '200'], ...long]), true);
  session.flush();
  const bytes = join(...owner.sent);
  const frames = owner.frames();
  t.same(
    frames.map(({ type, flags }) => [type, flags]),
    [
      [1, 1],
      [9, 0],
      [9, 0],
      [9, 4],
    ],
  );
  const client = startClient();
  receive(client.session, settings());
  client.session.open('x', listOf(GET), true);
  receive(client.session, bytes);
  t.match(client.owner.news(), ['capacity 128', /^1 response :status=200 x=y{8000} .* END$/]);
});

t.test('SETTINGS_HEADER_TABLE_SIZE that goes down and up in one frame empties the table', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET));
  receive(session, settings([SETTING.headerTableSize, 0], [SETTING.headerTableSize, 4096]));
  owner.frames();
  const stream = owner.streams.get(1);
  if (stream !== undefined) session.sendHead(stream, OK, true);
  session.flush();
  const [{ payload }] = owner.frames();
  t.same([...payload], [0x20, 0x3f, 0xe1, 0x1f, 0x88], 'two updates, and the status');
});

t.test('long payloads are sent from where they are, in order', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET));
  const stream = owner.streams.get(1);
  if (stream === undefined) throw new Error('there is no stream');
  const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => i);
  session.sendHead(stream, OK, false);
  owner.sent = [];
  const from: Uint8Array[] = [];
  const send = owner.send.bind(owner);
  owner.send = (own, part, start, end) => {
    from.push(part);
    send(own, part, start, end);
  };
  session.sendData(stream, bytes, 100, 8292, false);
  session.sendData(stream, bytes, 8292, 8300, false);
  session.sendData(stream, bytes, 8300, 20_000, true);
  session.flush();
  t.equal(from.filter((part) => part === bytes).length, 2);
  const content = owner
    .frames()
    .filter(({ type }) => type === FRAME.data)
    .map(({ payload }) => payload);
  t.same(
    content.map(({ length }) => length),
    [8192, 8, 11_700],
  );
  t.same(join(...content), bytes.subarray(100));
});
