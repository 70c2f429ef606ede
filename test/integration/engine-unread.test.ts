/** Bytes that are given back: many, and more than there is room for. */

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { type Seen, startEngine, type TestEngine, until } from '../support/engine.ts';
import { bytesOf, isStream } from '../support/engine-peers.ts';

const MEGABYTE = 1 << 20;

/** An open connection of an engine to itself. */
async function connected(test: TestEngine): Promise<Seen> {
  const seen = test.connect(test.listen());
  await until(() => seen.count('connected') === 1, 'a connection');
  return seen;
}

/** How long it takes to give back so many MB in pieces of one, in ms: the shortest of three times. */
async function timeToGiveBack(test: TestEngine, megabytes: number): Promise<number> {
  const bytes = Buffer.alloc(MEGABYTE);
  const times: number[] = [];
  while (times.length < 3) {
    const seen = await connected(test);
    const startedMs = performance.now();
    for (let i = 0; i < megabytes; i++) test.engine.unread(seen.id, bytes);
    test.engine.flush();
    times.push(performance.now() - startedMs);
    test.engine.reset(seen.id);
    await until(() => seen.gone, 'the end');
  }
  return Math.min(...times);
}

t.test('what is given back in many pieces, latest first, comes again in order', async (t) => {
  const test = startEngine(t);
  const seen = await connected(test);
  const total = 3_000_000;
  let end = total;
  for (let piece = 1; end > 0; piece = (piece * 7 + 3) % 40_000) {
    const from = Math.max(0, end - piece);
    test.engine.unread(seen.id, bytesOf(1, from, end - from));
    end = from;
  }
  let received = 0;
  let intact = true;
  let again = 0;
  seen.script = {
    data: (_, offset, length) => {
      intact &&= isStream(1, received, test.engine.slab.subarray(offset, offset + length));
      // Some of it once more, to where it was taken from.
      if (received >= again + 500_000) {
        again = received;
        return test.engine.unread(seen.id, test.engine.slab.subarray(offset, offset + length));
      }
      received += length;
    },
  };
  test.engine.resume(seen.id);
  await until(() => received === total, 'every byte');
  t.ok(intact);
});

t.test('to a connection that has ended, nothing is given back, and nobody is wrong', async (t) => {
  const test = startEngine(t);
  const seen = await connected(test);
  // The id of the first connection is the offset of the first output.
  test.engine.reset(seen.id);
  test.engine.flush();
  test.engine.unread(seen.id, Buffer.from('late'));
  await until(() => test.dead.length === 1, 'refused');
  t.same([test.dead[0].id, test.mistaken], [seen.id, []]);
});

t.test('the time it takes grows as the bytes do', async (t) => {
  const test = startEngine(t);
  // More than the allocator keeps for itself: every block's pages are new.
  const [few, many] = [await timeToGiveBack(test, 40), await timeToGiveBack(test, 160)];
  t.comment(`40 MB in ${few.toFixed(1)} ms, 160 MB in ${many.toFixed(1)} ms`);
  t.ok(many < 8 * few, 'four times as many; their square would be 16 times');
});

t.test(
  'more than there is memory for: the connection ends, and no other',
  { skip: process.env.FERRULE_SANITIZER !== undefined && 'sanitizers need more memory than that' },
  async (t) => {
    const script = fileURLToPath(new URL('../support/engine-starved.ts', import.meta.url));
    const limited = 'unset NODE_OPTIONS; ulimit -d 800000 && exec "$@"';
    const child = spawn('/bin/sh', ['-c', limited, 'sh', process.execPath, script]);
    let output = '';
    child.stdout.on('data', (bytes) => (output += bytes));
    child.stderr.on('data', (bytes) => (output += bytes));
    t.teardown(() => child.kill('SIGKILL'));
    await until(() => child.exitCode !== null || child.signalCode !== null, 'the child is done', 60_000);
    t.equal(output, `errno ${constants.errno.ENOMEM}\nserved\n`);
    t.equal(child.exitCode, 0);
  },
);
