/** Processes of a run: started in groups of their own, and ended with everything they started. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../../proxy/core/errors.ts';

/** Enough for a stack trace or the mistakes of a configuration; a process that talks all the time is not kept whole. */
const LAST_WORDS_CHARS = 4000;
/** Every proxy here is ready within a second; a machine under load may need some more. */
const READY_TIMEOUT_MS = 15_000;
/** Short against the start of any proxy, long against the cost of a failed connect. */
const READY_POLL_MS = 2;
/** Every proxy here ends within a tenth of that when it drops its connections. */
const STOP_TIMEOUT_MS = 2000;

const live = new Set<Job>();

/** Ends every process of this run, at once. For exits of every kind: it does not wait. */
export function killAllJobs(): void {
  for (const job of live) job.kill();
}

/** Ends every process of this run and waits until they are gone. */
export async function stopAllJobs(): Promise<void> {
  await Promise.all([...live].map((job) => job.stop()));
}

/** How to start a process. */
export interface JobOptions {
  readonly cwd?: string;
  /** User and group to run as; this process's own unless given. */
  readonly user?: number | undefined;
}

/** A running process and all its descendants. */
export class Job {
  readonly name: string;
  /** Of the first process, which leads the group. */
  readonly pid: number;
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterableIterator<string>;
  private lastWords = '';
  private ended: string | undefined;

  private constructor(name: string, child: ChildProcess, pid: number) {
    this.name = name;
    this.child = child;
    this.pid = pid;
    this.lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.lastWords = (this.lastWords + text).slice(-LAST_WORDS_CHARS);
    });
    child.on('exit', (code, signal) => {
      this.ended = signal === null ? `exit status ${code}` : `signal ${signal}`;
    });
    child.on('close', () => live.delete(this));
  }

  /**
   * Starts a process that leads a group of its own, so that the whole group can be measured and ended, and ctrl-C reaches
   * only the harness.
   * @throws UserError when the program cannot be started
   */
  static async start(command: string, args: readonly string[], options: JobOptions = {}): Promise<Job> {
    const user = options.user === undefined ? {} : { uid: options.user, gid: options.user };
    const child = spawn(command, args, {
      cwd: options.cwd,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...user,
    });
    if (child.pid === undefined) {
      const [error] = await once(child, 'error');
      throw new UserError(`cannot start ${command}: ${error.message}`);
    }
    const job = new Job(command.split('/').at(-1)!, child, child.pid);
    live.add(job);
    return job;
  }

  /** The next line of standard output; undefined when it has ended. */
  async nextLine(): Promise<string | undefined> {
    const { value, done } = await this.lines.next();
    return done === true ? undefined : value;
  }

  /** Ends its standard input, for programs that wait for that. */
  endInput(): void {
    this.child.stdin!.end();
  }

  /** @throws UserError with its last words when the process has ended */
  check(): void {
    if (this.ended !== undefined) {
      throw new UserError(`${this.name} ended with ${this.ended}: ${this.lastWords.trim() || 'no message'}`);
    }
  }

  /** Waits until something accepts connections on the port of 127.0.0.1. */
  async waitForPort(port: number): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await canConnect(port))) {
      this.check();
      if (performance.now() > deadline) {
        throw new UserError(`${this.name} does not listen on port ${port} after ${READY_TIMEOUT_MS} ms`);
      }
      await sleep(READY_POLL_MS);
    }
  }

  /** Waits for the end. @throws UserError when it did not end with status 0 */
  async finish(): Promise<void> {
    if (this.ended === undefined) await once(this.child, 'exit');
    if (this.ended !== 'exit status 0') this.check();
  }

  /** Ends the whole group without waiting. */
  kill(): void {
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch (error) {
      // The group has ended already.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /** Asks the first process to end and take its children along, ends the group if it does not, and waits for that. */
  async stop(): Promise<void> {
    if (!live.has(this)) return;
    const closed = once(this.child, 'close');
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.kill(), STOP_TIMEOUT_MS);
    await closed;
    clearTimeout(timer);
    // What the first process left behind, if anything: its pipes were not inherited.
    this.kill();
  }
}

/** A program run to its end. @returns its standard output @throws UserError when it fails or takes too long */
export async function runProgram(
  command: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<string> {
  const job = await Job.start(command, args);
  const timer = setTimeout(() => job.kill(), timeoutMs);
  try {
    const output: string[] = [];
    for (let line = await job.nextLine(); line !== undefined; line = await job.nextLine()) output.push(line);
    await job.finish();
    return output.join('\n');
  } finally {
    clearTimeout(timer);
    await job.stop();
  }
}

async function canConnect(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return false;
    throw error;
  } finally {
    socket.destroy();
  }
}
