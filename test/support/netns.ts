/**
 * Network namespaces for tests: made, linked, used and removed. Names carry the pid of the test, so that files run in
 * parallel and what a killed test left behind is found by the next one.
 */

import { type ChildProcess, type SpawnOptions, spawn as spawnProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import { findPeer } from './peers.ts';

/** One namespace of a test. */
export interface Namespace {
  /** As `ip netns` knows it. */
  readonly name: string;
  /** For `nsenter --net=` and `ferrule init --netns`. */
  readonly path: string;
}

/** One end of a link: the interface is called `eth0` unless told otherwise. */
export interface LinkEnd {
  readonly namespace: Namespace;
  readonly device?: string;
  /** Addresses with prefix length, of either family. */
  readonly addresses: readonly string[];
}

/** What a program said. */
export interface ExecResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `ferrule-PID-COUNTER-LABEL`. */
const NAME = /^ferrule-(\d+)-\d+-/;

/** No program a test runs to its end takes this long, on a loaded machine either. */
const EXEC_TIMEOUT_MS = 60_000;

let counter = 0;
let sweptStale = false;
const children = new Map<string, Set<ChildProcess>>();

/** Whether this machine lets us make namespaces; the reason is for `t.skip`. */
export function canUseNamespaces(): { readonly ok: true } | { readonly ok: false; readonly reason: string } {
  if (process.getuid?.() !== 0) return { ok: false, reason: 'network namespaces need root' };
  for (const program of ['ip', 'nsenter']) {
    if (findPeer(program) === undefined) return { ok: false, reason: `${program} is not installed` };
  }
  const tried = run('unshare', ['--net', 'true']);
  return tried.status === 0
    ? { ok: true }
    : { ok: false, reason: `no network namespaces here: ${tried.stderr.trim()}` };
}

/** Makes a namespace with its loopback up. It and everything that runs in it are gone when the test ends. */
export function createNamespace(t: Test, label: string): Namespace {
  removeStale();
  const name = `ferrule-${process.pid}-${counter++}-${label}`;
  ip('netns', 'add', name);
  t.teardown(() => removeNamespace(name));
  ip('-n', name, 'link', 'set', 'lo', 'up');
  return { name, path: `/run/netns/${name}` };
}

/** Joins two namespaces by a veth pair. IPv6 addresses are usable at once (no duplicate address detection). */
export function link(a: LinkEnd, b: LinkEnd): void {
  const [deviceA, deviceB] = [a.device ?? 'eth0', b.device ?? 'eth0'];
  const peer = ['peer', 'name', deviceB, 'netns', b.namespace.name];
  ip('link', 'add', 'name', deviceA, 'netns', a.namespace.name, 'type', 'veth', ...peer);
  for (const [{ namespace, addresses }, device] of [
    [a, deviceA],
    [b, deviceB],
  ] as const) {
    for (const address of addresses) {
      const nodad = address.includes(':') ? ['nodad'] : [];
      ip('-n', namespace.name, 'addr', 'add', address, 'dev', device, ...nodad);
    }
    ip('-n', namespace.name, 'link', 'set', device, 'up');
  }
}

/** Sends everything that has no better route through `gateway`. */
export function routeDefault(namespace: Namespace, gateway: string): void {
  ip('-n', namespace.name, gateway.includes(':') ? '-6' : '-4', 'route', 'add', 'default', 'via', gateway);
}

/** Runs a program in the namespace to its end. */
export function exec(
  namespace: Namespace,
  command: string,
  args: readonly string[] = [],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv } = {},
): ExecResult {
  return run('nsenter', [`--net=${namespace.path}`, '--', command, ...args], options);
}

/** Starts a program in the namespace; killed at the end of the test unless it ended by itself. */
export function spawn(
  namespace: Namespace,
  command: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): ChildProcess {
  // nsenter replaces itself by the program, so the child's pid is the program's.
  const child = spawnProcess('nsenter', [`--net=${namespace.path}`, '--', command, ...args], options);
  const mine = children.get(namespace.name) ?? new Set();
  children.set(namespace.name, mine.add(child));
  child.once('exit', () => mine.delete(child));
  return child;
}

async function removeNamespace(name: string): Promise<void> {
  for (const child of children.get(name) ?? []) {
    const ended = once(child, 'exit');
    if (child.kill('SIGKILL')) await ended;
  }
  children.delete(name);
  endProcesses(name);
  ip('netns', 'del', name);
}

/** Ends what still runs in the namespace: children of children. Whoever is in there was started there by a test. */
function endProcesses(name: string): void {
  for (const pid of run('ip', ['netns', 'pids', name])
    .stdout.split('\n')
    .filter((text) => text !== '')) {
    signal(Number(pid), 'SIGKILL');
  }
}

/** @returns false when there is no such process (any more) */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

/** A test killed half-way leaves its namespaces: the pid in the name tells that nobody misses them. */
function removeStale(): void {
  if (sweptStale) return;
  sweptStale = true;
  for (const line of run('ip', ['netns', 'list']).stdout.split('\n')) {
    const name = line.split(' ')[0];
    const pid = NAME.exec(name)?.[1];
    if (pid === undefined || signal(Number(pid), 0)) continue;
    endProcesses(name);
    // Another test may sweep at the same moment: gone is gone.
    run('ip', ['netns', 'del', name]);
  }
}

function ip(...args: string[]): void {
  const { status, stderr } = run('ip', args);
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

function run(
  command: string,
  args: readonly string[],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv } = {},
): ExecResult {
  const { status, stdout, stderr, error } = spawnSync(findPeer(command) ?? command, args, {
    encoding: 'utf8',
    input: options.input ?? '',
    env: options.env ?? process.env,
    timeout: EXEC_TIMEOUT_MS,
  });
  return { status: status ?? -1, stdout: stdout ?? '', stderr: `${stderr ?? ''}${error?.message ?? ''}` };
}
