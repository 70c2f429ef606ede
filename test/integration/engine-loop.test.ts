/** The engine and libuv share a thread: neither starves the other, waiting costs nothing, and nothing piles up. */

import { readFile } from 'node:fs/promises';
import { MessageChannel } from 'node:worker_threads';
import t from 'tap';
import { echo, startEngine, until } from '../support/engine.ts';
import { dial } from '../support/engine-peers.ts';
import { atRest } from '../support/engine-rig.ts';

t.test('readiness that stays after an end wakes nobody, read or not', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const peers = await Promise.all(Array.from({ length: 6 }, () => dial(t, address)));
  await until(() => test.accepts.length === 6, 'accepted');
  const [reading, paused, ...rest] = test.accepts;
  test.engine.resume(reading.id);
  // Ended by us too, with bytes nobody reads; ended by us only; idle; full of input while paused.
  test.engine.shutdown(rest[1].id);
  for (const peer of peers.slice(0, 3)) peer.socket.end('last words');
  peers[5].socket.write(Buffer.alloc(30_000_000));
  await until(() => reading.count('end') === 1, 'an end');
  await until(() => peers[3].ended, 'our end');
  await atRest(test);
  t.strictSame([paused.events, rest.map(({ events }) => events.length)], [[], [0, 0, 0, 0]]);
  const before = process.cpuUsage();
  const fromMs = performance.now();
  await until(() => performance.now() - fromMs > 300, 'a while');
  const used = process.cpuUsage(before);
  t.ok(used.user + used.system < 200_000, `${used.user + used.system} µs of CPU in 300 ms`);
});

t.test('timers, immediates, files and messages go on under load, and the load under them', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = echo(test.engine);
    test.engine.link(seen.id, seen.id);
    test.engine.resume(seen.id);
  };
  // Connections of the engine to itself: its loop has something ready at every turn, without libuv.
  for (let i = 0; i < 50; i++) {
    const out = test.connect(address, {
      connected: (seen) => test.engine.send(seen.id, Buffer.alloc(2_000)),
      data: (seen, offset, length) => test.engine.sendRange(seen.id, offset, length),
    });
    test.engine.resume(out.id);
  }
  await until(() => test.accepts.length === 50, 'accepted');
  const counts = { timer: 0, immediate: 0, file: 0, message: 0 };
  const { port1, port2 } = new MessageChannel();
  let going = true;
  t.teardown(() => {
    going = false;
    port1.close();
  });
  const immediate = () => {
    counts.immediate++;
    if (going) setImmediate(immediate);
  };
  const file = () =>
    readFile('/proc/self/stat').then(() => {
      counts.file++;
      if (going) void file();
    });
  port2.on('message', () => {
    counts.message++;
    if (going) port1.postMessage('again');
  });
  const timer = setInterval(() => counts.timer++, 5);
  t.teardown(() => clearInterval(timer));
  immediate();
  void file();
  port1.postMessage('first');
  const eventsBefore = test.figure('events_total');
  await until(() => Object.values(counts).every((count) => count >= 50), "libuv's share");
  const events = test.figure('events_total') - eventsBefore;
  t.ok(events > 5_000, `the engine's share: ${events} events`);
});

t.test('5,000 connections come and go: figures at zero, memory flat', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = echo(test.engine);
    test.engine.resume(seen.id);
  };
  const round = async (count: number) => {
    let gone = 0;
    for (let i = 0; i < count; i++) {
      const out = test.connect(address, {
        connected: (seen) => test.engine.send(seen.id, Buffer.from('ping')),
        data: (seen) => (i % 2 === 0 ? test.engine.close(seen.id) : test.engine.reset(seen.id)),
        closed: () => gone++,
      });
      test.engine.resume(out.id);
    }
    await until(() => gone === count, 'all gone');
    await until(() => test.figure('connections') === 0, 'both ends');
    // The record of this test is no part of what is measured.
    test.connections.clear();
    test.accepts.length = 0;
  };
  for (let i = 0; i < 5; i++) await round(500);
  const before = process.memoryUsage.rss();
  for (let i = 0; i < 10; i++) await round(500);
  const grown = process.memoryUsage.rss() - before;
  t.ok(grown < 30_000_000, `${grown} bytes more: 5,000 connections at 6 KB each`);
  for (const name of ['connections', 'relays', 'queued_bytes', 'timers', 'pipes'])
    t.equal(test.figure(name), 0, name);
  t.ok(test.figure('accepted_total') === 7_500);
});
