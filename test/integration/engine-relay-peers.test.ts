/** Two connections joined in native code: bytes, ends, resets, levers and bounds, over real sockets. */

import { constants } from 'node:os';
import t, { type Test } from 'tap';
import { type Seen, startEngine, type TestEngine, until } from '../support/engine.ts';
import { bytesOf, dial, type Peer, type PeerServer, serve } from '../support/engine-peers.ts';
import { atRest } from '../support/engine-rig.ts';

const { ECONNRESET, EPIPE } = constants.errno;

/** Slots of the metrics slab that nothing else in these tests uses. */
const READ_SLOT = 1000;
const WRITE_SLOT = 1001;

/** A relay and the two peers that talk through it. */
interface Relayed {
  readonly test: TestEngine;
  readonly client: Peer;
  readonly server: Peer;
  /** The engine's side towards the client, and towards the server. */
  readonly down: Seen;
  readonly up: Seen;
}

/** Joins a new client with a new connection to `origin`. */
async function join(t: Test, test: TestEngine, origin: PeerServer): Promise<Relayed> {
  const address = test.listen();
  const count = origin.peers.length;
  const ups: Seen[] = [];
  test.onAccepted = (down) => {
    ups.push(test.connect(origin.address, { connected: (up) => test.engine.relay(down.id, up.id) }));
  };
  const client = await dial(t, address);
  const server = await origin.peer(count);
  await until(() => ups.length === 1 && ups[0].count('connected') === 1, 'the relay');
  return { test, client, server, down: test.accepts[test.accepts.length - 1], up: ups[0] };
}

async function relayed(t: Test, pauseServer = false): Promise<Relayed> {
  const test = startEngine(t);
  return join(t, test, await serve(t, () => {}, pauseServer));
}

/** Sends `length` bytes of both streams at once, 1 up and 2 down, and waits until they are there. */
async function exchange({ client, server }: Relayed, length: number): Promise<void> {
  server.expect(1);
  client.expect(2);
  await Promise.all([client.stream(1, length), server.stream(2, length)]);
  await until(() => client.receivedBytes >= length && server.receivedBytes >= length, 'every byte', 60_000);
}

async function allGone(test: TestEngine): Promise<void> {
  await until(() => [...test.connections.values()].every((seen) => seen.gone), 'closed');
  await until(() => test.figure('connections') === 0, 'the figures follow');
}

t.test('small messages are copied, both ways', async (t) => {
  const { test, client, server, down, up } = await relayed(t);
  server.socket.on('data', (bytes) => server.socket.write(bytes));
  for (let i = 1; i <= 300; i++) {
    client.socket.write('0123456789');
    await until(() => client.receivedBytes === 10 * i, `answer ${i}`);
  }
  t.equal(client.text, '0123456789'.repeat(300));
  t.equal(test.figure('spliced_bytes_total'), 0, 'a pipe would cost more than it saves');
  t.equal(test.figure('copied_bytes_total'), 6_000);
  t.equal(test.figure('relays'), 1);
  t.strictSame([...down.events, ...up.events], ['connected'], 'TypeScript hears nothing of it');
});

t.test('200 MB each way at once are spliced, not a byte wrong', async (t) => {
  const relay = await relayed(t);
  const { test, client, server } = relay;
  const length = 200_000_000;
  await exchange(relay, length);
  client.socket.end();
  server.socket.end();
  await allGone(test);
  t.ok(client.intact && server.intact, 'what arrived is what was sent');
  t.strictSame([client.receivedBytes, server.receivedBytes], [length, length]);
  t.ok(test.figure('spliced_bytes_total') > 1.5 * length, 'bulk goes through pipes');
  t.equal(test.figure('spliced_bytes_total') + test.figure('copied_bytes_total'), 2 * length);
  t.ok(test.figure('pipes') <= 4, 'at most the idle ones are kept');
});

t.test('half-close, either side first: the other goes on, then ends', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t);
  for (const first of ['client', 'server'] as const) {
    for (const length of [10, 3_000_000]) {
      const { client, server, down, up } = await join(t, test, origin);
      const [one, two] = first === 'client' ? [client, server] : [server, client];
      two.expect(3);
      one.expect(4);
      await one.stream(3, length);
      one.socket.end();
      await until(() => two.ended, 'the end of the first');
      t.equal(two.receivedBytes, length, `${first} first: all before the end`);
      t.equal(one.ended, false, 'and only its own end');
      await two.stream(4, length);
      two.socket.end();
      await until(() => one.closed && two.closed, 'the end of the second');
      t.ok(one.intact && two.intact && one.receivedBytes === length, 'all after the first end');
      t.strictSame([one.error, two.error], [undefined, undefined]);
      await until(() => down.gone && up.gone, 'closed');
      const ending = { errno: 0, byOther: false, bytesRead: length, bytesWritten: length };
      t.strictSame([down.endings, up.endings], [[ending], [ending]]);
    }
  }
  await allGone(test);
  t.equal(test.figure('relays'), 0);
});

t.test('a half-closed relay costs nothing while it waits', async (t) => {
  const { test, client, server } = await relayed(t);
  client.socket.end('question');
  await until(() => server.ended, 'the end');
  await atRest(test);
  server.socket.end('answer');
  await allGone(test);
  t.equal(client.text, 'answer');
});

t.test('a reset on one side is a reset on the other, idle or in the middle of bulk', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t);
  for (const from of ['client', 'server'] as const) {
    for (const state of ['idle', 'half-closed', 'paused', 'bulk up', 'bulk down'] as const) {
      const { client, server, down, up } = await join(t, test, origin);
      const [breaks, hears] = from === 'client' ? [client, server] : [server, client];
      if (state === 'half-closed') {
        breaks.socket.end();
        await until(() => hears.ended, 'the end');
        hears.ended = false;
      }
      if (state === 'paused') {
        test.engine.pause(from === 'client' ? down.id : up.id);
        test.engine.flush();
      }
      if (state.startsWith('bulk')) {
        const [sends, receives] = state === 'bulk up' ? [client, server] : [server, client];
        void sends.stream(1, 1_000_000_000);
        await until(() => receives.receivedBytes > 5_000_000, 'bulk flows');
      }
      breaks.socket.resetAndDestroy();
      await until(() => down.gone && up.gone, `the engine hears: ${from} resets, ${state}`);
      // node:net looks at a socket that has ended only when it writes to it.
      if (state === 'half-closed') hears.socket.write('anybody there?');
      await until(() => hears.closed || hears.error !== undefined, `${from} resets, ${state}`);
      t.match(hears.error, /^(ECONNRESET|EPIPE)$/, `${from} resets, ${state}`);
      t.equal(hears.ended, false, 'never an end that looks like the whole');
      const [broken, other] = from === 'client' ? [down, up] : [up, down];
      t.ok([ECONNRESET, EPIPE].includes(broken.endings[0].errno), `errno ${broken.endings[0].errno}`);
      t.equal(broken.endings[0].byOther, false);
      t.strictSame([other.endings[0].errno, other.endings[0].byOther], [0, true], 'caused by the other');
      t.equal(down.endings.length + up.endings.length, 2);
    }
  }
  t.strictSame([test.figure('relays'), test.figure('queued_bytes')], [0, 0]);
});

t.test('the order to reset a relay reaches both peers', async (t) => {
  const { test, client, server, down } = await relayed(t);
  test.engine.reset(down.id);
  await until(() => client.closed && server.closed, 'both');
  t.strictSame([client.error, server.error], ['ECONNRESET', 'ECONNRESET']);
  await allGone(test);
});

t.test('a server that answers and closes with our bytes unread: the answer arrives', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t, () => {}, true);
  for (const upload of [10, 100_000, 20_000_000]) {
    const { client, server, up } = await join(t, test, origin);
    test.metrics[WRITE_SLOT] = 0;
    test.engine.count(up.id, READ_SLOT, WRITE_SLOT);
    void client.stream(1, upload);
    // The largest is stalled then, the engine waiting to write: its next write fails before it reads the answer.
    let last = -1;
    let same = 0;
    await until(() => {
      const written = test.metrics[WRITE_SLOT];
      same = written === last ? same + 1 : 0;
      last = written;
      return same === 20 && (written === upload || test.figure('queued_bytes') + test.figure('pipes') > 0);
    }, 'unread bytes at the server');
    server.socket.write('413, too much', () => server.socket.destroy());
    await until(() => client.closed || client.error !== undefined, 'the end');
    t.equal(client.text, '413, too much', `after ${upload} bytes`);
    t.equal(client.ended, false, 'and then the reset');
  }
  await allGone(test);
});

t.test('an end seen before the relay is carried over', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t);
  const address = test.listen();
  for (const heard of [true, false]) {
    const count = origin.peers.length;
    test.onAccepted = (down) => {
      if (heard) test.engine.resume(down.id);
    };
    const client = await dial(t, address);
    client.socket.end('question');
    await until(() => test.accepts.length === count + 1, 'accepted');
    const down = test.accepts[count];
    if (heard) await until(() => down.count('end') === 1, 'the end');
    const up = test.connect(origin.address);
    for (const bytes of down.received) test.engine.send(up.id, bytes);
    up.script = { connected: () => test.engine.relay(down.id, up.id) };
    const server = await origin.peer(count);
    await until(() => server.ended, 'the end arrives');
    t.equal(server.text, 'question', heard ? 'TypeScript had heard the end' : 'nobody had read yet');
    server.socket.end('answer');
    await until(() => client.closed && down.gone && up.gone, 'the way back');
    t.equal(client.text, 'answer');
    t.strictSame([down.endings.length, up.endings.length, client.error], [1, 1, undefined]);
  }
  await allGone(test);
});

t.test('an end of ours before the relay: that direction is over, the other one flows', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t);
  const address = test.listen();
  const client = await dial(t, address);
  await until(() => test.accepts.length === 1, 'accepted');
  const [down] = test.accepts;
  const up = test.connect(origin.address, {
    connected: () => {
      test.engine.send(up.id, Buffer.from('last'));
      test.engine.shutdown(up.id);
      test.engine.relay(down.id, up.id);
    },
  });
  const server = await origin.peer();
  await until(() => server.ended, 'our end');
  t.equal(server.text, 'last');
  server.socket.end('answer');
  await until(() => client.ended, 'the answer and its end');
  t.equal(client.text, 'answer');
  await allGone(test);
});

t.test('what was sent before the relay goes first, however much', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t, () => {}, true);
  const address = test.listen();
  const before = 3_000_000;
  const length = 30_000_000;
  test.onAccepted = (down) => {
    const up = test.connect(origin.address, { connected: () => test.engine.relay(down.id, up.id) });
    // More than the socket takes: some of it waits in the queue when the relay begins.
    for (let at = 0; at < before; at += 500_000) test.engine.send(up.id, bytesOf(1, at, 500_000));
  };
  const client = await dial(t, address);
  const server = (await origin.peer()).expect(1);
  let at = before;
  while (at < length) {
    client.socket.write(bytesOf(1, at, 500_000));
    at += 500_000;
  }
  client.socket.end();
  server.socket.resume();
  await until(() => server.ended, 'all of it');
  t.equal(server.receivedBytes, length);
  t.ok(server.intact, 'in order');
  server.socket.end();
  await allGone(test);
});

t.test('pause stops one direction only, resume loses nothing', async (t) => {
  const relay = await relayed(t);
  const { test, client, server, down } = relay;
  await exchange(relay, 5_000_000);
  test.engine.pause(down.id);
  test.engine.flush();
  client.socket.write(bytesOf(1, 5_000_000, 1_000_000));
  server.socket.write(bytesOf(2, 5_000_000, 1_000_000));
  await until(() => client.receivedBytes === 6_000_000, 'the other direction flows');
  await atRest(test);
  t.equal(server.receivedBytes, 5_000_000, 'nothing is read while paused');
  test.engine.resume(down.id);
  await until(() => server.receivedBytes === 6_000_000, 'every byte');
  client.socket.end();
  server.socket.end();
  await allGone(test);
  t.ok(client.intact && server.intact);
});
