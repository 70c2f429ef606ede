/** The whole command: what it writes, and what it leaves behind, also when it is interrupted. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { parseStat } from '../../bench/harness/accounting.ts';
import { requirePeer } from '../support/peers.ts';

const MAIN = join(import.meta.dirname, '../../bench/main.ts');
/** Below the time that tap gives a file. */
const DEADLINE_MS = 20_000;

/** A run with a folder for temporary files of its own, by which everything it starts can be recognised. */
function startBench(t: Test, ...args: string[]): { readonly child: ChildProcess; readonly folder: string } {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-bench-run-'));
  chmodSync(folder, 0o755);
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, TMPDIR: folder } });
  t.teardown(() => {
    child.kill('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  });
  return { child, folder };
}

async function outcome(child: ChildProcess) {
  let [stdout, stderr] = ['', ''];
  child.stdout!.on('data', (text) => {
    stdout += text;
  });
  child.stderr!.on('data', (text) => {
    stderr += text;
  });
  const [status] = await once(child, 'close');
  return { status, stdout, stderr };
}

/** Process groups other than ours in which somebody has the folder in the environment or the arguments. */
function groupsOf(folder: string): Set<number> {
  const ours = parseStat(readFileSync('/proc/self/stat', 'utf8')).group;
  const groups = processes()
    .filter(({ path }) =>
      ['environ', 'cmdline'].some((file) => readProc(`${path}/${file}`)?.includes(folder)),
    )
    .map(({ group }) => group)
    .filter((group) => group !== ours);
  return new Set(groups);
}

/** How many processes of the groups live. A zombie has ended, whenever somebody gets to hear of it. */
function livingIn(groups: ReadonlySet<number>): number {
  return processes().filter(({ group, isZombie }) => groups.has(group) && !isZombie).length;
}

function processes() {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ path: `/proc/${name}`, stat: readProc(`/proc/${name}/stat`) }))
    .filter(({ stat }) => stat !== undefined)
    .map(({ path, stat }) => ({ path, ...parseStat(stat!), isZombie: /\) Z \d/.test(stat!) }));
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    // It ended while we looked, or is none of ours.
    if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await sleep(20);
  }
}

t.test('writes all reports and leaves nothing behind', async (t) => {
  if (requirePeer(t, 'haproxy') === undefined || requirePeer(t, 'nginx') === undefined) return;
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-bench-out-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = (name: string) => join(folder, name);
  const outputs = ['--json', file('r.json'), '--markdown', file('r.md'), '--svg', file('r.svg')];
  const peers = ['--peer', 'haproxy-splice-auto,haproxy-splice-full'];
  const run = startBench(t, '--scenario', 'start', '--rounds', '2', ...peers, ...outputs);
  const { status, stdout, stderr } = await outcome(run.child);
  t.equal(status, 0, stderr);
  t.match(stderr, /start first-byte 2\/2 haproxy-splice-full +\d+(\.\d+)? ms/);
  t.equal(readFileSync(file('r.md'), 'utf8'), stdout);
  t.match(readFileSync(file('r.svg'), 'utf8'), /^<svg .*<\/svg>\n$/s);
  const report = JSON.parse(readFileSync(file('r.json'), 'utf8'));
  t.match(report.versions.join('\n'), /^Linux .*Node v24.*HAProxy \d.*load: nginx \d/s);
  t.equal(report.scenarios[0].cases[0].results[1].measurements.length, 2);
  t.same(readdirSync(run.folder), [], 'no temporary files');
  t.equal(groupsOf(run.folder).size, 0, 'no processes');
});

for (const [signal, expected] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  t.test(`${signal} ends everything`, async (t) => {
    if (requirePeer(t, 'haproxy') === undefined || requirePeer(t, 'nginx') === undefined) return;
    if (requirePeer(t, 'wrk') === undefined) return;
    const peers = ['--peer', 'haproxy-splice-auto'];
    const { child, folder } = startBench(t, '--scenario', 'tcp-request', '--seconds', '60', ...peers);
    const ended = outcome(child);
    await until(() => groupsOf(folder).size === 3, 'nginx, haproxy and wrk run');
    const groups = groupsOf(folder);
    t.teardown(() => {
      for (const group of groups) if (livingIn(new Set([group])) > 0) process.kill(-group, 'SIGKILL');
    });
    child.kill(signal);
    t.equal((await ended).status, expected);
    await until(() => livingIn(groups) === 0, 'all of them ended');
    t.same(readdirSync(folder), [], 'no temporary files');
  });
}

t.test('mistakes end with their own status before anything starts', async (t) => {
  const { status, stderr, stdout } = await outcome(startBench(t, '--peer', 'haproxy-splice-atuo').child);
  t.equal(status, 64);
  t.match(stderr, /^bench: --peer: there is no "haproxy-splice-atuo"; did you mean haproxy-splice-auto\?/);
  t.equal(stdout, '');
});

t.test('--list names every scenario and peer', async (t) => {
  const { status, stdout } = await outcome(startBench(t, '--list').child);
  t.equal(status, 0);
  t.match(stdout, /tcp-bulk +bulk.*start +process.*ferrule +Ferrule.*direct +no proxy/s);
});
