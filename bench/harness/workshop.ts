/** The folder of a run and the generators built in it. */

import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, parse } from 'node:path';
import { makeIdentities } from './identities.ts';
import { runProgram } from './job.ts';
import { needProgram, projectRoot } from './machine.ts';
import type { Identities, Workshop } from './model.ts';

/** Each generator compiles in two seconds. */
const COMPILE_TIMEOUT_MS = 120_000;

const ADDON = '.node';
const NODE_HEADERS = join(dirname(dirname(process.execPath)), 'include/node');
const ADDON_FLAGS = ['-shared', '-fPIC', '-DADDON', '-I', NODE_HEADERS];
const LIBRARIES: Readonly<Record<string, readonly string[]>> = { 'tls-relay': ['-lssl', '-lcrypto'] };

/** A folder that proxies of another user may enter, and that is removed when the process ends. */
export class RunFolder {
  readonly path: string;
  private readonly tools = new Map<string, Promise<string>>();
  private made: Promise<Identities> | undefined;

  constructor() {
    this.path = mkdtempSync(join(tmpdir(), 'ferrule-bench-'));
    chmodSync(this.path, 0o755);
    mkdirSync(join(this.path, 'tools'));
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  /** What a scenario needs, with a folder named after it. */
  workshop(scenario: string, connections: number): Workshop {
    const folder = join(this.path, scenario);
    mkdirSync(folder, { mode: 0o755 });
    return { folder, connections, tool: (name) => this.tool(name) };
  }

  /** Made when they are first asked for. */
  identities(): Promise<Identities> {
    this.made ??= makeIdentities(join(this.path, 'identities'));
    return this.made;
  }

  /** Where a tool lies once it is compiled. */
  toolPath(name: string): string {
    return join(this.path, 'tools', name);
  }

  /** Compiles `bench/load/NAME.cc`; with the ending `.node` as an addon, which uses the libraries inside node. */
  tool(name: string): Promise<string> {
    const ready = this.tools.get(name);
    if (ready !== undefined) return ready;
    const built = this.compile(name);
    this.tools.set(name, built);
    return built;
  }

  private async compile(name: string): Promise<string> {
    const { base, ext } = parse(name);
    const source = join(
      projectRoot(),
      'bench/load',
      `${ext === ADDON ? base.slice(0, -ext.length) : name}.cc`,
    );
    const program = this.toolPath(name);
    const flags = ext === ADDON ? ADDON_FLAGS : (LIBRARIES[name] ?? []);
    await runProgram(
      needProgram('g++'),
      ['-std=c++20', '-O2', '-pthread', '-o', program, source, ...flags],
      COMPILE_TIMEOUT_MS,
    );
    return program;
  }
}
