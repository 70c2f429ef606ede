/** `ferrule demo` as a child of a test, and a look at what it has left in the system. */

import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { spawnNode } from './node-child.ts';

const FERRULE = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));

/** For everything that happens on a machine that runs other tests as well. */
const DEADLINE_MS = 60_000;
const POLL_MS = 20;

/** How a demo ended. */
export interface DemoEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A demo that was started by a test. */
export class Demo {
  readonly pid: number;
  readonly ended: Promise<DemoEnd>;
  /** Everything it said so far. */
  stdout = '';
  stderr = '';
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly temporary: string;

  constructor(child: ChildProcessWithoutNullStreams, temporary: string) {
    this.child = child;
    this.temporary = temporary;
    this.pid = child.pid!;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = once(child, 'close').then(([status, signal]) => {
      const { stdout, stderr } = this;
      return { status, signal, stdout, stderr };
    });
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Waits until `look` finds something. Throws when the demo ends before, with what it said. */
  async until<T>(what: string, look: () => T | undefined): Promise<T> {
    return poll(what, () => {
      const found = look();
      if (found === undefined && this.child.exitCode !== null) {
        throw new Error(`the demo ended before ${what}:\n${this.stderr}`);
      }
      return found;
    });
  }

  /** Waits until clients and servers talk. */
  async traffic(): Promise<void> {
    await this.until('traffic', () => /of the server's|and of the server/.exec(this.stderr)?.[0]);
  }

  /** Full names of its namespaces. */
  namespaces(): string[] {
    return namesIn('/run/netns').filter((name) => name.startsWith(this.prefix));
  }

  /** Processes of this demo, itself excepted, with their command lines. */
  processes(): { readonly pid: number; readonly command: string }[] {
    return namesIn('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== this.pid)
      .map((name) => ({ pid: Number(name), command: commandOf(name), folder: linkOf(`/proc/${name}/cwd`) }))
      .filter(({ command, folder }) => command.includes(this.prefix) || folder.includes(`/${this.prefix}`));
  }

  /** Everything that should be gone when it is. */
  leftovers(): string[] {
    return [
      ...this.processes().map(({ pid, command }) => `process ${pid}: ${command}`),
      ...this.namespaces().map((name) => `namespace ${name}`),
      ...namesIn(this.temporary).map((name) => `file ${name}`),
    ];
  }

  /** Waits until nothing is left of it. Throws with the list when something stays. */
  async gone(): Promise<void> {
    await poll(
      'the clean-up',
      () => (this.leftovers().length === 0 ? true : undefined),
      () => this.leftovers().join('\n'),
    );
  }

  private get prefix(): string {
    return `ferrule-demo-${this.pid}-`;
  }
}

/** Options of a start. */
export interface DemoStart {
  readonly env?: NodeJS.ProcessEnv;
  /** Runs it as somebody else; needs root. */
  readonly uid?: number;
  /** Keeps temporary files where an earlier demo of the test has them. */
  readonly temporary?: string;
}

/** Starts a demo, with a folder for temporary files of its own; killed at the end of the test if it still runs. */
export function startDemo(t: Test, args: readonly string[], options: DemoStart = {}): Demo {
  const temporary = options.temporary ?? temporaryFolder(t);
  const child = spawnNode([FERRULE, 'demo', ...args], {
    env: { ...process.env, ...options.env, TMPDIR: temporary },
    // Readable for every user, which the checkout may not be.
    cwd: '/',
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  const demo = new Demo(child, temporary);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await demo.ended;
    // The janitor needs the folder that is removed next.
    await poll('the end of its processes', () => (demo.processes().length === 0 ? true : undefined));
  });
  return demo;
}

/** A folder for temporary files everybody may use, as /tmp is. */
export function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-test-'));
  chmodSync(folder, 0o1777);
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }));
  return folder;
}

/** Calls `look` until it finds something. Throws after a minute, with what `explain` says. */
export async function poll<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  explain = () => '',
): Promise<T> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`${what} took too long\n${explain()}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function namesIn(folder: string): string[] {
  return attempt([], () => readdirSync(folder));
}

function commandOf(pid: string): string {
  return attempt('', () => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
}

function linkOf(path: string): string {
  return attempt('', () => readlinkSync(path));
}

/** Processes end and files go while we look. */
function attempt<T>(otherwise: T, look: () => T): T {
  try {
    return look();
  } catch (error) {
    if (error instanceof Error && 'code' in error) return otherwise;
    throw error;
  }
}
