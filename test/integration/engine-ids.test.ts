/** Ids, batches and the order of things: what a handler may rely on while many things happen at once. */

import t from 'tap';
import { type ConnectionId, indexOf } from '../../proxy/native/engine.ts';
import { at, blackhole, echo, type Seen, startEngine, type TestEngine, until } from '../support/engine.ts';
import { bytesOf, dial, isStream, type Peer, serve } from '../support/engine-peers.ts';

/** `send` and `relay` as `deadOperation` names them; engine.h has the numbers. */
const SEND = 1;
const SHUTDOWN = 2;
const PAUSE = 5;
const RELAY = 8;

/** Connects `count` times to the engine itself; the accepted ends, once both sides of all are there. */
async function pairs(test: TestEngine, count: number): Promise<{ dialled: Seen[]; accepted: Seen[] }> {
  const address = test.listen();
  const dialled: Seen[] = [];
  while (dialled.length < count) {
    // Fewer at once than a listener's backlog holds.
    for (let i = 0; i < 500 && dialled.length < count; i++) dialled.push(test.connect(address));
    await until(() => test.accepts.length === dialled.length, 'all accepted');
  }
  await until(() => dialled.every((seen) => seen.count('connected') === 1), 'all connected');
  return { dialled, accepted: test.accepts };
}

t.test(
  'closing and connecting in one batch never reuses an index that is still to be heard of',
  async (t) => {
    const test = startEngine(t);
    const server = await serve(t);
    const { accepted } = await pairs(test, 20);
    // By index, as the worker keeps its connections.
    const owners: (ConnectionId | undefined)[] = [];
    let clashes = 0;
    let heard = 0;
    const take = (id: ConnectionId) => {
      if (owners[indexOf(id)] !== undefined) clashes++;
      owners[indexOf(id)] = id;
    };
    const give = (seen: Seen) => {
      if (owners[indexOf(seen.id)] !== seen.id) clashes++;
      owners[indexOf(seen.id)] = undefined;
      heard++;
    };
    for (const seen of test.connections.values()) {
      take(seen.id);
      seen.script = {
        closed: () => {
          give(seen);
          // The other end of this pair is dead too, its `closed` is somewhere behind in this batch or the next.
          for (let i = 0; i < 2 && heard < 400; i++) {
            const next = test.connect(server.address, {
              connected: () => test.engine.reset(next.id),
              connectFailed: () => give(next),
              closed: () => {
                give(next);
              },
            });
            take(next.id);
          }
        },
      };
    }
    for (const seen of accepted) test.engine.reset(seen.id);
    await until(() => test.figure('connections') === 0, 'all ended');
    t.equal(clashes, 0);
    t.ok(heard >= 40, `${heard} endings`);
  },
);

t.test('more events than a batch holds: each arrives once, no index comes back too early', async (t) => {
  const test = startEngine(t);
  const hole = await blackhole(t, test);
  const { dialled, accepted } = await pairs(test, 3_000);
  const all = [...dialled, ...accepted];
  const pending = new Set<number>();
  let reused = 0;
  let batches = 0;
  let lastTurn = -1;
  const dialMany = () => {
    // More than the first two batches gave back.
    for (let i = 0; i < 4_300; i++) {
      const next = test.connect(hole);
      if (pending.has(indexOf(next.id))) reused++;
      test.engine.reset(next.id);
    }
  };
  for (const seen of all) {
    pending.add(indexOf(seen.id));
    seen.script = {
      closed: () => {
        pending.delete(indexOf(seen.id));
        const turn = test.figure('loop_turns_total');
        if (turn === lastTurn) return;
        lastTurn = turn;
        if (++batches === 3) dialMany();
      },
    };
  }
  // 6,000 `closed` of two records each, all from one flush.
  for (const seen of all) test.engine.reset(seen.id);
  test.engine.flush();
  await until(() => pending.size === 0, 'all heard of');
  await until(() => test.figure('connections') === 1, 'all ended but the one that fills the backlog');
  t.ok(
    all.every((seen) => seen.endings.length === 1),
    'each connection ended once',
  );
  t.equal(reused, 0, 'an index waits until the end of its last owner was heard');
  t.equal(batches, 3);
});

t.test('resets by 3,000 peers in one turn: each is told once', async (t) => {
  const test = startEngine(t);
  const { dialled, accepted } = await pairs(test, 3_000);
  for (const seen of accepted) test.engine.resume(seen.id);
  for (const seen of dialled) test.engine.reset(seen.id);
  await until(() => accepted.every((seen) => seen.gone), 'all told');
  t.ok(
    accepted.every(({ endings }) => endings.length === 1 && endings[0].errno !== 0),
    'once, as a failure',
  );
  t.ok(dialled.every(({ endings }) => endings.length === 1 && endings[0].errno === 0));
  t.equal(test.figure('connections'), 0);
});

t.test('operations on dead, foreign and impossible ids are reported, none is dropped', async (t) => {
  const test = startEngine(t);
  const { dialled, accepted } = await pairs(test, 1);
  const [out] = dialled;
  const [in_] = accepted;
  test.engine.reset(out.id);
  await until(() => in_.count('closed') + in_.count('end') === 1 || in_.gone, 'the other end hears');
  test.dead.length = 0;
  const impossible = [0, -1, 1, 0x7fffffff, -0x80000000, in_.id ^ (1 << 20), indexOf(in_.id)];
  for (const id of impossible) test.engine.pause(id);
  test.engine.send(out.id, Buffer.from('to nobody'));
  test.engine.relay(out.id, out.id);
  test.engine.sendRange(out.id, -5, 10);
  await until(() => test.dead.length === impossible.length + 3, 'all reported');
  t.same(test.dead, [
    ...impossible.map((id) => ({ id, operation: PAUSE })),
    { id: out.id, operation: SEND },
    { id: out.id, operation: RELAY },
    { id: out.id, operation: SEND },
  ]);
  t.equal(test.figure('dead_operations_total'), test.dead.length);
});

t.test('operations in the wrong state are reported and do no harm', async (t) => {
  const test = startEngine(t);
  const { dialled, accepted } = await pairs(test, 3);
  const [a, b, c] = accepted;
  const reports = async (operation: () => void, expected: readonly { id: number; operation: number }[]) => {
    test.dead.length = 0;
    operation();
    test.engine.flush();
    await until(() => test.dead.length >= expected.length, 'reported');
    t.same(test.dead, expected);
  };
  await reports(() => test.engine.relay(a.id, a.id), [{ id: a.id, operation: RELAY }]);
  await reports(() => test.engine.relay(a.id, 12_345), [{ id: 12_345, operation: RELAY }]);
  await reports(() => {
    test.engine.relay(a.id, b.id);
    test.engine.relay(c.id, b.id);
    test.engine.relay(b.id, c.id);
    test.engine.send(a.id, Buffer.from('between the relay’s bytes'));
  }, [
    { id: b.id, operation: RELAY },
    { id: c.id, operation: RELAY },
    { id: a.id, operation: SEND },
  ]);
  // Beyond the slab, and after our own end.
  await reports(() => {
    test.engine.sendRange(c.id, test.engine.slab.length - 5, 6);
    test.engine.sendRange(c.id, 0x7fffffff, 0x7fffffff);
    test.engine.shutdown(c.id);
    test.engine.send(c.id, Buffer.from('after our end'));
  }, [
    { id: c.id, operation: SEND },
    { id: c.id, operation: SEND },
    { id: c.id, operation: SEND },
  ]);
  await reports(() => {
    test.engine.close(c.id);
    test.engine.shutdown(c.id);
    test.engine.unrelay(c.id);
    test.engine.unrelay(a.id);
    test.engine.unrelay(a.id);
  }, [
    { id: c.id, operation: SHUTDOWN },
    { id: c.id, operation: 9 },
  ]);
  t.notOk(a.gone || b.gone, 'the others live on');
  for (const seen of dialled) test.engine.reset(seen.id);
  for (const seen of accepted) test.engine.resume(seen.id);
  await until(() => test.figure('connections') === 0, 'all ended');
});

t.test('two connections whose sides we have both ended are not relayed: nothing would end it', async (t) => {
  const test = startEngine(t);
  const { dialled, accepted } = await pairs(test, 2);
  for (const seen of accepted) test.engine.shutdown(seen.id);
  test.engine.relay(accepted[0].id, accepted[1].id);
  await until(() => test.dead.length === 1, 'reported');
  for (const seen of dialled) test.engine.close(seen.id);
  for (const seen of accepted) test.engine.resume(seen.id);
  await until(() => test.figure('connections') === 0, 'all ended');
  t.equal(test.figure('relays'), 0);
});

t.test('more operations in one batch than the buffer holds', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const pieces = 10_000;
  test.onAccepted = (seen) => {
    for (let i = 0; i < pieces; i++) test.engine.send(seen.id, bytesOf(1, i * 400, 400));
    test.engine.close(seen.id);
  };
  const peer = (await dial(t, address)).expect(1);
  await until(() => peer.ended, 'the end');
  t.equal(peer.receivedBytes, pieces * 400, 'every piece');
  t.ok(peer.intact, 'in order');
});

t.test('bytes that meet a full buffer of operations stay those of their connection', async (t) => {
  const test = startEngine(t);
  const server = await serve(t);
  // How many operations the buffer holds, and one less: bytes are the last that fit, or the first that do not.
  for (const before of [4_096, 4_095]) {
    for (const way of ['send', 'built'] as const) {
      const since = server.peers.length;
      const [a, b] = [test.connect(server.address), test.connect(server.address)];
      await until(() => a.count('connected') + b.count('connected') === 2, 'both');
      await until(() => server.peers.length === since + 2, 'both are accepted');
      for (let i = 0; i < before; i++) test.engine.pause(a.id);
      const send = (seen: Seen, text: string): void => {
        if (way === 'send') return test.engine.send(seen.id, Buffer.from(text));
        const start = test.engine.reserve(text.length);
        test.engine.slab.set(Buffer.from(text), start);
        test.engine.sendBuilt(seen.id, start + text.length);
      };
      send(a, 'of one connection');
      send(b, 'of the other');
      for (const { id } of [a, b]) test.engine.close(id);
      await until(() => server.peers.slice(since).every(({ ended }) => ended), 'both ended');
      t.strictSame(
        server.peers
          .slice(since)
          .map(({ text }) => text)
          .sort(),
        ['of one connection', 'of the other'],
        `${way} behind ${before}`,
      );
    }
  }
});

t.test('microtasks and ticks of a handler may ask for operations too, in order', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const peers: Peer[] = [];
  test.onAccepted = (seen) => {
    test.engine.send(seen.id, Buffer.from('1 handler, '));
    Promise.resolve().then(() => {
      test.engine.send(seen.id, Buffer.from('2 microtask, '));
      process.nextTick(() => {
        test.engine.send(seen.id, Buffer.from('3 tick'));
        test.engine.close(seen.id);
      });
    });
  };
  for (let i = 0; i < 20; i++) peers.push(await dial(t, address));
  await until(() => peers.every((peer) => peer.ended), 'all answered');
  t.strictSame([...new Set(peers.map((peer) => peer.text))], ['1 handler, 2 microtask, 3 tick']);
});

t.test('received bytes pass on from the slab without a copy, also from a full batch', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = echo(test.engine);
    test.engine.resume(seen.id);
  };
  const peers = await Promise.all(Array.from({ length: 100 }, () => dial(t, address)));
  // 100 connections of several reads each: more than the slab's receive part holds at once.
  await Promise.all(
    peers.map(async (peer, index) => {
      peer.expect(index);
      await peer.stream(index, 200_000);
      peer.socket.end();
    }),
  );
  await until(() => peers.every((peer) => peer.closed), 'all echoed');
  t.ok(
    peers.every((peer) => peer.receivedBytes === 200_000 && peer.intact),
    'every echo whole and its own',
  );
});

t.test('byte counters: the slots of the slab, the record of the end, and what was sent agree', async (t) => {
  const test = startEngine(t);
  const server = await serve(t, (peer) => {
    peer.socket.on('end', () => peer.socket.end('the answer'));
  });
  const address = test.listen();
  const [READ, WRITE, UP_READ, UP_WRITE] = [1000, 1001, 1002, 1003];
  test.onAccepted = (seen) => {
    test.engine.count(seen.id, READ, WRITE);
    const upstream = test.connect(server.address, {
      connected: () => test.engine.relay(seen.id, upstream.id),
    });
    test.engine.count(upstream.id, UP_READ, UP_WRITE);
    test.engine.count(upstream.id, -1, UP_WRITE);
    test.engine.count(upstream.id, 1 << 30, UP_WRITE);
  };
  const total = 9_000_000;
  const peer = await dial(t, address);
  const upstream = (await server.peer()).expect(4);
  await peer.stream(4, total);
  peer.socket.end();
  await until(() => peer.closed && test.figure('connections') === 0, 'the end');
  t.ok(upstream.intact && isStream(4, 0, bytesOf(4, 0, 10)));
  t.strictSame(
    [READ, WRITE, UP_READ, UP_WRITE].map((slot) => test.metrics[slot]),
    [total, 10, 10, total],
  );
  t.strictSame(
    [...test.connections.values()].map(({ endings }) => endings[0]),
    [
      { errno: 0, byOther: false, bytesRead: total, bytesWritten: 10 },
      { errno: 0, byOther: false, bytesRead: 10, bytesWritten: total },
    ],
  );
  t.equal(test.figure('spliced_bytes_total') + test.figure('copied_bytes_total'), total + 10);
});

t.test('own upstream sockets are recognised when they come back', async (t) => {
  const test = startEngine(t);
  // Where connection tracking is active, a connection that was not redirected has our own address as its destination.
  const address = test.listen('127.0.0.1:0', true);
  const tracked = test.connect(address, {}, true);
  const untracked = test.connect(at(address.toString()), {}, false);
  await until(() => test.accepts.length === 2, 'both accepted');
  await until(() => [tracked, untracked].every((seen) => seen.count('connected') === 1), 'both connected');
  t.equal(
    test.accepts.every(({ local }) => local?.port === address.port),
    true,
  );
  const conntrack = test.accepts[0].original !== undefined;
  t.strictSame(
    test.accepts.map((seen) => seen.count('own')),
    conntrack ? [1, 0] : [0, 0],
    conntrack ? 'the tracked one only' : 'no connection tracking here: nothing to compare with',
  );
});
