/** Deadlines of connections in TypeScript's hands: coarse, but never early. */

import t from 'tap';
import { type Seen, startEngine, type TestEngine, until } from '../support/engine.ts';
import { dial } from '../support/engine-peers.ts';

/** The engine counts microseconds, performance.now() has its own rounding. */
const ROUNDING_MS = 1;

/** A tick of 16 ms, and what a busy machine adds. */
const LATE_MS = 16 + 2_000;

async function accepted(test: TestEngine, t: Parameters<typeof dial>[0], count: number): Promise<Seen[]> {
  const address = test.listen();
  for (let i = 0; i < count; i++) await dial(t, address);
  await until(() => test.accepts.length === count, 'accepted');
  return test.accepts;
}

/** Sets a deadline and remembers by how much it was late. */
function arm(test: TestEngine, seen: Seen, ms: number, lateBy: Map<Seen, number>): void {
  const startedMs = performance.now();
  seen.script = { deadline: () => lateBy.set(seen, performance.now() - startedMs - ms) };
  test.engine.deadline(seen.id, ms);
}

t.test('each is told once, not early, and not much later', async (t) => {
  const test = startEngine(t);
  const all = await accepted(test, t, 150);
  const lateBy = new Map<Seen, number>();
  for (const [index, seen] of all.entries()) {
    arm(test, seen, 1 + index * 4, lateBy);
    // At every place within the wheel's ticks.
    if (index % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 7));
  }
  await until(() => lateBy.size === all.length, 'all deadlines');
  const late = [...lateBy.values()];
  t.ok(Math.min(...late) >= -ROUNDING_MS, `the earliest by ${Math.min(...late)} ms`);
  t.ok(Math.max(...late) <= LATE_MS, `the latest by ${Math.max(...late)} ms`);
  t.ok(
    all.every((seen) => seen.count('deadline') === 1 && !seen.gone),
    'once, and nothing else is done',
  );
  t.equal(test.figure('timers'), 0);
});

t.test('not early either when the handler that sets it took its time', async (t) => {
  const test = startEngine(t);
  const lateBy = new Map<Seen, number>();
  test.onAccepted = (seen) => {
    const busyUntil = performance.now() + 150;
    while (performance.now() < busyUntil);
    arm(test, seen, 100, lateBy);
  };
  const [seen] = await accepted(test, t, 1);
  await until(() => lateBy.size === 1, 'the deadline');
  t.ok((lateBy.get(seen) ?? -1_000) >= -ROUNDING_MS, `late by ${lateBy.get(seen)} ms`);
});

/** Keeps this thread busy. */
function spend(ms: number): void {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
}

t.test('one that passes while a handler runs is not told when that handler takes it away', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const peers = [await dial(t, address), await dial(t, address)];
  await until(() => test.accepts.length === 2, 'accepted');
  const [cancelled, replaced] = test.accepts;
  const lateBy = new Map<Seen, number>();
  for (const seen of test.accepts) {
    seen.script = {
      data: () => {
        spend(100);
        if (seen === replaced) arm(test, seen, 300, lateBy);
        else test.engine.deadline(seen.id, 0);
      },
    };
    test.engine.resume(seen.id);
    test.engine.deadline(seen.id, 50);
  }
  for (const { socket } of peers) socket.write('.');
  await until(() => lateBy.has(replaced), 'the later deadline');
  t.ok((lateBy.get(replaced) ?? -1_000) >= -ROUNDING_MS, `late by ${lateBy.get(replaced)} ms`);
  t.strictSame([cancelled.count('deadline'), replaced.count('deadline')], [0, 1]);
});

t.test('one that passed in the batch that sets it anew is not told', async (t) => {
  const test = startEngine(t);
  const all = await accepted(test, t, 3);
  const lateBy = new Map<Seen, number>();
  for (const seen of all) {
    seen.script = {
      deadline: () => {
        const [cancelled, replaced] = all.filter((other) => other !== seen);
        test.engine.deadline(cancelled.id, 0);
        arm(test, replaced, 300, lateBy);
      },
    };
    test.engine.deadline(seen.id, 50);
  }
  await until(() => lateBy.size === 1, 'the later deadline');
  const [replaced] = lateBy.keys();
  t.ok((lateBy.get(replaced) ?? -1_000) >= -ROUNDING_MS, `late by ${lateBy.get(replaced)} ms`);
  t.strictSame(all.map((seen) => seen.count('deadline')).sort(), [0, 1, 1]);
});

t.test('set again it starts anew; 0 takes it away; the end of a connection too', async (t) => {
  const test = startEngine(t);
  const [again, none, ended, witness] = await accepted(test, t, 4);
  const lateBy = new Map<Seen, number>();
  for (const seen of [again, none, ended]) arm(test, seen, 100, lateBy);
  arm(test, again, 400, lateBy);
  test.engine.deadline(none.id, 0);
  test.engine.reset(ended.id);
  arm(test, witness, 700, lateBy);
  await until(() => lateBy.has(witness), 'a later deadline');
  t.strictSame(
    [again, none, ended].map((seen) => seen.count('deadline')),
    [1, 0, 0],
  );
  t.ok((lateBy.get(again) ?? -1_000) >= -ROUNDING_MS, 'counted from when it was set last');
  t.equal(test.figure('timers'), 0);
});

t.test('idle: bytes either way put it off', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const peers = [await dial(t, address), await dial(t, address)];
  await until(() => test.accepts.length === 2, 'accepted');
  const [, writing] = test.accepts;
  const startedMs = performance.now();
  let lastMs = startedMs;
  const silences: number[] = [];
  for (const seen of test.accepts) {
    seen.script = { data: () => {}, deadline: () => silences.push(performance.now() - lastMs) };
    test.engine.resume(seen.id);
    test.engine.deadline(seen.id, 300, true);
  }
  test.engine.flush();
  for (let i = 0; i < 10; i++) {
    // Before the bytes move: what the deadline counts from is not earlier.
    lastMs = performance.now();
    peers[0].socket.write('.');
    test.engine.send(writing.id, Buffer.from('.'));
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  await until(() => silences.length === 2, 'both deadlines');
  t.ok(Math.min(...silences) >= 300 - ROUNDING_MS, `after ${silences} ms of silence`);
});

t.test('idle: bytes that a slow handler sends put it off from when they are sent', async (t) => {
  const test = startEngine(t);
  const address = test.listen();
  const { socket } = await dial(t, address);
  await until(() => test.accepts.length === 1, 'accepted');
  const [seen] = test.accepts;
  let sentMs = 0;
  let silentMs = 0;
  seen.script = {
    data: () => {
      spend(150);
      sentMs = performance.now();
      test.engine.send(seen.id, Buffer.from('.'));
    },
    deadline: () => {
      silentMs = performance.now() - sentMs;
    },
  };
  test.engine.resume(seen.id);
  test.engine.deadline(seen.id, 200, true);
  socket.write('.');
  await until(() => silentMs > 0, 'the deadline');
  t.ok(silentMs >= 200 - ROUNDING_MS, `after ${silentMs} ms of silence`);
});

t.test(
  'longer than one turn of the wheel',
  { skip: process.env.FERRULE_SOAK !== '1' && 'takes 20 s' },
  async (t) => {
    const test = startEngine(t);
    const lateBy = new Map<Seen, number>();
    const all = await accepted(test, t, 3);
    for (const [index, seen] of all.entries()) arm(test, seen, 16_300 + index * 1_000, lateBy);
    await until(() => lateBy.size === 3, 'all deadlines', 40_000);
    t.ok(Math.min(...lateBy.values()) >= -ROUNDING_MS);
    t.ok(Math.max(...lateBy.values()) <= LATE_MS);
  },
);
