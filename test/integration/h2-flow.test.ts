/** That readers which are slow, or stand still, hold up neither others nor memory. */
import { once } from 'node:events';
import t from 'tap';
import { FRAME, SETTING } from '../../proxy/http/h2/frames.ts';
import { data, GET, headers, POST, windowUpdate } from '../support/h2.ts';
import { answerOf, answerStream, H2Client, startH2Application } from '../support/h2-application.ts';
import { dialH2, type H2Wire, serveH2 } from '../support/h2-wire.ts';
import { pieces, streamDigest } from '../support/http-application.ts';
import { startRoutes } from '../support/http-routes.ts';
import { watchMemory } from '../support/memory.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

/** How much a proxy may grow at most while nothing moves, in bytes: windows, queues of sockets, and what is not swept yet. */
const MAX_GROWTH = 24_000_000;
/** The same while everything moves: what its heaps take before they are swept, and far less than what moves. */
const MAX_BUSY_GROWTH = 64_000_000;

/** For a small request beside large ones on a machine that does other things as well, in ms. */
const PROMPT_MS = 1_000;

const LARGE = 400_000_000;

/** The largest window, for a stream and for a connection. */
const MOST = 2 ** 31 - 1;
const NO_LIMITS = [SETTING.initialWindowSize, MOST] as const;
const OPENED = windowUpdate(0, MOST - 65_535);

/** How long each of some small requests takes, one after the other, in ms; Infinity for one that failed. */
async function smallTimes(client: H2Client, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let n = 0; n < count; n++) {
    const began = performance.now();
    const { status, length } = await client.get('/body?n=1000');
    times.push(status === 200 && length === 1000 ? performance.now() - began : Number.POSITIVE_INFINITY);
  }
  return times;
}

/** Waits until nothing has moved for a while. @returns what was moved */
async function still(moved: () => number): Promise<number> {
  let [last, looks] = [moved(), 0];
  await eventually('nothing moves', () => {
    looks = moved() === last ? looks + 1 : 0;
    last = moved();
    return looks > 30 || undefined;
  });
  return last;
}

t.test('streams whose readers stand still', async (t) => {
  // Node refuses streams while 10 MB wait in a session.
  const application = await startH2Application(t, undefined, { maxSessionMemory: 1_000 });
  const { routes, outgoing, incoming } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    await t.test(name, async (t) => {
      const grown = watchMemory([outgoing.pid, incoming.pid]);
      const client = new H2Client(t, address, { settings: { initialWindowSize: 65_535 } });
      const streams = Array.from({ length: 90 }, () =>
        client.open('/body?n=1000000', {}, { endStream: true }),
      );
      for (const stream of streams) await once(stream.pause(), 'response');
      t.ok(Math.max(...(await smallTimes(client, 30))) < PROMPT_MS, 'others on the connection go on');
      const other = new H2Client(t, address);
      t.ok(Math.max(...(await smallTimes(other, 30))) < PROMPT_MS, 'other clients too');
      for (const growth of grown()) t.ok(growth < MAX_GROWTH, `a proxy grew by ${growth} bytes`);
      const digests = new Set(
        (await Promise.all(streams.map((stream) => answerOf(stream.resume())))).map(({ digest }) => digest),
      );
      t.strictSame([...digests], [streamDigest(1_000_000)], 'all arrive once they are read');
      for (const growth of grown()) t.ok(growth < MAX_BUSY_GROWTH, `and by ${growth} in all`);
      client.session.close();
      other.session.close();
    });
  }
});

t.test('uploads that nobody reads', async (t) => {
  const application = await startH2Application(
    t,
    (stream, head) => {
      if (head[':path'] === '/still') stream.pause();
      else answerStream(stream, head);
    },
    { maxSessionMemory: 1_000 },
  );
  const { routes } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    const client = new H2Client(t, address);
    for (let n = 0; n < 90; n++) {
      const stream = client.open('/still', { ':method': 'POST' });
      // It hears of the end of the test.
      stream.on('error', () => stream.destroy());
      stream.write(Buffer.alloc(200_000));
    }
    await eventually('the uploads', () => application.seen.get('/still') === 90 || undefined);
    await still(() => client.session.socket.bytesWritten);
    const body = () => pieces(500_000);
    const { text } = await client.post('/digest', body());
    t.equal(JSON.parse(text).digest, streamDigest(500_000), `${name}: others on the connection go on`);
    const other = new H2Client(t, address);
    t.equal((await other.post('/echo', body())).digest, streamDigest(500_000), 'other clients too');
    for (const { session } of [client, other]) session.destroy();
    application.seen.clear();
  }
});

t.test('small requests beside a large one on the same connection', async (t) => {
  const application = await startH2Application(t);
  const { routes } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    const client = new H2Client(t, address);
    const large = client.open(`/body?n=${LARGE}`, {}, { endStream: true });
    let got = 0;
    large.on('data', (bytes: Buffer) => {
      got += bytes.length;
    });
    await once(large, 'response');
    const times = (await smallTimes(client, 20)).sort((a, b) => a - b);
    t.ok(got < LARGE, `${name}: while ${got} bytes have come`);
    t.ok(times[19] < PROMPT_MS, `the slowest took ${times[19]} ms, most ${times[10]} ms`);
    large.close();
    await once(large, 'close');
    client.session.close();
  }
});

t.test('a client that opens all windows and does not read', async (t) => {
  let sent = 0;
  const application = await startH2Application(t, (stream) => {
    stream.respond({ ':status': 200 });
    const piece = Buffer.alloc(65_536);
    const more = () => {
      sent += piece.length;
      stream.write(piece, () => {
        if (!stream.destroyed) more();
      });
    };
    more();
  });
  const { routes, outgoing, incoming } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    sent = 0;
    const grown = watchMemory([outgoing.pid, incoming.pid]);
    const wire = dialH2(t, address, NO_LIMITS);
    await wire.frame(FRAME.settings, 0);
    wire.socket.pause();
    wire.send(OPENED, ...Array.from({ length: 20 }, (_, n) => headers(2 * n + 1, GET)));
    await eventually('a beginning', () => sent > 0 || undefined);
    const moved = await still(() => sent);
    for (const growth of grown())
      t.ok(growth < MAX_GROWTH, `${name}: ${moved} bytes came, ${growth} are kept`);
    wire.socket.destroy();
  }
});

t.test('a server that opens all windows and does not read', async (t) => {
  const { address, wires } = await serveH2(
    t,
    (wire: H2Wire, { type }) => {
      if (type !== FRAME.headers) return;
      wire.socket.pause();
      wire.send(OPENED);
    },
    NO_LIMITS,
  );
  const mesh = { 'app.yaml': serviceYaml('app', [{ address }]) };
  const proxy = await startTestProxy(t, { outbound: listenerFor('app'), mesh });
  const grown = watchMemory([proxy.pid]);
  const client = dialH2(t, proxy.listeners[0]);
  const streams = Array.from({ length: 20 }, (_, n) => 2 * n + 1);
  for (const stream of streams) client.send(headers(stream, POST, false));
  await eventually('the requests', () => wires.length > 0 || undefined);
  // What the windows allow, as they are opened.
  const windows = new Map(streams.map((stream) => [stream, 65_535]));
  let [connection, sent, seen] = [65_535, 0, 0];
  const piece = new Uint8Array(10_000);
  const push = () => {
    for (; seen < client.frames.length; seen++) {
      const { type, stream, payload } = client.frames[seen];
      if (type !== FRAME.windowUpdate) continue;
      const more = Buffer.from(payload).readUInt32BE();
      if (stream === 0) connection += more;
      else windows.set(stream, (windows.get(stream) ?? 0) + more);
    }
    for (const stream of streams) {
      const window = windows.get(stream) ?? 0;
      if (window < piece.length || connection < piece.length) continue;
      windows.set(stream, window - piece.length);
      connection -= piece.length;
      sent += piece.length;
      client.send(data(stream, piece));
    }
    return sent;
  };
  const moved = await still(push);
  const [growth] = grown();
  t.ok(moved >= 20 * 60_000, `${moved} bytes were sent`);
  t.ok(growth < MAX_GROWTH, `${growth} are kept`);
});
