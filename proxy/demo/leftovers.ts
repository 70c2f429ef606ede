/**
 * What a demo leaves in the system, and its removal: by the demo itself, by its janitor when the demo was killed, and by the
 * next demo when the janitor was killed too. Everything carries the id of its run: a folder, network namespaces named
 * after it, and in the folder one entry per process it started.
 */

import { spawn } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { programPath } from './programs.ts';

/** `ferrule-demo-PID-START`: of the process of the demo. */
export type RunId = string;

/** Where `ip netns` keeps its names. */
export const NAMESPACES = '/run/netns';

/** Below the folder of a run: a folder per process, `PID-START`, made by the process itself before it becomes what it is. */
export const PROCESSES = 'processes';

const RUN_ID = /^ferrule-demo-(\d+)-(\d+)/;

/** How long a database or sidecar may take to end in order; it has nothing to save. */
const ORDERLY_END_MS = 2_000;

/** SIGKILL needs a moment on a loaded machine; a process in an uninterruptible call is not waited for longer. */
const FORCED_END_MS = 5_000;

const POLL_MS = 10;

/** The id of the run of this process. */
export function ownRunId(): RunId {
  return `ferrule-demo-${process.pid}-${startTicks(process.pid)}`;
}

/** The folder of a run. */
export function runFolder(id: RunId): string {
  return join(tmpdir(), id);
}

/** Ends the processes of a run and removes its namespaces and its folder. Safe to repeat, and to run twice at once. */
export async function removeRun(id: RunId): Promise<void> {
  const folder = runFolder(id);
  await endProcesses(closeRegister(join(folder, PROCESSES)));
  for (const name of namesIn(NAMESPACES)) {
    if (name.startsWith(`${id}-`)) await runQuietly('ip', ['netns', 'del', name]);
  }
  // A child of a killed child may still be writing: the folder is then not empty at the first try.
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}

/** Removes what demos left that were killed together with their janitors. @returns their ids */
export async function removeStaleRuns(): Promise<RunId[]> {
  const own = namesIn(tmpdir()).filter((name) => RUN_ID.test(name) && isOurFolder(join(tmpdir(), name)));
  const namespaces = process.geteuid?.() === 0 ? namesIn(NAMESPACES) : [];
  const ids = new Set([...own, ...namespaces].map((name) => RUN_ID.exec(name)?.[0] ?? ''));
  const stale = [...ids].filter((id) => {
    const [, pid, start] = RUN_ID.exec(id) ?? [];
    return pid !== undefined && startTicks(Number(pid)) !== start;
  });
  for (const id of stale) await removeRun(id);
  return stale;
}

/**
 * When a process started, in clock ticks since boot: together with its pid that names it for good.
 * @returns undefined when there is none, or only the remains of one that ended
 */
export function startTicks(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
  // proc(5): the name, which may contain anything, ends with the last parenthesis; then state (3) … starttime (22).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/**
 * Takes the register away, so that a process just being started cannot enter itself any more and ends, and reads it.
 * Another clean-up may have done so before: then what it took is read.
 */
function closeRegister(register: string): [pid: number, start: string][] {
  const closed = `${register}-closed`;
  try {
    renameSync(register, closed);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return namesIn(closed).map((name) => {
    const [pid, start] = name.split('-');
    return [Number(pid), start];
  });
}

async function endProcesses(processes: readonly (readonly [pid: number, start: string])[]): Promise<void> {
  const living = () => processes.filter(([pid, start]) => startTicks(pid) === start);
  // SIGINT, because PostgreSQL then ends without waiting for its clients, and removes its shared memory.
  const steps = [
    ['SIGINT', ORDERLY_END_MS],
    ['SIGKILL', FORCED_END_MS],
  ] as const;
  for (const [signal, patienceMs] of steps) {
    for (const [pid] of living()) signalGroup(pid, signal);
    const deadline = performance.now() + patienceMs;
    while (living().length > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** Every process of a run leads a group: its children get the signal too. */
function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Made by this user. Names in a folder everybody may write to prove nothing, and we are about to kill by them. */
function isOurFolder(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === process.geteuid?.();
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** A failure means that somebody else was faster, or is found by the next demo. */
function runQuietly(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(programPath(program) ?? program, args, { stdio: 'ignore' });
    child.once('error', () => resolve());
    child.once('close', () => resolve());
  });
}
