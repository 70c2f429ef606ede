/** Connections in the hands of TypeScript: bytes, ends, resets, backpressure, over real sockets. */

import { constants } from 'node:os';
import t from 'tap';
import { closeListener, listenerPort, openListener } from '../../proxy/native/listener.ts';
import { at, blackhole, echo, startEngine, until } from '../support/engine.ts';
import { bytesOf, dial, isStream, type Peer, serve } from '../support/engine-peers.ts';

const { EAGAIN, ECONNREFUSED, ECONNRESET, ENETUNREACH, ENOBUFS, EPIPE, ETIMEDOUT } = constants.errno;

t.test('echo: every byte comes back, whatever the pieces', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = echo(test.engine);
    test.engine.resume(seen.id);
    test.engine.link(seen.id, seen.id);
  };
  for (const piece of [1, 7, 1_000, 16_384, 16_385, 262_144]) {
    const length = Math.min(piece * 200, 4_000_000);
    const peer = (await dial(t, address)).expect(1);
    await peer.stream(1, length, piece);
    peer.socket.end();
    await until(() => peer.closed, `the echo of ${length} bytes in pieces of ${piece}`);
    t.equal(peer.receivedBytes, length);
    t.ok(peer.intact, `in order and whole, pieces of ${piece}`);
  }
  await until(() => test.accepts.every((seen) => seen.gone), 'all closed');
  t.ok(
    test.accepts.every((seen) => seen.endings.length === 1 && seen.endings[0].errno === 0),
    'each connection ended once, in order',
  );
  t.equal(test.figure('connections'), 0);
  t.equal(test.figure('queued_bytes'), 0);
});

t.test('bytes arrive before the end that followed them in the same segment', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => test.engine.resume(seen.id);
  for (let i = 0; i < 50; i++) {
    const peer = await dial(t, address);
    peer.socket.end('last words');
  }
  await until(
    () => test.accepts.length === 50 && test.accepts.every((seen) => seen.count('end') === 1),
    'ends',
  );
  t.ok(
    test.accepts.every((seen) => seen.text === 'last words' && seen.endings.length === 0),
    'and the connection stays ours until we end it too',
  );
});

t.test('half-close, the peer first: we go on sending, then end', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = {
      end: () => {
        test.engine.send(seen.id, Buffer.from('after your end'));
        test.engine.shutdown(seen.id);
      },
    };
    test.engine.resume(seen.id);
  };
  const peer = await dial(t, address);
  peer.socket.end('question');
  await until(() => peer.closed, 'our end');
  t.equal(peer.text, 'after your end');
  t.equal(peer.error, undefined);
  const [seen] = test.accepts;
  await until(() => seen.gone, 'closed');
  t.equal(seen.text, 'question');
  t.strictSame(seen.events, ['end', 'closed']);
  t.same(seen.endings, [{ errno: 0, byOther: false, bytesRead: 8, bytesWritten: 14 }]);
});

t.test('half-close, we first: the peer goes on sending, then ends', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    test.engine.send(seen.id, Buffer.from('all I have'));
    test.engine.shutdown(seen.id);
    test.engine.resume(seen.id);
  };
  const peer = await dial(t, address);
  await until(() => peer.ended, 'our end');
  t.equal(peer.text, 'all I have');
  await peer.stream(2, 1_000_000);
  peer.socket.end();
  const [seen] = test.accepts;
  await until(() => seen.gone, 'closed');
  t.ok(isStream(2, 0, Buffer.concat(seen.received)), 'every byte sent after our end');
  t.same(seen.endings, [{ errno: 0, byOther: false, bytesRead: 1_000_000, bytesWritten: 10 }]);
});

t.test('what is sent and ended while still connecting goes out', async (t) => {
  const test = startEngine(t);
  const server = await serve(t);
  const sent = test.connect(server.address);
  test.engine.send(sent.id, Buffer.from('early'));
  test.engine.shutdown(sent.id);
  const first = await server.peer(0);
  await until(() => first.ended, 'the end asked for while connecting');
  t.equal(first.text, 'early');
  for (const end of ['shutdown', 'close'] as const) {
    const seen = test.connect(server.address);
    test.engine[end](seen.id);
    const peer = await server.peer(end === 'shutdown' ? 1 : 2);
    await until(() => peer.ended, `${end} without a byte`);
    peer.socket.end();
    if (end === 'shutdown') test.engine.resume(seen.id);
    await until(() => seen.gone, `closed after ${end}`);
    t.strictSame(
      seen.endings.map(({ errno }) => errno),
      [0],
    );
  }
});

t.test('a connection resumed while connecting hears a server that speaks first', async (t) => {
  const test = startEngine(t);
  const server = await serve(t, (peer) => peer.socket.write('220 ready\r\n'));
  for (let i = 0; i < 20; i++) {
    const seen = test.connect(server.address);
    test.engine.resume(seen.id);
    await until(() => seen.text === '220 ready\r\n', 'the banner');
    t.equal(seen.events[0], 'connected', 'connected comes before data');
    test.engine.reset(seen.id);
  }
});

t.test('a reader that pauses gets every byte afterwards', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = { data: (_seen, _offset, length) => (received += length) };
    test.engine.resume(seen.id);
  };
  let received = 0;
  const peer = await dial(t, address);
  await until(() => test.accepts.length === 1, 'accepted');
  const [seen] = test.accepts;
  test.engine.pause(seen.id);
  test.engine.flush();
  // More than all socket buffers hold.
  const total = 30_000_000;
  const sending = peer.stream(3, total).then(() => peer.socket.end());
  await until(() => peer.socket.writableNeedDrain, 'the sender is stalled');
  t.equal(received, 0, 'nothing is delivered to a paused reader');
  const checker = { at: 0, intact: true };
  seen.script = {
    data: (_seen, offset, length) => {
      const bytes = test.engine.slab.subarray(offset, offset + length);
      checker.intact &&= isStream(3, checker.at, bytes);
      checker.at += length;
      // Pause at odd places: what was noticed meanwhile must not be forgotten.
      if (checker.at % 3 === 0) {
        test.engine.pause(seen.id);
        setImmediate(() => test.engine.resume(seen.id));
      }
    },
  };
  test.engine.resume(seen.id);
  await sending;
  await until(() => seen.count('end') === 1, 'the end');
  t.equal(checker.at, total);
  t.ok(checker.intact, 'every byte, in order');
});

t.test('a peer that resets is told as such, in whatever state we are', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const states: Record<string, (id: number) => void> = {
    reading: (id) => test.engine.resume(id),
    paused: () => {},
    'our side ended': (id) => {
      test.engine.shutdown(id);
      test.engine.resume(id);
    },
    'with bytes queued': (id) => {
      for (let i = 0; i < 3; i++) test.engine.send(id, Buffer.alloc(1_000_000));
    },
  };
  for (const [name, prepare] of Object.entries(states)) {
    const peer = await dial(t, address);
    peer.socket.pause();
    const count = test.accepts.length;
    await until(() => test.accepts.length > count - 1 && test.accepts.at(-1)?.gone === false, 'accepted');
    const seen = test.accepts[test.accepts.length - 1];
    prepare(seen.id);
    test.engine.flush();
    peer.socket.resetAndDestroy();
    await until(() => seen.gone, `closed, ${name}`);
    t.equal(seen.endings.length, 1, name);
    t.ok([ECONNRESET, EPIPE].includes(seen.endings[0].errno), `${name}: errno ${seen.endings[0].errno}`);
  }
  t.equal(test.figure('queued_bytes'), 0);
});

t.test(
  'a peer that ended its side and then goes away with our bytes unread is told as a reset',
  async (t) => {
    const test = startEngine(t);
    const address = test.listen();
    for (const length of [3, 4_000_000]) {
      test.onAccepted = (seen) => {
        seen.script = { end: () => test.engine.send(seen.id, Buffer.alloc(length)) };
        test.engine.resume(seen.id);
      };
      const peer = await dial(t, address);
      peer.socket.pause();
      peer.socket.end('question');
      await until(() => test.accepts.at(-1)?.count('end') === 1, 'the end');
      await until(() => peer.socket.bytesRead > 0 || peer.socket.readableLength > 0, 'bytes at the peer');
      peer.socket.resetAndDestroy();
      await until(() => test.accepts.at(-1)?.gone === true, `closed, ${length} bytes on their way`);
      t.match(test.accepts.at(-1)?.endings, [{ errno: /^(32|104)$/, byOther: false, bytesRead: 8 }]);
    }
  },
);

t.test('our reset is a reset for the peer', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    test.engine.send(seen.id, Buffer.from('partial'));
    test.engine.reset(seen.id);
  };
  const peer = await dial(t, address);
  await until(() => peer.closed, 'the reset');
  t.equal(peer.error, 'ECONNRESET');
  t.equal(peer.ended, false, 'never an orderly end');
  t.same(
    test.accepts[0].endings.map(({ errno }) => errno),
    [0],
  );
});

t.test('close() with input unread: the peer gets every byte and no reset', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const length = 900_000;
  test.onAccepted = (seen) => {
    test.engine.send(seen.id, bytesOf(4, 0, length));
    test.engine.close(seen.id);
  };
  const peers: Peer[] = [];
  for (let i = 0; i < 10; i++) {
    const peer = (await dial(t, address)).expect(4);
    peer.socket.write(bytesOf(5, 0, 100_000));
    peers.push(peer);
  }
  await until(() => peers.every((peer) => peer.ended || peer.closed), 'all answers');
  for (const peer of peers) peer.socket.end('and more nobody wants');
  await until(() => test.accepts.every((seen) => seen.gone), 'closed');
  t.ok(
    peers.every((peer) => peer.receivedBytes === length && peer.intact && peer.error === undefined),
    'the whole answer, no reset',
  );
});

t.test('close() delivers what is queued to a peer that ended its side and reads slowly', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const peer = (await dial(t, address)).expect(6);
  peer.socket.pause();
  peer.socket.end('no more from me');
  await until(() => test.accepts.length === 1, 'accepted');
  const [seen] = test.accepts;
  let sent = 0;
  const send = () => {
    test.engine.send(seen.id, bytesOf(6, sent, 500_000));
    test.engine.flush();
    sent += 500_000;
  };
  while (seen.count('blocked') === 0) {
    send();
    await new Promise((resolve) => setImmediate(resolve));
  }
  send();
  // Set before close(): must not cut short what close() promised to deliver.
  test.engine.deadline(seen.id, 100, true);
  test.engine.close(seen.id);
  await until(() => seen.count('deadline') + seen.count('closed') > 0, 'the deadline');
  t.strictSame(seen.events, ['blocked', 'deadline'], 'reported, and nothing else done');
  peer.socket.resume();
  await until(() => peer.closed, 'the end');
  t.equal(peer.receivedBytes, sent);
  t.ok(peer.intact && peer.ended && peer.error === undefined, 'whole, in order, ended in order');
  await until(() => seen.gone, 'closed');
  t.equal(seen.endings[0].errno, 0);
});

t.test('blocked and drained, link and the queue limit', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const peer = (await dial(t, address)).expect(7);
  peer.socket.pause();
  await until(() => test.accepts.length === 1, 'accepted');
  const [slow] = test.accepts;
  let sent = 0;
  while (slow.count('blocked') === 0) {
    test.engine.send(slow.id, bytesOf(7, sent, 200_000));
    sent += 200_000;
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.ok(test.figure('queued_bytes') > 65_536, 'blocked above 64 KB');
  t.ok(test.figure('queued_bytes') <= 65_536 + 200_000, 'and told at once');

  // A second connection linked to the blocked one is not read.
  const feeder = await dial(t, address);
  await until(() => test.accepts.length === 2, 'accepted');
  const [, fast] = test.accepts;
  test.engine.link(fast.id, slow.id);
  test.engine.resume(fast.id);
  test.engine.flush();
  feeder.socket.write('waits');
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
  t.equal(fast.text, '', 'linked: not read while the other is blocked');
  peer.socket.resume();
  await until(() => slow.count('drained') === 1, 'drained');
  t.ok(test.figure('queued_bytes') <= 16_384, 'drained below 16 KB');
  await until(() => fast.text === 'waits', 'read again');
  await until(() => peer.receivedBytes === sent, 'everything arrives');
  t.ok(peer.intact);

  // Who ignores `blocked` is cut at 20 MB.
  peer.socket.pause();
  while (!slow.gone) {
    test.engine.send(slow.id, Buffer.alloc(500_000));
    await new Promise((resolve) => setImmediate(resolve));
    t.ok(test.figure('queued_bytes') <= 20 * 1024 * 1024 + 500_000, 'memory is bounded');
  }
  t.same(
    slow.endings.map(({ errno }) => errno),
    [ENOBUFS],
  );
  t.equal(test.figure('queued_bytes'), 0);
  peer.socket.resume();
  await until(() => peer.closed, 'the peer hears');
  t.equal(peer.error, 'ECONNRESET', 'truncated, and told so');
});

t.test('a link stolen by a third connection, or to one that ends, lets its reader go on', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const slowPeer = await dial(t, address);
  slowPeer.socket.pause();
  const feeders = [await dial(t, address), await dial(t, address)];
  await until(() => test.accepts.length === 3, 'accepted');
  const [slow, first, second] = test.accepts;
  while (slow.count('blocked') === 0) {
    test.engine.send(slow.id, Buffer.alloc(500_000));
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const seen of [first, second]) test.engine.resume(seen.id);
  test.engine.link(first.id, slow.id);
  feeders[0].socket.write('first');
  await until(() => feeders[0].socket.bytesWritten === 5, 'written');
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
  t.equal(first.text, '', 'held by the link');
  test.engine.link(second.id, slow.id);
  await until(() => first.text === 'first', 'the first is free again');
  feeders[1].socket.write('second');
  test.engine.reset(slow.id);
  await until(() => second.text === 'second', 'free when the other ends');
  t.pass('read after the end of what it was linked to');
});

t.test('connect: refused, timed out, impossible', async (t) => {
  const test = startEngine(t);
  const closed = openListener(at('127.0.0.1:0'));
  const nobody = at('127.0.0.1:0').withPort(listenerPort(closed));
  closeListener(closed);
  const refused = test.connect(nobody);
  await until(() => refused.gone, 'refused');
  t.strictSame(refused.connectFailures, [ECONNREFUSED]);
  t.strictSame(refused.events, ['connectFailed'], 'and not closed as well');

  const hole = await blackhole(t, test);
  const startedMs = performance.now();
  const late = test.connect(hole);
  test.engine.send(late.id, Buffer.from('never sent'));
  test.engine.deadline(late.id, 300);
  await until(() => late.gone, 'timed out');
  const tookMs = performance.now() - startedMs;
  t.strictSame(late.connectFailures, [ETIMEDOUT]);
  t.ok(tookMs >= 300, `not before its time: ${tookMs} ms`);
  t.equal(test.figure('queued_bytes'), 0);

  const abandoned = test.connect(hole);
  test.engine.reset(abandoned.id);
  await until(() => abandoned.gone, 'abandoned');
  t.strictSame(abandoned.events, ['closed']);

  // The kernel refuses at once to route an IPv4 class E address or an unspecified family.
  const immediate = test.engine.connect(at('255.255.255.255:9'), false);
  t.ok(immediate < 0, `an immediate failure is a negative errno: ${immediate}`);
  t.ok(immediate !== -EAGAIN && immediate >= -ENETUNREACH - 50, 'and a plausible one');
});

t.test('IPv6, and IPv4 in its many forms', async (t) => {
  const test = startEngine(t);
  const v6 = test.listen('[::1]:0', true);
  const v4 = test.listen('127.0.0.1:0', true);
  for (const address of [v6, v4]) {
    const out = test.connect(address);
    await until(() => out.count('connected') === 1, `connected to ${address}`);
    await until(() => test.accepts.at(-1)?.local?.port === address.port, 'accepted');
    const accepted = test.accepts[test.accepts.length - 1];
    t.equal(accepted.local?.toString(), address.toString());
    t.equal(accepted.peer?.ip, address.ip);
    t.equal(accepted.peer?.family, address.family);
    test.engine.send(accepted.id, Buffer.from('hello'));
    test.engine.resume(out.id);
    await until(() => out.text === 'hello', 'bytes');
  }
  const mapped = test.connect(at(`[::ffff:127.0.0.1]:${v4.port}`));
  await until(() => mapped.count('connected') === 1, 'an IPv4-mapped destination is IPv4');
  t.equal(test.accepts.at(-1)?.peer?.family, 4);
});

t.test('an address in use is told as an errno', (t) => {
  const first = openListener(at('127.0.0.1:0'));
  const second = openListener(at(`127.0.0.1:${listenerPort(first)}`));
  t.equal(second, -constants.errno.EADDRINUSE);
  closeListener(first);
  t.end();
});
