/** Deadlines of gRPC calls: one timer for all, and who is told when. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { CallDeadlines } from '../../proxy/forward/call-deadlines.ts';
import type { Exchange } from '../../proxy/model/exchange.ts';
import type { Engine } from '../../proxy/native/engine.ts';
import { seeded } from '../support/balance.ts';
import { eventually } from '../support/proxy.ts';

interface Call {
  readonly dueMs: number;
  deadlinePlace: number;
  /** When it was told to be overdue. */
  toldMs?: number;
}

function start() {
  const told: Call[] = [];
  const engine = { nowMs: () => performance.now() } as unknown as Engine;
  const deadlines = new CallDeadlines(engine, {
    overdue(exchange) {
      const call = exchange as unknown as Call;
      call.toldMs = performance.now();
      told.push(call);
      deadlines.remove(exchange);
    },
  });
  const begin = (afterMs: number): Call => {
    const call: Call = { dueMs: performance.now() + afterMs, deadlinePlace: -1 };
    deadlines.add(call as unknown as Exchange);
    return call;
  };
  const end = (call: Call) => deadlines.remove(call as unknown as Exchange);
  return { told, begin, end };
}

t.test('calls are told when they are overdue, and not before', async (t) => {
  const { told, begin, end } = start();
  const chance = seeded(1);
  const calls = Array.from({ length: 300 }, () => begin(chance() * 200));
  const over = calls.filter((_, index) => index % 3 === 0);
  const far = begin(3e14);
  for (const call of over) end(call);
  await eventually('all that are left', () => told.length === 200 || undefined);
  t.notOk(
    told.some((call) => over.includes(call)),
    'none that has ended',
  );
  const late = told.map(({ dueMs, toldMs }) => (toldMs ?? 0) - dueMs);
  t.ok(Math.min(...late) >= 99, `${Math.min(...late)} ms after it was due`);
  t.ok(Math.max(...late) < 1_000, `${Math.max(...late)} ms after it was due`);
  t.equal(far.toldMs, undefined);
  end(far);
  t.equal(far.deadlinePlace, -1);
});

t.test('a call that is due before the others is not late for them', async (t) => {
  const { told, begin, end } = start();
  const slow = begin(60_000);
  const quick = begin(10);
  await eventually('the quick one', () => told.length > 0 || undefined);
  t.strictSame(told, [quick]);
  t.ok((quick.toldMs ?? 0) - quick.dueMs < 1_000);
  end(slow);
});

t.test('what ends because another one did is not told again', async (t) => {
  const told: Call[] = [];
  const calls: Call[] = [1, 2].map(() => ({ dueMs: performance.now(), deadlinePlace: -1 }));
  const engine = { nowMs: () => performance.now() } as unknown as Engine;
  const deadlines = new CallDeadlines(engine, {
    overdue(exchange) {
      told.push(exchange as unknown as Call);
      for (const call of calls) deadlines.remove(call as unknown as Exchange);
    },
  });
  for (const call of calls) deadlines.add(call as unknown as Exchange);
  await eventually('one', () => told.length > 0 || undefined);
  await sleep(0);
  t.equal(told.length, 1);
});
