/** Spoiled HTTP/2 through the whole proxy, from clients and from servers: nobody hangs, nothing fails, and nothing of it stays. */
import { connect } from 'node:net';
import t from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { FRAME } from '../../proxy/http/h2/frames.ts';
import { Random } from '../fuzz/model.ts';
import {
  changed,
  clientStart,
  continuation,
  data,
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
import { H2Client, startH2Application } from '../support/h2-application.ts';
import { serveH2 } from '../support/h2-wire.ts';
import { forAll, startBoth, startMultiplexed } from '../support/http-corpus-rig.ts';
import { startNode } from '../support/http-corpus-servers.ts';

const ROUNDS = process.env.FERRULE_SOAK === '1' ? 20_000 : 1_500;
const SEED = 20_261_121;

/** A client that has ended, or a request that was sent, is told of its end by then, in ms. */
const PATIENCE_MS = 8_000;
/** How long a client that does not end listens, in ms. */
const GLANCE_MS = 30;

const ECHO = changed(POST, ':path', '/echo');

/** What a client may send on a stream that it opens, and around it. */
const ASKS: readonly ((stream: number) => Uint8Array)[] = [
  (stream) => headers(stream, GET),
  (stream) => join(headers(stream, ECHO, false), data(stream, 'some'), data(stream, 'thing', true)),
  (stream) => join(headers(stream, ECHO, false), data(stream, 'body'), headers(stream, [['x-sum', '1']])),
  (stream) => join(headersBegin(stream, GET), continuation(stream, [['x-a', 'b']], true)),
  (stream) => join(headers(stream, ECHO, false), rstStream(stream, 8)),
  (stream) => join(headers(stream, ECHO, false), windowUpdate(stream, 10), data(stream, '', true)),
  (stream) => join(priority(stream, 0), headers(stream, changed(GET, ':path', '/body?n=100000'))),
  (stream) => join(ping(), headers(stream, [...GET, ['te', 'trailers'], ['cookie', 'a=b']])),
  (stream) => join(settings([4, 10]), headers(stream, GET), settings([4, 65_535])),
  (stream) => join(frame(0x20, 0, stream, 'unknown'), headers(stream, changed(GET, ':method', 'HEAD'))),
];

/** What a server may answer on a stream. */
const ANSWERS: readonly ((stream: number) => Uint8Array)[] = [
  (stream) => headers(stream, [[':status', '204']]),
  (stream) => join(headers(stream, [[':status', '200']], false), data(stream, 'answer', true)),
  (stream) => join(headers(stream, [[':status', '103']], false), headers(stream, [[':status', '200']])),
  (stream) => join(headers(stream, [[':status', '200']], false), headers(stream, [['x-sum', '1']])),
  (stream) => rstStream(stream, 7),
  (stream) => join(goAway(stream, 0), headers(stream, [[':status', '200']])),
  (stream) =>
    join(
      windowUpdate(stream, 5),
      headers(stream, [
        [':status', '200'],
        ['content-length', '2'],
      ]),
    ),
  (stream) => join(settings([3, 1]), headers(stream, [[':status', '200']], false), data(stream, 'open')),
];

/** `bytes` with up to three places changed, cut out or added to, none of them before `from`. */
function spoil(bytes: Uint8Array, from: number, below: (limit: number) => number): Uint8Array {
  let all = Buffer.from(bytes);
  for (let left = below(4); left > 0; left--) {
    const at = from + below(all.length - from);
    const cut = below(2) === 0 ? 0 : below(6);
    const added = Buffer.from(Array.from({ length: below(3) * below(3) }, () => below(256)));
    if (cut + added.length === 0) all[at] ^= 1 + below(255);
    else all = Buffer.concat([all.subarray(0, at), added, all.subarray(at + cut)]);
  }
  return all;
}

/** Says it all, and listens. @returns whether the connection was ended by the proxy */
function say(address: SocketAddress, bytes: Uint8Array, end: boolean): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address.ip, port: address.port, allowHalfOpen: true });
    const finish = (closed: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(closed);
    };
    const timer = setTimeout(finish, end ? PATIENCE_MS : GLANCE_MS, false);
    socket.resume();
    for (const event of ['end', 'error', 'close']) socket.on(event, () => finish(true));
    if (end) socket.end(bytes);
    else socket.write(bytes);
  });
}

t.test('clients', async (t) => {
  const application = await startH2Application(t);
  const plain = await startBoth(t, application.address);
  const shared = await startMultiplexed(t, (await startNode(t)).address);
  const ways = [plain.outbound, plain.inbound, shared.address];
  const open: number[] = [];
  const seeds = Array.from({ length: ROUNDS }, (_, n) => SEED + n);
  await forAll(seeds, async (seed) => {
    const random = new Random(seed);
    const below = (limit: number) => random.int(limit);
    const start = join(clientStart(), settingsAck());
    const asks = Array.from({ length: 1 + below(5) }, (_, n) => ASKS[below(ASKS.length)](2 * n + 1));
    // Behind the preface and the head of the first frame, or all is opaque.
    const bytes = spoil(join(start, ...asks), clientStart().length, below);
    const end = seed % 3 !== 0;
    const closed = await say(ways[seed % ways.length], bytes, end);
    if (end && !closed) open.push(seed);
  });
  t.strictSame(open, [], 'whoever has ended is told so');
  t.ok(application.count > ROUNDS / 2, `${application.count} requests were whole`);
  for (const proxy of [plain.proxy, shared.proxy, shared.inner]) {
    t.equal(await proxy.sum('ferrule_worker_restarts_total'), 0);
    t.notMatch(proxy.said(), /TypeError|RangeError|uncaught|assert/i);
  }
  for (const way of ways.slice(0, 2)) {
    const client = new H2Client(t, way);
    t.equal((await client.get('/')).status, 200);
    client.session.close();
  }
  application.destroy();
  await plain.proxy.idle();
});

t.test('servers', async (t) => {
  let seed = SEED;
  const server = await serveH2(t, (wire, { type, stream }) => {
    if (type !== FRAME.headers) return;
    const random = new Random(seed++);
    const below = (limit: number) => random.int(limit);
    const answer = ANSWERS[below(ANSWERS.length)](stream);
    // What one spoils is lost for all streams of its connection.
    wire.send(below(4) === 0 ? spoil(answer, 0, below) : answer);
    if (below(10) === 0) wire.socket.end();
  });
  const { proxy, outbound } = await startBoth(t, server.address);
  const codes = new Map<string, number>();
  let hung = 0;
  const clients = Array.from({ length: 4 }, () => new H2Client(t, outbound));
  await forAll(
    Array.from({ length: ROUNDS }, (_, n) => n),
    async (n) => {
      const stream = clients[n % clients.length].open('/', {}, { endStream: true });
      // An answer without an end is waited for as long as its client likes.
      const timer = setTimeout(() => stream.close(8), GLANCE_MS);
      let status = 0;
      stream.on('response', (fields) => {
        status = Number(fields[':status']);
      });
      stream.on('error', () => stream.destroy()).resume();
      const late = setTimeout(() => hung++, PATIENCE_MS);
      await new Promise((resolve) => stream.once('close', resolve));
      clearTimeout(timer);
      clearTimeout(late);
      const what = `${status}/${stream.rstCode}`;
      codes.set(what, (codes.get(what) ?? 0) + 1);
    },
  );
  t.equal(hung, 0);
  t.comment([...codes].map((pair) => pair.join(': ')).join(', '));
  t.ok((codes.get('200/0') ?? 0) > ROUNDS / 10, 'some were served');
  t.ok((codes.get('502/0') ?? 0) > ROUNDS / 50, 'some were told that there is no answer');
  for (const { session } of clients) t.notOk(session.destroyed, 'the client keeps its connection');
  t.equal(await proxy.sum('ferrule_worker_restarts_total'), 0);
  t.notMatch(proxy.said(), /TypeError|RangeError|uncaught|assert/i);
  for (const { session } of clients) session.close();
  for (const { socket } of server.wires) socket.destroy();
  await proxy.idle();
});
