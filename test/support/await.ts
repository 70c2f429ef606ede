/** `ferrule await` as a child of a test. */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { spawnNode } from './node-child.ts';
import type { ProxyEnd } from './proxy.ts';

const FERRULE = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));

/** How to call it. */
export interface AwaitOptions {
  readonly admin: string;
  readonly tokenFile?: string;
  /** More options. */
  readonly more?: readonly string[];
}

/** An await under way. */
export interface TestAwait {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<ProxyEnd>;
  /** What it and its application said so far. */
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `ferrule await -- cmd`; it is gone when the test ends, and an application that reads its input notices. */
export function startAwait(t: Test, options: AwaitOptions, cmd: readonly string[]): TestAwait {
  const { admin, tokenFile, more = [] } = options;
  const token = tokenFile === undefined ? [] : ['--token-file', tokenFile];
  const child = spawnNode([FERRULE, 'await', '--admin', admin, ...token, ...more, '--', ...cmd]);
  const run = {
    child,
    ended: once(child, 'close').then(([status, signal]) => ({ status, signal })),
    stdout: '',
    stderr: '',
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    run.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    run.stderr += text;
  });
  t.teardown(async () => {
    child.stdin.destroy();
    child.kill('SIGKILL');
    await run.ended;
  });
  return run;
}
