import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { spawnNode } from '../support/node-child.ts';
import { requirePeer } from '../support/peers.ts';

const ROOT = join(import.meta.dirname, '../..');

/** The smallest library the compiler accepts as an addon; what it does is none of this test's business. */
const ADDON = 'extern "C" __attribute__((visibility("default"))) int answer() { return 1; }\n';

/** A checkout of nothing but one file of each kind, sharing the real node_modules. */
function checkout(t: Test): string {
  const root = t.testdir();
  for (const path of [
    'scripts',
    '.taprc',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'package.json',
  ]) {
    cpSync(join(ROOT, path), join(root, path), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  write(root, 'proxy/native/a.cc', ADDON);
  write(root, 'proxy/core/a.ts', 'export const a: number = 1;\n');
  write(root, 'proxy/core/b.ts', "export { a } from './a.ts';\n");
  return root;
}

function write(root: string, path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function bootstrap(
  root: string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Outcome> {
  const child = spawnNode([join(root, 'scripts/bootstrap.mjs'), ...args], { env });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, stdout, stderr })));
}

t.test('builds what is stale, and only that', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const root = checkout(t);
  const addon = join(root, 'build/ferrule.node');
  const first = await bootstrap(root);
  t.match(first, { status: 0, stdout: '', stderr: /socket engine.*\n.*TypeScript/ });
  t.ok(existsSync(addon));
  t.match(readFileSync(join(root, 'dist/proxy/core/b.js'), 'utf8'), "from './a.js'");

  t.same(await bootstrap(root), { status: 0, stdout: '', stderr: '' }, 'nothing to do, nothing said');

  const built = statSync(addon).mtimeMs;
  write(root, 'proxy/core/a.ts', 'export const a: number = 2;\n');
  t.match((await bootstrap(root)).stderr, /^bootstrap: compiling TypeScript.*\n$/);
  t.match(readFileSync(join(root, 'dist/proxy/core/a.js'), 'utf8'), 'a = 2');
  t.equal(statSync(addon).mtimeMs, built, 'the engine was left alone');

  write(root, 'proxy/native/a.cc', `${ADDON}// Changed.\n`);
  t.match((await bootstrap(root)).stderr, /^bootstrap: compiling the socket engine.*\n$/);

  rmSync(join(root, 'proxy/core/b.ts'));
  t.equal((await bootstrap(root)).status, 0);
  t.notOk(existsSync(join(root, 'dist/proxy/core/b.js')), 'output of a removed source is removed');
});

t.test('notices deleted outputs', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const root = checkout(t);
  await bootstrap(root);
  for (const output of ['build/ferrule.node', 'dist/proxy/core/a.js']) {
    rmSync(join(root, output));
    t.equal((await bootstrap(root)).status, 0);
    t.ok(existsSync(join(root, output)), output);
  }
});

t.test('several at once build once and all succeed', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const root = checkout(t);
  const outcomes = await Promise.all([1, 2, 3, 4].map(() => bootstrap(root)));
  for (const { status, stderr } of outcomes) t.equal(status, 0, stderr);
  t.equal(outcomes.filter(({ stderr }) => stderr.includes('compiling the socket engine')).length, 1);
});

t.test('the sanitizer variant is built alone', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const root = checkout(t);
  t.equal((await bootstrap(root, ['--native-variant', 'asan'])).status, 0);
  t.match(readFileSync(join(root, 'build/ferrule.asan.node'), 'latin1'), '__asan_init');
  t.notOk(existsSync(join(root, 'build/ferrule.node')));
  t.notOk(existsSync(join(root, 'dist')));
});

t.test('says what is wrong and what to do', async (t) => {
  const root = checkout(t);
  const withoutCompiler = await bootstrap(root, [], { ...process.env, PATH: t.testdirName });
  t.match(withoutCompiler, { status: 1, stderr: /install g\+\+ \(Debian: apt-get install g\+\+\)/ });
  t.match(await bootstrap(root, ['--native-variant', 'x']), {
    status: 1,
    stderr: /"x"; there are release and asan/,
  });
  t.match(await bootstrap(root, ['--verbose']), { status: 1, stderr: /usage:/ });
  if (requirePeer(t, 'g++') === undefined) return;

  await bootstrap(root);
  write(root, 'proxy/core/a.ts', "export const a: number = 'text';\n");
  t.match(await bootstrap(root), { status: 1, stderr: /a\.ts.*TS2322[\s\S]*tsc failed/ });
  t.match(readFileSync(join(root, 'dist/proxy/core/a.js'), 'utf8'), 'a = 1', 'the last good build stays');
  t.equal((await bootstrap(root)).status, 1, 'and is not taken for a fresh one');

  write(root, 'proxy/native/a.cc', 'int unused(int a) { return 0; }\n');
  t.match(await bootstrap(root), { status: 1, stderr: /g\+\+ failed/ }, 'warnings are errors');
  rmSync(join(root, 'proxy/native/a.cc'));
  t.match(await bootstrap(root), { status: 1, stderr: /no \.cc file/ });
});
