/**
 * Brings a checkout to where the product and its tests can run: dependencies, the test runner's own build, the native
 * engine (`build/ferrule.node`) and `dist/`. Does only what is stale, says nothing when nothing is, and prints to
 * standard error alone (`npm start -- --json` owns standard output).
 *
 * Plain JavaScript for Node 20 and later, because it runs before anything is installed. Every npm script calls it first.
 *
 * Usage: node scripts/bootstrap.mjs [--native-variant release|asan]
 * With `--native-variant` it builds that variant of the engine and nothing else.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = realpathSync(resolve(dirname(fileURLToPath(import.meta.url)), '..'));
const RUNTIME = join(ROOT, 'node_modules', `node-linux-${process.arch}`);
const RUNTIME_NODE = join(RUNTIME, 'bin', 'node');

/** Folders compiled to `dist/`; the same list as in tsconfig.build.json. */
const COMPILED_FOLDERS = ['proxy', 'iptables-init', 'bench'];

const COMMON_FLAGS = [
  '-std=c++20',
  '-fPIC',
  '-shared',
  '-fvisibility=hidden',
  '-fno-exceptions',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-DNAPI_VERSION=8',
];

/** How each variant of the engine is compiled. */
const VARIANTS = {
  release: { output: 'build/ferrule.node', flags: [...COMMON_FLAGS, '-O2'] },
  asan: {
    output: 'build/ferrule.asan.node',
    flags: [
      ...COMMON_FLAGS,
      '-O1',
      // Names and lines are what a report says; all that a debugger wants takes a quarter more time to compile.
      '-g1',
      '-fno-omit-frame-pointer',
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
      // Unloading the library at exit would leave the leak report without symbols.
      '-Wl,-z,nodelete',
    ],
  },
};

/** A failure whose message is all the reader needs. */
class BootstrapError extends Error {}

/** Runs every step that is stale, one process at a time per checkout. */
export async function bootstrap() {
  if (process.platform !== 'linux')
    throw new BootstrapError('Ferrule runs on Linux; use a container or a VM elsewhere');
  if (steps().every((step) => step.fresh())) return;
  await locked(async () => {
    for (const step of steps()) if (!step.fresh()) await step.run();
  });
}

/**
 * Builds one variant of the native engine when its inputs changed.
 * @param {'release' | 'asan'} variant
 * @returns {Promise<string>} the absolute path of the addon
 */
export async function buildNative(variant = 'release') {
  const step = nativeStep(variant);
  if (!step.fresh()) {
    await locked(async () => {
      if (!step.fresh()) await step.run();
    });
  }
  return join(ROOT, VARIANTS[variant].output);
}

function steps() {
  return [dependenciesStep(), testRunnerStep(), nativeStep('release'), distStep()];
}

/**
 * `npm ci` when node_modules does not hold what the lock file says. npm's own record of what it installed is compared
 * instead of a stamp, so that a copied or restored node_modules is accepted without network.
 */
function dependenciesStep() {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  return {
    fresh() {
      const recordPath = join(ROOT, 'node_modules', '.package-lock.json');
      if (!existsSync(recordPath) || !existsSync(RUNTIME_NODE)) return false;
      const record = JSON.parse(readFileSync(recordPath, 'utf8'));
      return Object.entries(lock.packages).every(([path, wanted]) => {
        if (path === '') return true;
        const installed = record.packages[path];
        if (installed === undefined) return wanted.optional === true || wanted.peer === true;
        return installed.version === wanted.version && existsSync(join(ROOT, path, 'package.json'));
      });
    },
    async run() {
      say('installing dependencies (npm ci)');
      // Development packages are needed whatever NODE_ENV says; the runtime itself is an optional one.
      await run('npm ci', ...npmCommand(['ci', '--include=optional', '--include=dev', '--loglevel=error']));
      if (!existsSync(RUNTIME_NODE)) {
        throw new BootstrapError(
          `npm did not install ${relative(ROOT, RUNTIME)}: Ferrule needs a registry that has it, on x64 or arm64 (this is ${process.arch})`,
        );
      }
    },
  };
}

/** `tap build`: compiles tap's test class without its TypeScript plugin, which does not work with this compiler. */
function testRunnerStep() {
  // Inside node_modules, so that it vanishes together with what it vouches for.
  const stamp = join(ROOT, 'node_modules', '.ferrule-tap-build');
  const built = join(ROOT, 'node_modules', '@tapjs', 'test', 'test-built', 'dist');
  const inputs = () => hash([join(ROOT, '.taprc'), join(ROOT, 'package-lock.json')], '');
  return {
    fresh: () => existsSync(built) && isStamped(stamp, inputs()),
    async run() {
      say('building the test runner (tap build)');
      await run('tap build', RUNTIME_NODE, [join(ROOT, 'node_modules', '.bin', 'tap'), 'build']);
      writeFileSync(stamp, inputs());
    },
  };
}

function nativeStep(variant) {
  const chosen = VARIANTS[variant];
  if (chosen === undefined) {
    throw new BootstrapError(
      `unknown variant "${variant}"; there are ${Object.keys(VARIANTS).join(' and ')}`,
    );
  }
  const { flags, output } = chosen;
  const folder = join(ROOT, 'proxy', 'native');
  const target = join(ROOT, output);
  const sources = () => filesBelow(folder, ['.cc', '.h']);
  const inputs = () => hash([...sources(), join(RUNTIME, 'package.json')], flags.join(' '));
  return {
    fresh: () => existsSync(target) && isStamped(`${target}.stamp`, inputs()),
    async run() {
      const units = sources().filter((path) => path.endsWith('.cc'));
      if (units.length === 0)
        throw new BootstrapError('proxy/native holds no .cc file: the checkout is incomplete');
      const headers = join(RUNTIME, 'include', 'node');
      if (!existsSync(headers)) throw new BootstrapError(`${headers} is missing: run "npm run build" first`);
      say(`compiling the socket engine (${output})`);
      const before = inputs();
      // Compiled beside and renamed: processes that have the old file mapped keep it.
      const objects = `${target}.objects`;
      const fresh = `${target}.new`;
      rmSync(objects, { recursive: true, force: true });
      mkdirSync(objects, { recursive: true });
      const linked = units.map((unit) => join(objects, `${relative(folder, unit).replaceAll('/', '-')}.o`));
      // System headers, so that -Werror judges our code and not Node's.
      const compiled = [...flags, '-isystem', headers, '-I', folder, '-c'];
      await sideBySide(units, (unit, index) => run('g++', 'g++', [...compiled, unit, '-o', linked[index]]));
      await run('g++', 'g++', [...flags, ...linked, '-o', fresh]);
      rmSync(objects, { recursive: true });
      renameSync(fresh, target);
      writeFileSync(`${target}.stamp`, before);
    },
  };
}

function distStep() {
  const stamp = join(ROOT, 'build', 'dist.stamp');
  const dist = join(ROOT, 'dist');
  const sources = () => COMPILED_FOLDERS.flatMap((folder) => filesBelow(join(ROOT, folder), ['.ts']));
  const settings = ['tsconfig.json', 'tsconfig.build.json', 'node_modules/typescript/package.json'];
  const inputs = () => hash([...sources(), ...settings.map((path) => join(ROOT, path))], '');
  const outputs = () => sources().map((path) => join(dist, relative(ROOT, path).replace(/\.ts$/, '.js')));
  return {
    fresh: () => isStamped(stamp, inputs()) && outputs().every((path) => existsSync(path)),
    async run() {
      say('compiling TypeScript (dist/)');
      const before = inputs();
      const compiler = join(ROOT, 'node_modules', '.bin', 'tsc');
      await run('tsc', RUNTIME_NODE, [compiler, '-p', join(ROOT, 'tsconfig.build.json'), '--noEmitOnError']);
      const wanted = new Set(outputs());
      for (const path of filesBelow(dist, ['.js', '.js.map'])) {
        if (!wanted.has(path.replace(/\.map$/, ''))) rmSync(path);
      }
      mkdirSync(dirname(stamp), { recursive: true });
      writeFileSync(stamp, before);
    },
  };
}

/**
 * Runs `work` while holding this checkout's lock: an abstract Unix socket, which the kernel releases however its holder
 * ends, so there are no stale locks. Waiters connect to it and learn of the release by the close.
 */
async function locked(work) {
  const name = `\0ferrule-bootstrap-${createHash('sha256').update(ROOT).digest('hex').slice(0, 32)}`;
  let server = await listening(name);
  if (server === undefined) say('another bootstrap of this checkout is running; waiting for it');
  while (server === undefined) {
    await closed(name);
    server = await listening(name);
  }
  try {
    return await work();
  } finally {
    server.close();
  }
}

/** A server on `name`, or undefined while another process has it. */
function listening(name) {
  return new Promise((resolve, reject) => {
    const server = createServer((waiter) => waiter.on('error', () => waiter.destroy()).destroy());
    server.on('error', (error) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(name, () => resolve(server));
  });
}

function closed(name) {
  return new Promise((resolve) => {
    connect(name).resume().on('error', resolve).on('close', resolve);
  });
}

/** One hash over the names and contents of files and a text that goes with them. */
function hash(paths, extra) {
  const digest = createHash('sha256').update(extra);
  for (const path of paths) {
    digest.update(`\0${relative(ROOT, path)}\0`);
    if (existsSync(path)) digest.update(readFileSync(path));
  }
  return digest.digest('hex');
}

function isStamped(stamp, expected) {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === expected;
}

/** Every file below `folder` whose name ends in one of `endings`, sorted; none when there is no such folder. */
function filesBelow(folder, endings) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((path) => endings.some((ending) => path.endsWith(ending)) && statSync(path).isFile())
    .sort();
}

/** The npm that runs us, or the one in PATH. */
function npmCommand(args) {
  const npm = process.env.npm_execpath;
  return npm?.endsWith('.js') ? [process.execPath, [npm, ...args]] : ['npm', args];
}

/** Calls `work` for each item, for as many at once as there are processors. Throws when all have ended, if one failed. */
async function sideBySide(items, work) {
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      await work(items[index], index);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: availableParallelism() }, worker));
  for (const { reason } of results) if (reason !== undefined) throw reason;
}

async function run(what, command, args) {
  const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  const [status, signal] = await once(child, 'close').catch((error) => {
    if (error.code !== 'ENOENT') throw error;
    throw new BootstrapError(
      command === 'g++'
        ? 'g++ is missing: install g++ (Debian: apt-get install g++)'
        : `${command} is missing: ${what} cannot run`,
    );
  });
  if (status !== 0)
    throw new BootstrapError(`${what} failed (${signal ?? `exit status ${status}`}); its messages are above`);
}

function say(text) {
  process.stderr.write(`bootstrap: ${text}\n`);
}

/** @param {string[]} args */
async function main(args) {
  if (args.length === 0) return bootstrap();
  if (args.length === 2 && args[0] === '--native-variant') return buildNative(args[1]);
  throw new BootstrapError('usage: node scripts/bootstrap.mjs [--native-variant release|asan]');
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof BootstrapError)) throw error;
    say(error.message);
    process.exitCode = 1;
  }
}
