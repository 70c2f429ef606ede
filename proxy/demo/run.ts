/**
 * One run of the demo: its folder, its janitor and its processes. Nothing is started past it, so nothing is left behind,
 * however the run ends.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, chownSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EXIT, UserError } from '../core/errors.ts';
import { NAMESPACES, ownRunId, PROCESSES, type RunId, removeRun, runFolder } from './leftovers.ts';
import { Program } from './program.ts';
import { programPath } from './programs.ts';

/** Who a process runs as; it has no other groups. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** How a process of the run is started. */
export interface StartOptions {
  /** Name of the network namespace it runs in; the demo's own when absent. */
  readonly namespace?: string | undefined;
  /** The demo's own user when absent. */
  readonly user?: User | undefined;
  readonly env?: NodeJS.ProcessEnv;
  /** Opens a channel for messages (Node programs only). */
  readonly channel?: boolean;
}

/**
 * Enters itself into the register before it becomes the program: when the demo dies in between, either its janitor finds the
 * entry, or the register is gone and so is this shell. Field 22 of /proc/PID/stat is the start; exec keeps it.
 */
const ENTER = `read -r ${'_ '.repeat(21)}start _ </proc/$$/stat; mkdir "$0/$$-$start"; exec "$@"`;

/** Ends at a line (the demo has cleaned up) and becomes the janitor at the end of the pipe (the demo is dead). */
const WATCH = 'if read -r _; then exit 0; fi; exec "$@"';

/** The folder and the processes of one attempt to run the demo. */
export class Run {
  readonly id: RunId;
  /** Absolute; everybody may enter it, what is secret in it has a mode of its own. */
  readonly folder: string;
  private readonly janitor: ChildProcess;

  /** @throws UserError when the folder cannot be made */
  constructor() {
    this.id = ownRunId();
    this.folder = runFolder(this.id);
    const script = new URL(
      import.meta.url.endsWith('.ts') ? './janitor.ts' : './janitor.js',
      import.meta.url,
    );
    // Before the folder, so that there is no moment without a guard. A session of its own: Ctrl-C is not for it.
    this.janitor = spawn(
      'sh',
      ['-c', WATCH, 'ferrule-demo-janitor', process.execPath, fileURLToPath(script), this.id],
      { stdio: ['pipe', 'ignore', 'ignore'], detached: true, env: cleanEnvironment() },
    );
    try {
      mkdirSync(this.folder, { mode: 0o755 });
      mkdirSync(join(this.folder, PROCESSES));
    } catch (error) {
      this.dismissJanitor();
      throw new UserError(`the folder of the demo cannot be made: ${(error as Error).message}`, EXIT.os, {
        cause: error,
      });
    }
  }

  /** Full name of a namespace of this run. */
  namespace(label: string): string {
    return `${this.id}-${label}`;
  }

  /** Makes a folder that only its owner may enter. */
  makeFolder(name: string, owner: User | undefined): string {
    const path = join(this.folder, name);
    mkdirSync(path, { mode: 0o700 });
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
    return path;
  }

  /** Writes a file; `owner` makes it secret. @returns its path */
  writeFile(name: string, text: string, owner?: User): string {
    const path = join(this.folder, name);
    writeFileSync(path, text, { mode: owner === undefined ? 0o644 : 0o600, flag: 'wx' });
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
    return path;
  }

  /** Puts a secret file where there may be one already: readers see the old or the new one, never a part. */
  replaceFile(name: string, text: string, owner: User): void {
    renameSync(this.writeFile(`${name}.new`, text, owner), join(this.folder, name));
  }

  /** Adds to a file that a program of the run has made. */
  appendFile(name: string, text: string): void {
    appendFileSync(join(this.folder, name), text);
  }

  /** Starts a program that runs until the end of the run. */
  start(name: string, command: readonly string[], options: StartOptions = {}): Program {
    const child = spawn('sh', ['-ec', ENTER, join(this.folder, PROCESSES), ...enter(command, options)], {
      stdio: options.channel === true ? ['ignore', 'pipe', 'pipe', 'ipc'] : ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: { ...cleanEnvironment(), ...options.env },
      cwd: this.folder,
    });
    return new Program(name, child);
  }

  /**
   * Runs a program to its end.
   * @param name what to call it when it fails
   * @throws UserError with what it said when it fails
   */
  async execute(name: string, command: readonly string[], options: StartOptions = {}): Promise<void> {
    const { status, reason } = await this.start(name, command, options).ended;
    if (status !== 0) throw new UserError(`${name}: ${reason}`, EXIT.unavailable);
  }

  /** Ends every process and removes everything. */
  async remove(): Promise<void> {
    await removeRun(this.id);
    this.dismissJanitor();
  }

  private dismissJanitor(): void {
    // It may have been killed; then nobody reads this.
    this.janitor.stdin?.on('error', () => this.janitor.stdin?.destroy());
    this.janitor.stdin?.end('done\n');
  }
}

/** Nsenter becomes the program, so its pid is the program's. */
function enter(command: readonly string[], { namespace, user }: StartOptions): string[] {
  const [name, ...args] = command;
  const program = [programPath(name) ?? name, ...args];
  if (namespace === undefined && user === undefined) return program;
  const where = namespace === undefined ? [] : [`--net=${NAMESPACES}/${namespace}`];
  const who = user === undefined ? [] : ['-S', String(user.uid), '-G', String(user.gid)];
  return [programPath('nsenter') ?? 'nsenter', ...where, ...who, '--', ...program];
}

/** Without the settings of the user's own proxy: they would override the configurations of the demo. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('FERRULE_') || name === 'FERRULE_NATIVE',
  );
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}
