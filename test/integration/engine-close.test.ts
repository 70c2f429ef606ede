/** What becomes of peers that go on, or never end, after `close`. */
import t from 'tap';
import { startEngine, until } from '../support/engine.ts';
import { dial, type Peer } from '../support/engine-peers.ts';

/** Sends for as long as it can. */
function flood({ socket }: Peer): void {
  const chunk = Buffer.alloc(1 << 20);
  const feed = () => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', feed);
  feed();
}

t.test(
  'close() after shutdown(): a peer that never ends its side is given up, its last bytes are not',
  async (t) => {
    const test = startEngine(t);
    const address = test.listen();
    const silent = await dial(t, address);
    const talking = await dial(t, address);
    await until(() => test.accepts.length === 2, 'accepted');
    for (const seen of test.accepts) test.engine.shutdown(seen.id);
    await until(() => silent.ended && talking.ended, 'our ends');
    talking.socket.write('already here when close() is called');
    await until(() => talking.socket.bytesWritten > 0, 'written');
    const startedMs = performance.now();
    for (const seen of test.accepts) test.engine.close(seen.id);
    talking.socket.end();
    await until(() => test.accepts.every((seen) => seen.gone), 'closed');
    t.ok(performance.now() - startedMs < 5_000, 'within the 2 s and what a busy machine adds');
    const endings = test.accepts.flatMap((seen) => seen.endings);
    t.same(
      endings.map(({ errno }) => errno),
      [0, 0],
    );
    t.equal(Math.max(...endings.map(({ bytesRead }) => bytesRead)), 35, 'what came was read');
  },
);

t.test(
  'after close() a peer that never stops sending neither holds the thread nor the connection',
  async (t) => {
    const test = startEngine(t);
    const address = test.listen();
    test.onAccepted = (seen) => test.engine.close(seen.id);
    const peer = await dial(t, address);
    flood(peer);
    await until(() => test.accepts.length === 1 && test.accepts[0].gone, 'given up', 10_000);
    await until(() => peer.closed, 'the sender notices');
    t.ok(test.accepts[0].endings[0].bytesRead > 0, 'what came was read and thrown away');
    t.equal(test.figure('connections'), 0);
  },
);

t.test('what a flood brings stays unread after close(), and what was said arrives', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    test.engine.send(seen.id, Buffer.from('enough'));
    test.engine.close(seen.id, 'unread');
  };
  const flooding = await dial(t, address);
  const gone = await dial(t, address);
  const orderly = await dial(t, address);
  flood(flooding);
  await until(
    () => test.accepts.length === 3 && [flooding, gone, orderly].every(({ ended }) => ended),
    'told',
  );
  t.equal(flooding.receivedBytes, 6);
  const startedMs = performance.now();
  gone.socket.resetAndDestroy();
  orderly.socket.end('the rest');
  await until(() => test.accepts[1].gone && test.accepts[2].gone, 'peers that go are not kept');
  t.ok(performance.now() - startedMs < 1_500, 'until the 2 s are over');
  await until(() => test.accepts[0].gone, 'given up', 10_000);
  await until(() => flooding.closed, 'the sender notices');
  t.strictSame(
    test.accepts.map(({ endings }) => endings[0].bytesRead),
    [0, 0, 8],
  );
});
