/** Batches of the access log: when they leave, how much waits, and that what is lost is counted. */
import { PassThrough, Writable } from 'node:stream';
import { mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { AccessOutput } from '../../proxy/control/access-output.ts';
import { log } from '../../proxy/core/log.ts';
import { AccessLines } from '../../proxy/forward/access-lines.ts';
import type { ToWorker } from '../../proxy/model/messages.ts';

const LINE = `${'x'.repeat(1023)}\n`;
/** What may wait. */
const ROOM_LINES = 2048;

/** Lines whose batches nobody writes yet, in a time that stands still. */
function start(t: Test) {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const batches: string[] = [];
  const state = { dropped: 0 };
  const lines = new AccessLines(
    (batch) => batches.push(batch),
    (count) => {
      state.dropped += count;
    },
  );
  const add = (count: number) => {
    for (let i = 0; i < count; i++) lines.add(LINE);
  };
  return { lines, batches, state, add };
}

t.test('a batch leaves after 100 ms', async (t) => {
  const { lines, batches } = start(t);
  lines.add('a\n');
  mock.timers.tick(60);
  lines.add('b\n');
  mock.timers.tick(39);
  t.strictSame(batches, []);
  mock.timers.tick(1);
  t.strictSame(batches, ['a\nb\n']);
  lines.written(true);
  mock.timers.tick(1_000);
  t.equal(batches.length, 1, 'an empty one never does');
});

t.test('64 KB leave at once, and the next batch when they are written', async (t) => {
  const { lines, batches, state, add } = start(t);
  add(64);
  t.strictSame(batches, [LINE.repeat(64)]);
  add(70);
  mock.timers.tick(1_000);
  t.equal(batches.length, 1, 'one at a time');
  lines.written(true);
  t.strictSame(batches.slice(1), [LINE.repeat(70)]);
  add(1);
  lines.written(true);
  t.equal(batches.length, 2, 'a small one waits for others again');
  mock.timers.tick(100);
  t.strictSame(batches.slice(2), [LINE]);
  t.equal(state.dropped, 0);
});

t.test('what does not fit is dropped and counted; so is what could not be written', async (t) => {
  const { lines, batches, state, add } = start(t);
  add(64);
  add(ROOM_LINES);
  t.equal(state.dropped, 0);
  add(3);
  t.equal(state.dropped, 3);
  lines.written(false);
  t.equal(state.dropped, 3 + 64);
  t.strictSame(batches.slice(1), [LINE.repeat(ROOM_LINES)], 'what waited is whole');
  add(5);
  t.equal(lines.take(), LINE.repeat(5), 'the end');
  t.equal(lines.take(), '');
});

/** A worker that notes what it is told, and answers when it is asked for its last lines. */
function worker(output: () => AccessOutput, last: string | undefined) {
  const told: ToWorker[] = [];
  return {
    told,
    postMessage(message: ToWorker): void {
      told.push(message);
      if (message.type === 'access-end' && last !== undefined)
        output().write(this, { type: 'access', lines: last, last: true });
    },
  };
}

/** What the log says from here on. */
function listen(t: Test): string[] {
  const said: string[] = [];
  const before = log.sink;
  log.sink = (line) => void said.push(line);
  t.teardown(() => {
    log.sink = before;
  });
  return said;
}

const batch = (lines: string) => ({ type: 'access', lines, last: false }) as const;

t.test('a worker hears what became of its batch, and the process nothing of errors', async (t) => {
  const stream = new Writable({
    decodeStrings: false,
    autoDestroy: false,
    write(chunk, _encoding, done) {
      done(String(chunk).startsWith('bad') ? new Error('EPIPE') : null);
    },
  });
  stream.on('error', () => t.fail('that would end the process'));
  const said = listen(t);
  const output = new AccessOutput(stream);
  const source = worker(() => output, undefined);
  output.write(source, batch('good\n'));
  output.write(source, batch('bad\n'));
  output.write(source, batch('bad too\n'));
  while (source.told.length < 3) await setImmediate();
  t.strictSame(
    source.told,
    [true, false, false].map((whole) => ({ type: 'access-written', whole })),
  );
  t.equal(said.length, 1, 'said once');
  t.match(said[0], /warn {2}the access log cannot be written: its lines are dropped reason=EPIPE/);
});

t.test('the end waits for workers and a reader that reads', async (t) => {
  const said = listen(t);
  const slow = new PassThrough({ highWaterMark: 1 });
  const output = new AccessOutput(slow);
  const [one, other] = [worker(() => output, 'one\n'), worker(() => output, '')];
  output.write(one, batch('zero\n'));
  const ended = output.end([one, other]);
  const read: string[] = [];
  slow.on('data', (bytes) => read.push(String(bytes)));
  await ended;
  t.equal(read.join(''), 'zero\none\n');
  t.strictSame(said, []);
});

t.test('the end waits for nobody who hangs', async (t) => {
  const said = listen(t);
  const stuck = new AccessOutput(new Writable({ write: () => undefined }));
  stuck.write(
    worker(() => stuck, undefined),
    batch('never read\n'),
  );
  const startedMs = performance.now();
  await stuck.end([]);
  t.ok(performance.now() - startedMs > 900, 'a second');
  t.match(said.join(''), /warn {2}nobody read the end of the access log/);
  said.length = 0;
  const alone = new AccessOutput(new PassThrough());
  await alone.end([worker(() => alone, undefined)]);
  t.strictSame(said, [], 'nothing is lost for all we know');
});
