/** Frames that are wrong in themselves or out of place (RFC 9113 sections 3.4, 4, 5.5, 6 and 7): which error, and of what. */
import t from 'tap';
import { FLAG, FRAME, H2_ERROR, PREFACE, readUint32, SETTING } from '../../proxy/http/h2/frames.ts';
import {
  block,
  bytesOf,
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
  type PlainFrame,
  POST,
  ping,
  priority,
  priorityFields,
  rstStream,
  settings,
  settingsAck,
  uint32,
  windowUpdate,
} from '../support/h2.ts';
import { receive, startClient, startServer } from '../support/h2-session.ts';

const { protocolError, frameSizeError, flowControlError, compressionError, enhanceYourCalm } = H2_ERROR;
const { endHeaders: END_HEADERS, padded: PADDED, priority: PRIORITY, ack: ACK } = FLAG;

function goAwayOf(frames: readonly PlainFrame[]): number | undefined {
  const last = frames.at(-1);
  return last?.type === FRAME.goAway ? readUint32(last.payload, 4) : undefined;
}

const LONG = new Uint8Array(16_385);

/** Behind the preface and SETTINGS of a client: each ends the connection. */
const FATAL: readonly (readonly [name: string, code: number, bytes: Uint8Array])[] = [
  [
    '4.2 DATA longer than SETTINGS_MAX_FRAME_SIZE',
    frameSizeError,
    join(headers(1, POST, false), data(1, LONG)),
  ],
  ['4.2 HEADERS longer than that', frameSizeError, headers(1, LONG)],
  ['4.2 an unknown frame longer than that', frameSizeError, frame(0x20, 0, 0, LONG)],
  ['4.3 a block that cannot be decoded', compressionError, headers(1, Uint8Array.of(0x40))],
  ['4.3 PRIORITY within a block', protocolError, join(headersBegin(1, GET), priority(1, 0))],
  [
    '4.3 HEADERS of another stream within a block',
    protocolError,
    join(headersBegin(1, GET), headers(3, GET)),
  ],
  ['4.3 an unknown frame within a block', protocolError, join(headersBegin(1, GET), frame(0x20, 0, 1))],
  ['6.1 DATA on stream 0', protocolError, data(0, 'x')],
  [
    '6.1 padding as long as the frame',
    protocolError,
    join(headers(1, POST, false), frame(FRAME.data, PADDED, 1, '\x01')),
  ],
  ['6.1 no pad length', protocolError, join(headers(1, POST, false), frame(FRAME.data, PADDED, 1, ''))],
  ['6.2 HEADERS on stream 0', protocolError, headers(0, GET)],
  [
    '6.2 padding longer than the frame',
    protocolError,
    frame(FRAME.headers, END_HEADERS | PADDED, 1, '\x05abcd'),
  ],
  ['6.2 no pad length', protocolError, frame(FRAME.headers, END_HEADERS | PADDED, 1, '')],
  ['6.2 no room for priority', protocolError, frame(FRAME.headers, END_HEADERS | PRIORITY, 1, 'abcd')],
  [
    '6.2 padding over priority',
    protocolError,
    frame(FRAME.headers, END_HEADERS | PRIORITY | PADDED, 1, '\x01abcde'),
  ],
  ['6.3 PRIORITY on stream 0', protocolError, priority(0, 1)],
  [
    '6.3 PRIORITY of 4 bytes on a stream that is not open',
    frameSizeError,
    frame(FRAME.priority, 0, 1, 'abcd'),
  ],
  ['6.4 RST_STREAM on stream 0', protocolError, rstStream(0, 0)],
  [
    '6.4 RST_STREAM of 3 bytes',
    frameSizeError,
    join(headers(1, POST, false), frame(FRAME.rstStream, 0, 1, 'abc')),
  ],
  ['6.5 SETTINGS on a stream', protocolError, frame(FRAME.settings, 0, 1)],
  ['6.5 SETTINGS of 5 bytes', frameSizeError, frame(FRAME.settings, 0, 0, 'abcde')],
  ['6.5 an acknowledgement with settings', frameSizeError, frame(FRAME.settings, ACK, 0, new Uint8Array(6))],
  ['6.5.2 ENABLE_PUSH 2', protocolError, settings([SETTING.enablePush, 2])],
  ['6.5.2 INITIAL_WINDOW_SIZE 2^31', flowControlError, settings([SETTING.initialWindowSize, 2 ** 31])],
  ['6.5.2 MAX_FRAME_SIZE 16383', protocolError, settings([SETTING.maxFrameSize, 16_383])],
  ['6.5.2 MAX_FRAME_SIZE 2^24', protocolError, settings([SETTING.maxFrameSize, 2 ** 24])],
  ['RFC 8441 ENABLE_CONNECT_PROTOCOL 2', protocolError, settings([SETTING.enableConnectProtocol, 2])],
  [
    'RFC 8441 ENABLE_CONNECT_PROTOCOL taken back',
    protocolError,
    join(settings([SETTING.enableConnectProtocol, 1]), settings([SETTING.enableConnectProtocol, 0])),
  ],
  [
    '6.6 PUSH_PROMISE',
    protocolError,
    join(headers(1, GET), frame(FRAME.pushPromise, END_HEADERS, 1, join(uint32(2), block(GET)))),
  ],
  ['6.7 PING on a stream', protocolError, frame(FRAME.ping, 0, 1, 'pingping')],
  ['6.7 PING of 7 bytes', frameSizeError, frame(FRAME.ping, 0, 0, 'pingpin')],
  ['6.8 GOAWAY on a stream', protocolError, frame(FRAME.goAway, 0, 1, new Uint8Array(8))],
  ['6.8 GOAWAY of 7 bytes', frameSizeError, frame(FRAME.goAway, 0, 0, new Uint8Array(7))],
  ['6.9 WINDOW_UPDATE of 3 bytes', frameSizeError, frame(FRAME.windowUpdate, 0, 0, 'abc')],
  ['6.9 an increment of 0 for the connection', protocolError, windowUpdate(0, 0)],
  ['6.9.1 a window beyond 2^31-1', flowControlError, windowUpdate(0, 2 ** 31 - 1)],
  ['6.10 CONTINUATION on stream 0', protocolError, continuation(0, GET, true)],
  ['6.10 CONTINUATION without HEADERS', protocolError, continuation(1, GET, true)],
  [
    '6.10 CONTINUATION behind a whole block',
    protocolError,
    join(headers(1, GET), continuation(1, GET, true)),
  ],
  [
    '6.10 CONTINUATION of another stream',
    protocolError,
    join(headersBegin(1, GET), continuation(3, GET, true)),
  ],
  [
    '6.10 DATA within a block',
    protocolError,
    join(headersBegin(1, GET), continuation(1, [], false), data(1, 'x')),
  ],
];

t.test('frames that end the connection, with a GOAWAY that says why', async (t) => {
  for (const [name, code, bytes] of FATAL) {
    const { owner, session } = startServer();
    receive(session, clientStart(), bytes, ping());
    const frames = owner.frames();
    t.equal(goAwayOf(frames), code, `${name}: ${frames.map(describeFrame).at(-1)}`);
    t.ok((frames.at(-1)?.payload.length ?? 0) > 20, `${name}: debug data says why`);
    t.match(owner.news().at(-1), /^ended .* ours: /, name);
    receive(session, ping(), headers(5, GET));
    t.same([owner.frames(), owner.news()], [[], []], `${name}: what comes behind is not looked at`);
  }
});

t.test('3.4 what is no preface, at every place', async (t) => {
  for (let at = 0; at < PREFACE.length; at++) {
    const bytes = clientStart();
    bytes[at] ^= 0x20;
    const { owner, session } = startServer();
    receive(session, bytes);
    t.equal(goAwayOf(owner.frames()), protocolError, `byte ${at}`);
  }
});

t.test('3.4 the first frame is SETTINGS and no acknowledgement', async (t) => {
  for (const first of [settingsAck(), headers(1, GET), ping(), frame(0x20, 0, 0)]) {
    const { owner, session } = startServer();
    receive(session, PREFACE, first);
    t.equal(goAwayOf(owner.frames()), protocolError);
    const client = startClient();
    receive(client.session, first);
    t.equal(goAwayOf(client.owner.frames()), protocolError, 'the same for clients');
  }
});

t.test('what must be ignored is', async (t) => {
  const { owner, session } = startServer();
  receive(
    session,
    clientStart([0xf0f0, 1], [SETTING.noRfc7540Priorities, 1]),
    frame(0x20, 0xff, 0, 'whatever'),
    frame(0x20, 0xff, 7, ''),
    frame(FRAME.settings, 0xfe, 0, ''),
    frame(FRAME.ping, 0xfe, 0x8000_0000, 'reserved'),
    priority(9, 3, 256, true),
    priority(1, 0, 1),
    frame(FRAME.headers, 0xd3 | END_HEADERS, 1, block(POST)),
  );
  t.same(owner.frames().map(describeFrame), [
    'settings stream 0 flags 1: 0 bytes',
    'settings stream 0 flags 1: 0 bytes',
    'ping stream 0 flags 1: 8 bytes',
  ]);
  t.match(owner.news(), [/^1 request :method=POST/]);
});

t.test('padding and priority of HEADERS, alone and together', async (t) => {
  const { owner, session } = startServer();
  const content = block(GET);
  const pad = new Uint8Array(3);
  const end = END_HEADERS | FLAG.endStream;
  receive(
    session,
    clientStart(),
    frame(FRAME.headers, end | PADDED, 1, join(Uint8Array.of(3), content, pad)),
    frame(FRAME.headers, end | PRIORITY, 3, join(priorityFields(1), content)),
    frame(FRAME.headers, end | PRIORITY | PADDED, 5, join(Uint8Array.of(3), priorityFields(1), content, pad)),
    frame(
      FRAME.headers,
      FLAG.endStream | PADDED,
      7,
      join(Uint8Array.of(1), content.subarray(0, 5), Uint8Array.of(0)),
    ),
    continuation(7, content.subarray(5, 9), false),
    continuation(7, new Uint8Array(0), false),
    continuation(7, content.subarray(9), true),
  );
  const heard = owner.news();
  t.same(
    heard.map((line) => line.slice(1)),
    new Array(4).fill(' request :method=GET :scheme=http :authority=web.test :path=/ END'),
  );
});

t.test('padding of DATA is not content', async (t) => {
  const { owner, session } = startServer();
  receive(
    session,
    clientStart(),
    headers(1, POST, false),
    frame(FRAME.data, PADDED, 1, '\x02ab\0\0'),
    frame(FRAME.data, PADDED, 1, '\x02\0\0'),
    frame(FRAME.data, PADDED, 1, '\x00cd'),
    frame(FRAME.data, PADDED, 1, '\x00'),
    frame(FRAME.data, PADDED | FLAG.endStream, 1, '\x03e\0\0\0'),
  );
  t.match(owner.news(), [/^1 request/, '1 data abcde END']);
  t.equal(session.streamCount, 1);
});

t.test('a block is bounded in bytes and in frames', async (t) => {
  const filler = new Uint8Array(16_384);
  for (const [name, parts] of [
    ['bytes', new Array(8).fill(continuation(1, filler, false))],
    ['frames', new Array(65).fill(continuation(1, new Uint8Array(0), false))],
  ] as const) {
    const { owner, session } = startServer();
    receive(session, clientStart(), headersBegin(1, GET), ...parts);
    t.equal(goAwayOf(owner.frames()), enhanceYourCalm, name);
  }
});

t.test('PING is answered with the same bytes, its acknowledgement is not', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), ping('\x00\xff345678'), ping('whatever', true), goAway(0, 0));
  const [, answer, ...rest] = owner.frames();
  t.equal(answer.flags, ACK);
  t.same(answer.payload, bytesOf('\x00\xff345678'));
  t.same(
    rest.map(({ type }) => type),
    [FRAME.goAway],
    'nothing was open: the GOAWAY of the client ended it',
  );
});
