/** What a relay may hold, how long it may wait, and how TypeScript takes it apart again. */

import t, { type Test } from 'tap';
import { type Seen, startEngine, type TestEngine, until } from '../support/engine.ts';
import { dial, type Peer, serve } from '../support/engine-peers.ts';

/** Most a direction keeps in the engine's own memory for a reader that does not read: one read of a copy. */
const QUEUE_BOUND = 256 * 1024;
/** Most a direction that splices keeps in the kernel besides: one pipe. */
const PIPE_BOUND = 1 << 20;

/** Slots of the metrics slab that nothing else in these tests uses, by the bytes they count. */
const DOWN_READ = 1000;
const DOWN_WRITTEN = 1001;
const UP_READ = 1002;
const UP_WRITTEN = 1003;

interface Relayed {
  readonly test: TestEngine;
  readonly client: Peer;
  readonly server: Peer;
  readonly down: Seen;
  readonly up: Seen;
}

/** A relay whose peers both begin without reading, its bytes counted in the four slots. */
async function relayed(t: Test): Promise<Relayed> {
  const test = startEngine(t);
  const origin = await serve(t, () => {}, true);
  const address = test.listen();
  const ups: Seen[] = [];
  test.onAccepted = (down) => {
    test.engine.count(down.id, DOWN_READ, DOWN_WRITTEN);
    const up = test.connect(origin.address, { connected: () => test.engine.relay(down.id, up.id) });
    test.engine.count(up.id, UP_READ, UP_WRITTEN);
    ups.push(up);
  };
  const client = await dial(t, address);
  client.socket.pause();
  const server = await origin.peer();
  await until(() => ups.length === 1 && ups[0].count('connected') === 1, 'the relay');
  return { test, client, server, down: test.accepts[0], up: ups[0] };
}

/** Waits until neither side of the relay moves a byte for 50 looks in a row. */
async function stalled(test: TestEngine): Promise<void> {
  const total = () => test.metrics[DOWN_READ] + test.metrics[UP_READ];
  let last = -1;
  let same = 0;
  await until(() => {
    same = total() === last ? same + 1 : 0;
    last = total();
    return same === 50 && last > 0;
  }, 'a stall');
}

t.test('readers that never read: what a relay holds is bounded, each way', async (t) => {
  const { test, client, server, down, up } = await relayed(t);
  void client.stream(1, 1_000_000_000);
  void server.stream(2, 1_000_000_000);
  await stalled(test);
  const held = [
    test.metrics[DOWN_READ] - test.metrics[UP_WRITTEN],
    test.metrics[UP_READ] - test.metrics[DOWN_WRITTEN],
  ];
  t.ok(test.figure('queued_bytes') <= 2 * QUEUE_BOUND, `${test.figure('queued_bytes')} bytes queued`);
  t.ok(
    held.every((bytes) => bytes <= Math.max(QUEUE_BOUND, PIPE_BOUND)),
    `${held} bytes held`,
  );
  t.ok(test.figure('pipes') <= 2, 'one pipe a direction');
  client.socket.resetAndDestroy();
  await until(() => down.gone && up.gone, 'a stalled relay hears a reset');
  t.strictSame([test.figure('queued_bytes'), test.figure('relays'), test.figure('connections')], [0, 0, 0]);
  await until(() => test.figure('pipes') === 0, 'pipes with bytes in them are not kept');
});

t.test('a stalled reader that goes on gets every byte', async (t) => {
  const { test, client, server, down, up } = await relayed(t);
  server.expect(1);
  const length = 60_000_000;
  const sent = client.stream(1, length).then(() => client.socket.end());
  for (let i = 0; i < 5; i++) {
    await stalled(test);
    server.socket.resume();
    const mark = server.receivedBytes;
    await until(() => server.receivedBytes > mark + 3_000_000, 'it flows');
    server.socket.pause();
  }
  server.socket.resume();
  await sent;
  await until(() => server.ended, 'the end');
  t.equal(server.receivedBytes, length);
  t.ok(server.intact, 'in order');
  t.ok(test.figure('spliced_bytes_total') > 0 && test.figure('copied_bytes_total') > 0, 'by both ways');
  t.strictSame([test.metrics[DOWN_READ], test.metrics[UP_WRITTEN]], [length, length], 'and counted live');
  client.socket.resume();
  server.socket.end();
  await until(() => down.gone && up.gone, 'closed');
});

t.test(
  'taken apart in the middle of bulk: TypeScript goes on, no byte lost, spliced ones neither',
  async (t) => {
    const { test, client, server, down, up } = await relayed(t);
    server.expect(1);
    client.expect(2);
    const length = 40_000_000;
    const sent = [client.stream(1, length), server.stream(2, length)];
    server.socket.resume();
    client.socket.resume();
    await until(() => test.figure('spliced_bytes_total') > 5_000_000, 'splice');
    server.socket.pause();
    client.socket.pause();
    await stalled(test);
    const inPipes = test.figure('pipes');
    test.engine.unrelay(down.id);
    test.engine.flush();
    t.ok(inPipes > 0, 'with bytes in pipes');
    for (const [from, to] of [[down, up] as const, [up, down] as const]) {
      from.script = { data: (_seen, offset, bytes) => test.engine.sendRange(to.id, offset, bytes) };
      test.engine.link(from.id, to.id);
    }
    await until(() => test.figure('relays') === 0, 'no relay');
    t.ok(test.figure('queued_bytes') <= 2 * (QUEUE_BOUND + PIPE_BOUND), 'which wait in memory now');
    server.socket.resume();
    client.socket.resume();
    const mark = server.receivedBytes;
    await until(() => server.receivedBytes > mark, 'what the pipes held goes on by itself');
    test.engine.resume(down.id);
    test.engine.resume(up.id);
    await until(() => server.receivedBytes > mark + 10_000_000, 'by way of TypeScript');
    // And into native code again.
    test.engine.relay(down.id, up.id);
    await Promise.all(sent);
    client.socket.end();
    server.socket.end();
    await until(() => server.closed && client.closed && down.gone && up.gone, 'closed');
    t.strictSame([server.receivedBytes, client.receivedBytes], [length, length]);
    t.ok(server.intact && client.intact, 'every byte, in order');
    t.strictSame(test.dead, []);
  },
);

t.test('an end carried before a relay is taken apart is told to TypeScript', async (t) => {
  const { test, client, server, down, up } = await relayed(t);
  server.socket.resume();
  client.socket.resume();
  client.socket.end('all');
  await until(() => server.ended, 'the end');
  test.engine.unrelay(up.id);
  await until(() => down.count('end') === 1, 'told');
  t.equal(server.text, 'all');
  test.engine.send(down.id, Buffer.from('answer'));
  test.engine.shutdown(down.id);
  server.socket.end();
  test.engine.resume(up.id);
  await until(() => down.gone && up.gone, 'closed');
  await until(() => client.ended, 'the answer');
  t.equal(client.text, 'answer');
  t.same(
    [...down.endings, ...up.endings].map(({ errno }) => errno),
    [0, 0],
  );
});

t.test('deadlines of a relay: absolute ones pass, idle ones wait for silence on both sides', async (t) => {
  const { test, client, server, down, up } = await relayed(t);
  server.socket.resume();
  client.socket.resume();
  const passed = new Map<Seen, number>();
  for (const seen of [down, up]) seen.script = { deadline: () => passed.set(seen, performance.now()) };
  const begunMs = performance.now();
  let lastMs = begunMs;
  test.engine.deadline(down.id, 300);
  test.engine.deadline(up.id, 300, true);
  // Only the server's side speaks, and only the client's side is read: it keeps both from being idle.
  const talk = setInterval(() => {
    lastMs = performance.now();
    server.socket.write('.');
  }, 20);
  t.teardown(() => clearInterval(talk));
  await until(() => passed.has(down), 'the absolute one');
  t.ok(performance.now() - begunMs >= 300, 'never early');
  await until(() => performance.now() - begunMs > 1_000, 'a second of activity');
  t.notOk(passed.has(up), 'activity keeps the idle one from passing');
  clearInterval(talk);
  await until(() => passed.has(up), 'silence');
  t.ok((passed.get(up) ?? 0) - lastMs >= 300, 'and never early either');
  t.notOk(down.gone || up.gone, 'what to do about it is up to TypeScript');
  t.equal(client.ended, false);
  test.engine.reset(up.id);
  await until(() => down.gone && up.gone, 'closed');
  t.equal(test.figure('timers'), 0);
});

t.test('500 relays come and go: every answer whole, figures back at zero', async (t) => {
  const test = startEngine(t);
  const origin = await serve(t, (peer) => {
    peer.socket.on('end', () => peer.socket.end(`${peer.receivedBytes} bytes`));
  });
  const address = test.listen();
  test.onAccepted = (down) => {
    const up = test.connect(origin.address, { connected: () => test.engine.relay(down.id, up.id) });
  };
  const clients = await Promise.all(Array.from({ length: 500 }, () => dial(t, address)));
  await Promise.all(
    clients.map(async (client, index) => {
      await client.stream(1, index * 400);
      client.socket.end();
    }),
  );
  await until(() => clients.every((client) => client.closed), 'all answered');
  t.ok(
    clients.every((client, index) => client.text === `${index * 400} bytes` && client.error === undefined),
  );
  await until(() => test.figure('connections') === 0, 'closed');
  t.strictSame([test.figure('relays'), test.figure('queued_bytes'), test.figure('timers')], [0, 0, 0]);
  t.ok([...test.connections.values()].every(({ endings }) => endings.length === 1 && endings[0].errno === 0));
});
