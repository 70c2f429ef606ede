import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import t from 'tap';
import { groupCpuSeconds, groupMemory, kilobytes, parseStat } from '../../bench/harness/accounting.ts';

t.test('reads /proc/PID/stat whatever the program is called', async (t) => {
  const stat = (name: string) =>
    `4711 (${name}) S 1 4242 4242 0 -1 4194304 100 0 0 0 150 50 7 3 20 0 1 0 385038 3133440 386`;
  for (const name of ['haproxy', 'a b', 'evil) R 1 2 (3']) {
    t.same(parseStat(stat(name)), { group: 4242, cpuSeconds: 2.1 }, name);
  }
});

t.test('reads /proc/PID/status', async (t) => {
  const text = 'VmRSS:\t    2116 kB\nRssAnon:\t     148 kB\nRssShmem:\t       0 kB\n';
  t.equal(kilobytes(text, 'VmRSS'), 2116);
  t.equal(kilobytes(text, 'RssAnon'), 148);
  t.equal(kilobytes(text, 'Pss'), 0);
});

/** Burns CPU in the main thread, in a thread that ends, and in a child that is waited for; then allocates and rests. */
const BURNER = `
  const { Worker } = require('node:worker_threads');
  const burn = 'const end = process.cpuUsage().user + 300_000; while (process.cpuUsage().user < end);';
  eval(burn);
  require('node:child_process').spawnSync(process.execPath, ['-e', burn]);
  const worker = new Worker(burn, { eval: true });
  worker.on('exit', () => {
    globalThis.held = Buffer.alloc(64 << 20, 1);
    console.log('at rest');
    setInterval(() => {}, 1000);
  });
`;

t.test('counts threads that ended and children that were waited for', async (t) => {
  const child = spawn(process.execPath, ['-e', BURNER], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(createInterface({ input: child.stdout }), 'line');
  const seconds = groupCpuSeconds(child.pid!);
  t.ok(seconds >= 0.85, `three times 0.3 s are ${seconds} s`);
  t.ok(seconds < 10, 'and nobody else is counted');
  const memory = groupMemory(child.pid!);
  t.ok(memory.anonymous > 64 * 1024, `64 MB are ${memory.anonymous} KB`);
  t.ok(memory.rss >= memory.anonymous && memory.rss >= memory.pss && memory.pss > 64 * 1024);
  child.kill('SIGKILL');
  await once(child, 'close');
  t.equal(groupCpuSeconds(child.pid!), 0, 'a group that ended has nobody');
});
