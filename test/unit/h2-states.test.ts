/** Streams from idle to closed (RFC 9113 section 5.1): every frame in every state, for servers and for clients. */
import t from 'tap';
import { FRAME, H2_ERROR } from '../../proxy/http/h2/frames.ts';
import {
  clientStart,
  data,
  describeFrame,
  frame,
  GET,
  goAway,
  headers,
  POST,
  priority,
  rstStream,
  settings,
  windowUpdate,
} from '../support/h2.ts';
import { ClientWitness, listOf, receive, startClient, startServer } from '../support/h2-session.ts';

const { noError, cancel, refusedStream } = H2_ERROR;

const OK = listOf([[':status', '200']]);

/** A server's session with stream 1 in a state; what was heard and sent so far is taken. */
function serverIn(state: string) {
  const rig = startServer();
  const { owner, session } = rig;
  receive(session, clientStart());
  const isOpen = state === 'open' || state === 'half-closed (local)' || state === 'reset by the client';
  if (state !== 'idle') receive(session, headers(1, POST, !isOpen));
  const stream = owner.streams.get(1);
  if (stream !== undefined) {
    if (state === 'half-closed (local)' || state === 'closed') session.sendHead(stream, OK, true);
    if (state === 'reset by us') session.reset(stream, cancel);
  }
  if (state === 'reset by the client') receive(session, rstStream(1, cancel));
  session.flush();
  owner.news();
  owner.frames();
  return rig;
}

const TRAILERS = headers(1, [['x-sum', '1']]);
const EVENTS = {
  DATA: data(1, 'x'),
  'DATA END': data(1, 'x', true),
  HEADERS: TRAILERS,
  PRIORITY: priority(1, 3),
  RST_STREAM: rstStream(1, cancel),
  WINDOW_UPDATE: windowUpdate(1, 5),
} as const;

/** What comes of an event: what the owner hears, and what is sent. `-`: nothing at all. */
const SERVER: Readonly<Record<string, Readonly<Record<keyof typeof EVENTS, string>>>> = {
  idle: {
    DATA: 'GOAWAY PROTOCOL_ERROR',
    'DATA END': 'GOAWAY PROTOCOL_ERROR',
    HEADERS: 'problem 400, RST PROTOCOL_ERROR',
    PRIORITY: '-',
    RST_STREAM: 'GOAWAY PROTOCOL_ERROR',
    WINDOW_UPDATE: 'GOAWAY PROTOCOL_ERROR',
  },
  open: {
    DATA: 'data x',
    'DATA END': 'data x END',
    HEADERS: 'trailers x-sum=1',
    PRIORITY: '-',
    RST_STREAM: 'reset CANCEL theirs',
    WINDOW_UPDATE: '-',
  },
  'half-closed (local)': {
    DATA: 'data x',
    'DATA END': 'data x END',
    HEADERS: 'trailers x-sum=1',
    PRIORITY: '-',
    RST_STREAM: 'reset CANCEL theirs',
    WINDOW_UPDATE: '-',
  },
  'half-closed (remote)': {
    DATA: 'reset STREAM_CLOSED ours, RST STREAM_CLOSED',
    'DATA END': 'reset STREAM_CLOSED ours, RST STREAM_CLOSED',
    HEADERS: 'reset STREAM_CLOSED ours, RST STREAM_CLOSED',
    PRIORITY: '-',
    RST_STREAM: 'reset CANCEL theirs',
    WINDOW_UPDATE: '-',
  },
  closed: {
    DATA: 'GOAWAY STREAM_CLOSED',
    'DATA END': 'GOAWAY STREAM_CLOSED',
    HEADERS: 'GOAWAY STREAM_CLOSED',
    PRIORITY: '-',
    RST_STREAM: '-',
    WINDOW_UPDATE: '-',
  },
  'reset by the client': {
    DATA: 'RST STREAM_CLOSED',
    'DATA END': 'RST STREAM_CLOSED',
    HEADERS: 'RST STREAM_CLOSED',
    PRIORITY: '-',
    RST_STREAM: '-',
    WINDOW_UPDATE: '-',
  },
  'reset by us': {
    DATA: '-',
    'DATA END': '-',
    HEADERS: '-',
    PRIORITY: '-',
    RST_STREAM: '-',
    WINDOW_UPDATE: '-',
  },
};

/** Calls without the stream and the reasons, and errors that were sent. */
function outcome(heard: readonly string[], frames: readonly string[]): string {
  const calls = heard
    .filter((line) => !line.startsWith('ended'))
    .map((line) => line.replace(/^\d+ /, '').replace(/(ours|theirs|400)[: ].*/, '$1'));
  const errors = frames.flatMap((text) => {
    const [, type, code] = /^(rstStream|goAway) .*?([A-Z]+_[A-Z_]+|CANCEL)/.exec(text) ?? [];
    return type === undefined ? [] : [`${type === 'goAway' ? 'GOAWAY' : 'RST'} ${code}`];
  });
  const all = errors.some((error) => error.startsWith('GOAWAY')) ? errors : [...calls, ...errors];
  return all.join(', ') || '-';
}

t.test('a server, every frame in every state', async (t) => {
  for (const [state, events] of Object.entries(SERVER)) {
    for (const [event, expected] of Object.entries(events)) {
      const { owner, session } = serverIn(state);
      receive(session, EVENTS[event as keyof typeof EVENTS]);
      const found = outcome(owner.news(), owner.frames().map(describeFrame));
      t.equal(found, expected, `${state}: ${event}`);
      t.equal(session.isEnded, expected.startsWith('GOAWAY'), `${state}: ${event} and the connection`);
    }
  }
});

t.test('identifiers of streams: odd, and never lower than before', async (t) => {
  for (const [first, second] of [
    [1, 2],
    [5, 3],
    [2, 4],
  ]) {
    const { owner, session } = startServer();
    receive(session, clientStart(), headers(first, GET), headers(second, GET));
    t.match(owner.news().at(-1), /^ended PROTOCOL_ERROR/, `${first}, ${second}`);
  }
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(7, GET), headers(2 ** 31 - 1, GET));
  t.match(owner.news(), [/^7 request/, /^2147483647 request/]);
});

t.test('more streams than were allowed are refused, and can be sent again', async (t) => {
  const { owner, session } = startServer({ maxStreams: 2 });
  receive(
    session,
    clientStart(),
    headers(1, GET),
    headers(3, POST, false),
    headers(5, POST, false),
    data(5, 'x', true),
  );
  t.match(owner.news(), [/^1 request/, /^3 request/]);
  t.same(owner.frames().slice(1).map(describeFrame), ['rstStream stream 5 flags 0: REFUSED_STREAM']);
  const stream = owner.streams.get(1);
  t.ok(stream);
  if (stream !== undefined) session.sendHead(stream, OK, true);
  receive(session, headers(7, GET));
  t.match(owner.news(), [/^7 request/], 'when one has ended there is room again');
});

t.test('frames that were on their way when we reset a stream are ignored, however many', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart());
  for (let id = 1; id < 400; id += 2) {
    receive(session, headers(id, POST, false));
    const stream = owner.streams.get(id);
    if (stream !== undefined) session.reset(stream, cancel);
  }
  owner.news();
  session.flush();
  owner.frames();
  for (let id = 1; id < 400; id += 2) {
    receive(session, data(id, 'late'), headers(id, [['x-sum', '1']]), rstStream(id, cancel));
  }
  t.same([owner.news(), owner.frames()], [[], []]);
});

/** A client's session with stream 1 open for `method`. */
function clientWith(method: string, end = true) {
  const rig = startClient();
  receive(rig.session, settings());
  const fields = listOf([[':method', method], ...GET.slice(1)]);
  const stream = rig.session.open('one', fields, end);
  rig.session.flush();
  rig.owner.news();
  rig.owner.frames();
  return { ...rig, stream };
}

const RESPONSE = headers(1, [[':status', '200']], false);

t.test('a client, what a server may and may not send', async (t) => {
  const cases: readonly (readonly [string, readonly Uint8Array[], string])[] = [
    ['a response', [RESPONSE, data(1, 'x', true)], 'response :status=200, data x END'],
    [
      'interim responses',
      [headers(1, [[':status', '103']], false), RESPONSE],
      'response :status=103, response :status=200',
    ],
    [
      'an interim response that ends',
      [headers(1, [[':status', '103']])],
      'reset PROTOCOL_ERROR ours, RST PROTOCOL_ERROR',
    ],
    ['101', [headers(1, [[':status', '101']], false)], 'reset PROTOCOL_ERROR ours, RST PROTOCOL_ERROR'],
    ['trailers', [RESPONSE, TRAILERS], 'response :status=200, trailers x-sum=1'],
    [
      'a second head',
      [RESPONSE, RESPONSE],
      'response :status=200, reset PROTOCOL_ERROR ours, RST PROTOCOL_ERROR',
    ],
    ['content first', [data(1, 'x')], 'reset PROTOCOL_ERROR ours, RST PROTOCOL_ERROR'],
    ['a refusal', [rstStream(1, refusedStream)], 'reset REFUSED_STREAM theirs'],
    ['an unknown code', [rstStream(1, 0xdead_beef)], 'reset error 3735928559 theirs'],
    ['a head of an idle stream', [headers(3, [[':status', '200']])], 'GOAWAY PROTOCOL_ERROR'],
    ['a head of an even stream', [headers(2, [[':status', '200']])], 'GOAWAY PROTOCOL_ERROR'],
    ['content behind the end', [RESPONSE, data(1, '', true), data(1, 'x')], 'GOAWAY STREAM_CLOSED'],
    ['a head behind the end', [headers(1, [[':status', '200']]), RESPONSE], 'GOAWAY STREAM_CLOSED'],
    ['a push', [frame(FRAME.pushPromise, 4, 1, '\0\0\0\x02')], 'GOAWAY PROTOCOL_ERROR'],
    ['ENABLE_PUSH of a server', [settings([2, 1])], 'GOAWAY PROTOCOL_ERROR'],
  ];
  for (const [name, parts, expected] of cases) {
    const { owner, session } = clientWith('GET');
    receive(session, ...parts);
    t.equal(outcome(owner.news(), owner.frames().map(describeFrame)), expected, name);
  }
});

t.test('a response that ends before the request does: the rest may still be sent, or given up', async (t) => {
  const { owner, session, stream } = clientWith('POST', false);
  receive(session, headers(1, [[':status', '413']]));
  t.same(owner.news(), ['1 response :status=413 END']);
  t.equal(stream.closed, false);
  t.equal(session.sendData(stream, new Uint8Array(5), 0, 5, false), 5);
  session.reset(stream, noError);
  session.flush();
  t.same(owner.frames().map(describeFrame), [
    'data stream 1 flags 0: 5 bytes',
    'rstStream stream 1 flags 0: NO_ERROR',
  ]);
  t.equal(stream.closed, true);
  t.equal(session.sendData(stream, new Uint8Array(5), 0, 5, true), 5, 'accepted, since nobody waits for it');
  session.flush();
  t.same([owner.frames(), owner.news()], [[], []]);
});

t.test('capacity: what the server says, told when it was missed', async (t) => {
  const { owner, session } = startClient();
  t.equal(session.capacity, 100, 'before anything was said');
  receive(session, settings([3, 2]));
  t.same(owner.news(), ['capacity 2'], 'it has said what it takes');
  const fields = listOf(GET);
  const streams = [session.open('a', fields, true), session.open('b', fields, true)];
  t.equal(session.capacity, 0);
  t.throws(() => session.open('c', fields, true), /no more streams/);
  t.same(owner.news(), []);
  receive(session, headers(1, [[':status', '200']]));
  t.same(owner.news(), ['1 response :status=200 END', 'capacity 1']);
  session.open('c', fields, true);
  session.reset(streams[1], cancel);
  session.flush();
  t.same(owner.news(), ['capacity 1']);
  receive(session, settings([3, 0]));
  t.same(owner.news(), []);
  receive(session, settings([3, 1000]));
  t.same(owner.news(), ['capacity 127'], 'no more than it wants');
});

t.test('GOAWAY: what the server has not processed can be sent again, the rest goes on', async (t) => {
  const { owner, session } = startClient();
  receive(session, settings());
  t.same(owner.news(), ['capacity 128']);
  const fields = listOf(GET);
  for (const user of ['a', 'b', 'c']) session.open(user, fields, true);
  receive(session, goAway(3, noError, 'bye\x07'));
  t.same(owner.news(), ['5 reset REFUSED_STREAM theirs', 'goaway 3 NO_ERROR "bye?"', 'capacity 0']);
  t.equal(session.capacity, 0);
  receive(session, headers(1, [[':status', '200']]), goAway(1, noError));
  t.same(owner.news(), [
    '1 response :status=200 END',
    '3 reset REFUSED_STREAM theirs',
    'goaway 1 NO_ERROR ""',
    'ended NO_ERROR theirs: the peer said GOAWAY (NO_ERROR)',
  ]);
});

t.test('a connection that is lost ends all streams, and says so once', async (t) => {
  const { owner, session } = clientWith('GET');
  session.disconnected();
  session.disconnected();
  session.flush();
  t.same(owner.news(), [
    '1 reset connection lost theirs',
    'ended connection lost theirs: the connection was lost',
  ]);
  t.same(owner.frames(), []);
});

t.test('an owner may reset other streams when it hears of the end of one', async (t) => {
  const owner = new ClientWitness();
  const { session } = startClient({}, owner);
  receive(session, settings([3, 10]));
  const streams = ['a', 'b', 'c', 'd'].map((user) => session.open(user, listOf(GET), true));
  const hear = owner.streamReset.bind(owner);
  owner.streamReset = (own, stream, code, ours) => {
    hear(own, stream, code, ours);
    for (const other of streams) own.reset(other, cancel);
  };
  receive(session, goAway(3, noError));
  const resets = owner.news().filter((line) => line.includes(' reset '));
  t.same(resets, ['5 reset REFUSED_STREAM theirs']);
  t.equal(session.streamCount, 0);
  t.equal(session.isEnded, true);
});

t.test('the same when the connection ends', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, GET), headers(3, GET));
  const hear = owner.streamReset.bind(owner);
  owner.streamReset = (own, stream, code, ours) => {
    hear(own, stream, code, ours);
    for (const other of owner.streams.values()) own.reset(other, cancel);
  };
  session.disconnected();
  const resets = owner.news().filter((line) => line.includes(' reset '));
  t.same(resets, ['1 reset connection lost theirs']);
  t.equal(session.streamCount, 0);
});

t.test('a stream that stays open for long, and all others that come and go', async (t) => {
  const { owner, session } = startServer();
  receive(session, clientStart(), headers(1, POST, false));
  for (let id = 3; id < 1000; id += 2) {
    receive(session, headers(id, POST, false), data(id, 'x', true));
    t.equal(owner.news().at(-1), `${id} data x END`);
    const stream = owner.streams.get(id);
    if (stream !== undefined) session.sendHead(stream, OK, true);
    t.equal(session.streamCount, 1);
  }
  receive(session, data(1, 'still here'));
  t.same(owner.news(), ['1 data still here']);
  // Its number is one of those that would have had the place of stream 1.
  owner.frames();
  receive(
    session,
    headers(1025, POST, false),
    rstStream(1025, cancel),
    data(1025, 'late'),
    headers(1027, GET),
  );
  t.match(owner.news(), [/^1025 request/, /^1025 reset CANCEL theirs/, /^1027 request/]);
  t.same(
    owner.frames().map(describeFrame),
    ['rstStream stream 1025 flags 0: STREAM_CLOSED'],
    'it is forgotten',
  );
  t.equal(session.streamCount, 2);
});
