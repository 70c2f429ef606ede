/** Bytes of known number that one connection passes on to another without a word to TypeScript. */
import t, { type Test } from 'tap';
import { at, type Seen, startEngine, type TestEngine, until } from '../support/engine.ts';
import { bytesOf, dial, isStream, type Peer } from '../support/engine-peers.ts';
import { connectTls, listenTls, nothingLeft, startTlsRig } from '../support/engine-tls.ts';

/** Two clients of an engine: what `sender` sends comes to `source`, what goes to `receiver` comes to `sink`. */
interface Pair {
  readonly test: TestEngine;
  readonly sender: Peer;
  readonly source: Seen;
  readonly sink: Peer;
  readonly receiver: Seen;
}

async function pairOf(t: Test): Promise<Pair> {
  const test = startEngine(t);
  const address = test.listen();
  const sender = await dial(t, address);
  await until(() => test.accepts.length === 1, 'the source');
  const sink = await dial(t, address);
  await until(() => test.accepts.length === 2, 'the receiver');
  const [source, receiver] = test.accepts;
  test.engine.link(source.id, receiver.id);
  return { test, sender, source, sink: sink.expect(1), receiver };
}

/** What TypeScript got itself. */
function lengthOf({ received }: Seen): number {
  return received.reduce((sum, { length }) => sum + length, 0);
}

for (const length of [1, 65_536, 262_144, 262_145, 5_000_000]) {
  t.test(`${length} bytes, and no more`, async (t) => {
    const { test, sender, source, sink } = await pairOf(t);
    test.engine.pass(source.id, length);
    test.engine.resume(source.id);
    await sender.stream(1, length + 70_000);
    await until(() => lengthOf(source) === 70_000, 'what comes behind is told');
    await until(() => sink.receivedBytes === length, 'everything is passed on');
    t.ok(sink.intact);
    t.ok(isStream(1, length, Buffer.concat(source.received)));
    t.equal(source.count('passed'), 1);
    test.engine.pass(source.id, 10);
    sender.socket.write(bytesOf(1, length, 10));
    await until(() => source.count('passed') === 2, 'and again');
    await until(() => sink.receivedBytes === length + 10, 'all of it');
    t.ok(sink.intact);
  });
}

t.test('both with TLS: records that reach beyond', async (t) => {
  const rig = await startTlsRig(t);
  const { test } = rig;
  const address = listenTls(rig);
  const lengths = [1, 16_384, 100_000, 700_000];
  for (const length of lengths) {
    const from = test.accepts.length;
    const sender = connectTls(rig, address);
    await until(() => sender.count('secured') === 1 && test.accepts[from]?.count('secured') === 1, 'one');
    const sink = connectTls(rig, address);
    await until(() => sink.count('secured') === 1 && test.accepts[from + 1]?.count('secured') === 1, 'two');
    const [source, receiver] = test.accepts.slice(from);
    test.engine.link(source.id, receiver.id);
    test.engine.pass(source.id, length);
    test.engine.flush();
    test.engine.send(sender.id, bytesOf(1, 0, length + 50_000));
    await until(() => lengthOf(source) === 50_000 && lengthOf(sink) === length, `${length} bytes`);
    t.ok(isStream(1, 0, Buffer.concat(sink.received)), `${length} bytes arrive`);
    t.ok(isStream(1, length, Buffer.concat(source.received)), 'and what is behind them');
    t.equal(source.count('passed'), 1);
    for (const { id } of [sender, sink, source, receiver]) test.engine.reset(id);
  }
  await nothingLeft(test);
});

t.test('a receiver that does not read: a bounded number of bytes waits', async (t) => {
  const length = 60_000_000;
  const { test, sender, source, sink } = await pairOf(t);
  sink.socket.pause();
  test.engine.pass(source.id, length);
  test.engine.resume(source.id);
  const sent = sender.stream(1, length);
  await until(() => test.figure('queued_bytes') > 64 * 1024, 'it has to wait');
  let most = 0;
  const until1s = performance.now() + 1_000;
  await until(() => {
    most = Math.max(most, test.figure('queued_bytes'));
    return performance.now() > until1s;
  }, 'a second');
  t.ok(most <= (64 + 256) * 1024, `${most} bytes waited`);
  t.equal(source.count('passed'), 0);
  sink.socket.resume();
  await sent;
  await until(() => sink.receivedBytes === length, 'everything arrives');
  t.ok(sink.intact);
  await until(() => source.count('passed') === 1, 'and is told');
});

t.test('bytes come in the very turn in which the receiver can take more', async (t) => {
  const { test, sender, source, sink } = await pairOf(t);
  const piece = 16 * 1024;
  let sent = 0;
  const send = () => {
    sender.socket.write(bytesOf(1, sent, piece));
    sent += piece;
  };
  test.engine.pass(source.id, 2 ** 40);
  test.engine.resume(source.id);
  for (let round = 0; round < 5; round++) {
    sink.socket.pause();
    // Some of it waits for the receiver, and not so much that the source must.
    while (test.figure('queued_bytes') === 0) {
      send();
      await until(() => sender.socket.writableLength === 0, 'it is out');
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.ok(test.figure('queued_bytes') <= 64 * 1024);
    send();
    sink.socket.resume();
    await until(() => sink.receivedBytes === sent, `round ${round}`);
  }
  t.ok(sink.intact);
});

t.test('what comes right behind is told at once, however slow the receiver is', async (t) => {
  const { test, sender, source, sink, receiver } = await pairOf(t);
  sink.socket.pause();
  while (test.figure('queued_bytes') === 0) {
    test.engine.send(receiver.id, Buffer.alloc(16 * 1024));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const order: string[] = [];
  source.script = {
    passed: () => {
      order.push('passed');
      // Runs when the batch is over.
      queueMicrotask(() => order.push('later'));
    },
    data: (_, __, length) => void order.push(`${length} bytes`),
  };
  test.engine.pass(source.id, 100_000);
  test.engine.flush();
  sender.socket.write(bytesOf(1, 0, 100_004));
  await new Promise((resolve) => setImmediate(resolve));
  test.engine.resume(source.id);
  await until(() => order.length === 3, 'all three');
  t.strictSame(order, ['passed', '4 bytes', 'later']);
  t.ok(test.figure('queued_bytes') > 64 * 1024, 'though more waits than others may add to');
});

t.test('another number counts instead, and 0 ends it', async (t) => {
  const { test, sender, source, sink } = await pairOf(t);
  test.engine.pass(source.id, 1_000_000);
  test.engine.pass(source.id, 100_000);
  test.engine.resume(source.id);
  await sender.stream(1, 100_000);
  await until(() => source.count('passed') === 1, 'the second number');
  test.engine.pass(source.id, 1_000_000);
  test.engine.pass(source.id, 0);
  test.engine.flush();
  sender.socket.write('for TypeScript');
  await until(() => lengthOf(source) > 0, 'nothing is passed on any more');
  t.equal(Buffer.concat(source.received).toString(), 'for TypeScript');
  await until(() => sink.receivedBytes === 100_000, 'the sink has the rest');
  t.equal(source.count('passed'), 1);
  t.same(test.mistaken, []);
});

t.test('the source ends before all has come: its end is told, and no success', async (t) => {
  const { test, sender, source, sink } = await pairOf(t);
  test.engine.pass(source.id, 1_000_000);
  test.engine.resume(source.id);
  await sender.stream(1, 300_000);
  sender.socket.end();
  await until(() => source.count('end') === 1, 'its end');
  await until(() => sink.receivedBytes === 300_000, 'what it had sent');
  t.strictSame(
    source.events.filter((event) => event === 'passed'),
    [],
  );
});

t.test('the receiver goes: the source is TypeScript’s again', async (t) => {
  const { test, sender, source, sink, receiver } = await pairOf(t);
  const rests: number[] = [];
  source.script = { passed: (_, rest) => void rests.push(rest) };
  test.engine.pass(source.id, 1_000_000);
  test.engine.resume(source.id);
  await sender.stream(1, 100_000);
  await until(() => sink.receivedBytes === 100_000, 'a part');
  sink.socket.resetAndDestroy();
  await until(() => receiver.gone, 'the end of the receiver');
  sender.socket.write('more');
  await until(() => lengthOf(source) === 4, 'what comes now is told');
  // It went before the operation ran: nobody is wrong.
  test.engine.link(source.id, receiver.id);
  test.engine.pass(source.id, 10);
  test.engine.flush();
  sender.socket.write('!');
  await until(() => lengthOf(source) === 5, 'and what comes later');
  t.same(test.mistaken, []);
  t.strictSame(rests, [900_000], 'how far it came is told once');
});

/** A part of a long body is passed on, and a third connection is there, held by `other`. */
async function interrupted(t: Test): Promise<Pair & { other: Peer; third: Seen; rests: number[] }> {
  const pair = await pairOf(t);
  const { test, sender, source, sink } = pair;
  const other = await dial(t, at(`127.0.0.1:${pair.sender.socket.remotePort}`));
  await until(() => test.accepts.length === 3, 'a third one');
  const rests: number[] = [];
  source.script = { passed: (_, rest) => void rests.push(rest) };
  test.engine.pass(source.id, 2 ** 33 + 1_000);
  test.engine.resume(source.id);
  await sender.stream(1, 1_000);
  await until(() => sink.receivedBytes === 1_000, 'a part');
  return { ...pair, other, third: test.accepts[2], rests };
}

t.test('a relay takes the source: how far it came is told, and the relay has the rest', async (t) => {
  const { test, sender, source, sink, other, third, rests } = await interrupted(t);
  test.engine.relay(source.id, third.id);
  await until(() => rests.length === 1, 'it is told');
  sender.socket.write('more');
  await until(() => other.receivedBytes === 4, 'what comes now goes another way');
  t.strictSame(rests, [2 ** 33]);
  t.equal(sink.receivedBytes, 1_000);
});

t.test('a relay takes the receiver: the source is TypeScript’s again', async (t) => {
  const { test, sender, source, sink, receiver, third, rests } = await interrupted(t);
  test.engine.relay(receiver.id, third.id);
  test.engine.flush();
  sender.socket.write('more');
  await until(() => source.text === 'more', 'what comes now is told');
  t.strictSame(rests, [2 ** 33]);
  t.equal(sink.receivedBytes, 1_000);
});

t.test('another one is linked to the receiver: the source is TypeScript’s again', async (t) => {
  const { test, sender, source, sink, receiver, third, rests } = await interrupted(t);
  test.engine.link(third.id, receiver.id);
  await until(() => rests.length === 1, 'it is told');
  sender.socket.write('more');
  await until(() => source.text === 'more', 'what comes now is told');
  t.strictSame(rests, [2 ** 33]);
  t.equal(sink.receivedBytes, 1_000);
});

t.test('not during a handshake, nor in a relay', async (t) => {
  const { test, source, receiver } = await pairOf(t);
  test.engine.relay(source.id, receiver.id);
  test.engine.pass(source.id, 10);
  test.engine.flush();
  await until(() => test.mistaken.length === 1, 'refused');
  t.same(test.mistaken, [source.id]);
});
