import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { type Command, formatUsage, parseOptions } from '../../proxy/cli/command.ts';
import { dispatch } from '../../proxy/cli/dispatch.ts';
import { UserError } from '../../proxy/core/errors.ts';

const EXECUTABLE = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));

const FACE = {
  name: 'sample',
  summary: 'show what an option table can say',
  options: {
    port: { short: 'p', value: 'PORT', default: '80', help: 'where to listen' },
    name: { value: 'NAME', multiple: true, help: 'whom to greet' },
    dry: { help: 'do nothing' },
  },
} as const;

/** Runs the dispatcher over one command; `run` stands for whatever the command does. */
async function dispatched(args: string[], run: Command['run'] = async () => 0) {
  let out = '';
  let err = '';
  const command: Command = { name: 'sample', summary: FACE.summary, usage: formatUsage(FACE), run };
  const status = await dispatch(
    args,
    { sample: async () => ({ command }) },
    {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      version: () => '1.2.3',
    },
  );
  return { status, out, err };
}

const ferrule = (...args: string[]) =>
  spawnSync(process.execPath, [EXECUTABLE, ...args], { encoding: 'utf8' });

t.test('parses what the table says', async (t) => {
  const given = parseOptions(FACE, ['-p', '1', '--port=2', '--name', 'a', '--name=-b', '--dry']);
  t.equal(given.text('port'), '2', 'the last one wins');
  t.strictSame(given.list('name'), ['a', '-b']);
  t.ok(given.flag('dry'));
  const none = parseOptions(FACE, []);
  t.equal(none.text('port'), '80');
  t.strictSame(none.list('name'), []);
  t.notOk(none.flag('dry'));
  const rest = parseOptions({ ...FACE, positionals: '-- CMD' }, ['--dry', '--', 'ls', '--port']);
  t.strictSame(rest.positionals, ['ls', '--port']);
});

t.test('names every mistake at once', async (t) => {
  const args = [
    '--prot',
    '1',
    'word',
    '--dry=yes',
    '--port',
    '--name',
    'x',
    '--name',
    '-h2',
    '-q',
    '--port=',
  ];
  try {
    parseOptions(FACE, args);
    t.fail('it did not fail');
  } catch (error) {
    t.ok(error instanceof UserError);
    const { message, exitCode } = error as UserError;
    t.equal(exitCode, 64);
    t.match(message, 'unknown option --prot; did you mean --port?');
    t.notMatch(message, '"1"', 'the value of an unknown option is not a second mistake');
    t.match(message, 'unexpected argument "word"');
    t.match(message, '--dry takes no value, got "yes"');
    t.match(message, '--port needs a value: PORT (a value starting with - is written --port=…)');
    t.match(message, '--name needs a value');
    t.match(message, 'unknown option -q\n');
    t.match(message, 'see `ferrule sample --help`');
  }
});

t.test('survives names that objects inherit', async (t) => {
  for (const name of ['constructor', '__proto__', 'toString']) {
    t.throws(() => parseOptions(FACE, [`--${name}`]), /unknown option/);
    t.equal((await dispatched([name])).status, 64);
  }
});

t.test('prints help from the same table', async (t) => {
  const { status, out } = await dispatched(['sample', '--help']);
  t.equal(status, 0);
  t.match(out, 'Usage: ferrule sample [OPTIONS]');
  t.match(out, 'Show what an option table can say.');
  t.match(out, /-p, --port PORT +where to listen \(default 80\)/);
  t.match(out, /--name NAME +whom to greet; may be repeated/);
  t.ok(out.split('\n').every((line) => line.length <= 100));
  for (const args of [
    ['help', 'sample'],
    ['sample', '-h'],
    ['sample', '--dry', '--help'],
  ]) {
    t.equal((await dispatched(args)).out, out, args.join(' '));
  }
  let seen: readonly string[] = [];
  await dispatched(['sample', '--', 'ls', '--help'], async (args) => {
    seen = args;
    return 0;
  });
  t.strictSame(seen, ['--', 'ls', '--help'], 'what follows -- belongs to somebody else');
});

t.test('says what it is and what it can', async (t) => {
  t.strictSame(await dispatched(['--version']), { status: 0, out: 'ferrule 1.2.3\n', err: '' });
  const { out, status } = await dispatched(['--help']);
  t.equal(status, 0);
  t.match(out, /^ {2}sample +show what/m);
  const bare = await dispatched([]);
  t.equal(bare.status, 64);
  t.equal(bare.err, out, 'without a command the same text, as a complaint');
  t.match((await dispatched(['smaple'])).err, 'did you mean `ferrule sample`?');
  t.match((await dispatched(['--verbose'])).err, 'unknown option --verbose before a command');
});

t.test('ends with the status of the command or of its error', async (t) => {
  t.equal((await dispatched(['sample'], async () => 7)).status, 7);
  const told = await dispatched(['sample'], async () => {
    throw new UserError('the disk is full: empty it', 71);
  });
  t.strictSame(told, { status: 71, out: '', err: 'the disk is full: empty it\n' });
  const bug = await dispatched(['sample'], async () => {
    throw new TypeError('x is not a function');
  });
  t.equal(bug.status, 1);
  t.match(bug.err, /TypeError: x is not a function\n +at /);
  t.match(bug.err, 'this is a bug');
});

t.test('every command of the executable has its own help', async (t) => {
  const overview = ferrule('--help');
  t.equal(overview.status, 0, overview.stderr);
  const names = [...overview.stdout.matchAll(/^ {2}([a-z]+) {2,}\S/gm)].map(([, name]) => name);
  t.ok(names.includes('init') && names.includes('proxy') && names.includes('demo'), names.join(' '));
  for (const name of names) {
    const { status, stdout, stderr } = ferrule(name, '--help');
    t.equal(status, 0, stderr);
    t.match(stdout, `Usage: ferrule ${name} `);
  }
});

t.test('the executable reports its version and wrong arguments', async (t) => {
  const version = ferrule('--version');
  t.match(version.stdout, /^ferrule \d+\.\d+\.\d+\n$/);
  t.equal(version.status, 0);
  const wrong = ferrule(
    'init',
    '--proxy-uid',
    'root',
    '--wait',
    '0',
    '--simulate',
    '--cleanup',
    '--ipv6',
    'of',
  );
  t.equal(wrong.status, 64);
  t.equal(wrong.stdout, '');
  t.match(wrong.stderr, '4 mistakes');
  t.match(wrong.stderr, 'did you mean off?');
});

t.test('ends quietly when its reader has gone', async (t) => {
  const child = spawn(process.execPath, [EXECUTABLE, 'init', '--help'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  child.stdout.destroy();
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    complaint += text;
  });
  const [status] = await once(child, 'close');
  t.equal(complaint, '');
  t.equal(status, 141);
});
