/** Node programs under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer. */

import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** What a program said under the sanitizers. */
export interface SanitizedRun {
  readonly status: number | null;
  readonly output: string;
  /** The first line of each report. */
  readonly findings: readonly string[];
}

const FINDING = /^.*(?:ERROR: \w+Sanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL).*$/gm;

/** Leaks that are known and not ours; the file says whose. */
const SUPPRESSIONS = fileURLToPath(new URL('./sanitizer-suppressions.txt', import.meta.url));

/** Takes the preloaded library out of the environment, so that what the program starts is not under it. */
const HOOK = new URL('./sanitizer-hook.ts', import.meta.url).href;

/** The sanitizers' runtime library of the installed compiler; undefined when there is none. */
export function findSanitizer(): string | undefined {
  const { stdout, error } = spawnSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' });
  if (error !== undefined) return undefined;
  const path = stdout.trim();
  // A name without a folder is the compiler's way to say that it has none.
  return path.startsWith('/') && existsSync(path) ? path : undefined;
}

/**
 * Runs this Node with `args` under the sanitizers until it ends.
 * @param env on top of this process's environment
 */
export async function runSanitized(
  library: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<SanitizedRun> {
  // env(1) sets the library for Node alone, and takes away the hooks tap puts into every child.
  const command = [
    '-u',
    'NODE_OPTIONS',
    `LD_PRELOAD=${library}`,
    process.execPath,
    '--import',
    HOOK,
    ...args,
  ];
  const child = spawn('/usr/bin/env', command, {
    env: {
      ...process.env,
      ASAN_OPTIONS: 'detect_leaks=1',
      LSAN_OPTIONS: `suppressions=${SUPPRESSIONS}:print_suppressions=0`,
      UBSAN_OPTIONS: 'print_stacktrace=1',
      FERRULE_SANITIZER: library,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code));
  });
  return { status, output, findings: output.match(FINDING) ?? [] };
}
