/** The folder of a run and the generators built in it. */

import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from './job.ts';
import { needProgram, projectRoot } from './machine.ts';
import type { Workshop } from './model.ts';

/** Each generator compiles in two seconds. */
const COMPILE_TIMEOUT_MS = 120_000;

/** A folder that proxies of another user may enter, and that is removed when the process ends. */
export class RunFolder {
  readonly path: string;
  private readonly tools = new Map<string, Promise<string>>();

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

  private tool(name: string): Promise<string> {
    const ready = this.tools.get(name);
    if (ready !== undefined) return ready;
    const built = this.compile(name);
    this.tools.set(name, built);
    return built;
  }

  private async compile(name: string): Promise<string> {
    const source = join(projectRoot(), 'bench/load', `${name}.cc`);
    const program = join(this.path, 'tools', name);
    await runProgram(
      needProgram('g++'),
      ['-std=c++20', '-O2', '-pthread', '-o', program, source],
      COMPILE_TIMEOUT_MS,
    );
    return program;
  }
}
