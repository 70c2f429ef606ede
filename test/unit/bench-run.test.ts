/** The whole command: what it writes, and what it leaves behind, also when it is interrupted. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { requirePeer } from '../support/peers.ts';

const MAIN = join(import.meta.dirname, '../../bench/main.ts');
const DEADLINE_MS = 60_000;

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

/** Pids of processes that have the folder in their environment or arguments, or work in it. */
function processesOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => {
      try {
        const told = ['environ', 'cmdline'].map((file) => readFileSync(`/proc/${name}/${file}`, 'utf8'));
        return (
          told.some((text) => text.includes(folder)) || readlinkSync(`/proc/${name}/cwd`).startsWith(folder)
        );
      } catch (error) {
        // It ended while we looked, or is a zombie, which has no folder, or is none of ours.
        if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
        throw error;
      }
    })
    .map(Number);
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
  t.same(processesOf(run.folder), [], 'no processes');
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
    // The harness, nginx with a worker, haproxy, wrk.
    await until(() => processesOf(folder).length >= 5, 'proxy, backend and generator run');
    child.kill(signal);
    t.equal((await ended).status, expected);
    await until(() => processesOf(folder).length === 0, `${processesOf(folder)} to end`);
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
