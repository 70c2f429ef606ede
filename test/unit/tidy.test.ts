import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { SourceText } from '../support/syntax.ts';
import { FILE_LINES, FUNCTION_LINES, findUntidy } from '../support/tidy.ts';

const ROOT = join(import.meta.dirname, '../..');

t.test('the checkout keeps the house rules', async (t) => {
  const files = readCheckout();
  t.ok(files.length > 50, 'the files were found');
  const findings = findUntidy(files).map(({ path, line, message }) => `${path}:${line}: ${message}`);
  t.equal(findings.join('\n'), '');
});

/** Files that break nothing, so that what a fixture adds is all there is to find. */
const BASE: readonly SourceText[] = [
  { path: 'proxy/core/a.ts', text: '/** A. */\nexport const a = 1;\n' },
  {
    path: 'proxy/cli/ferrule.ts',
    text: "import { a } from '../core/a.ts';\nconst main = () => import('../main.ts');\nmain(a);\n",
  },
  { path: 'proxy/main.ts', text: "/** M. */\nexport const m = new URL('./worker.js', import.meta.url);\n" },
  { path: 'proxy/worker.ts', text: "import { a } from './core/a.ts';\n/** W. */\nexport const w = a;\n" },
];

function expectFindings(
  t: Test,
  added: readonly SourceText[],
  ...expected: [string, number, RegExp][]
): void {
  const kept = BASE.filter((base) => !added.some((file) => file.path === base.path));
  const findings = findUntidy([...kept, ...added]);
  t.equal(findings.length, expected.length, findings.map(({ message }) => message).join('; '));
  for (const [index, [path, line, message]] of expected.entries()) {
    t.match(findings[index], { path, line, message });
  }
}

t.test('a tidy set has no findings', async (t) => expectFindings(t, []));

t.test('imports against the direction', async (t) => {
  const core = { path: 'proxy/core/a.ts', text: "import '../model/b.ts';\n/** A. */\nexport const a = 1;\n" };
  const model = { path: 'proxy/model/b.ts', text: '/** B. */\nexport const b = 1;\n' };
  expectFindings(t, [core, model], ['proxy/core/a.ts', 1, /proxy\/core must not import proxy\/model\/b.ts/]);

  const worker = { path: 'proxy/worker.ts', text: "\nawait import('./control/c.ts');\n" };
  const control = { path: 'proxy/control/c.ts', text: '/** C. */\nexport const c = 1;\n' };
  expectFindings(t, [worker, control], ['proxy/worker.ts', 2, /must not import proxy\/control/]);

  const stage = { path: 'proxy/tls/t.ts', text: "import type { R } from '../route/r.ts';\nlet r: R;\n" };
  const other = { path: 'proxy/route/r.ts', text: '/** R. */\nexport type R = 1;\n' };
  expectFindings(t, [stage, other], ['proxy/tls/t.ts', 1, /proxy\/tls must not import proxy\/route/]);

  const product = { path: 'iptables-init/i.ts', text: "export * from '../test/support/s.ts';\n" };
  const support = { path: 'test/support/s.ts', text: '' };
  expectFindings(t, [product, support], ['iptables-init/i.ts', 1, /must not import test\/support/]);

  const stranger = { path: 'proxy/extra/e.ts', text: 'let e = 1;\n' };
  expectFindings(t, [stranger], ['proxy/extra/e.ts', 1, /no place in the import rule/]);
});

t.test('import cycles, through types and dynamic imports too', async (t) => {
  const files = [
    {
      path: 'proxy/core/a.ts',
      text: "import type { B } from './b.ts';\n/** A. */\nexport const a: B = 1;\n",
    },
    { path: 'proxy/core/b.ts', text: "/** B. */\nexport type B = 1;\nvoid import('./a.ts');\n" },
  ];
  expectFindings(t, files, ['proxy/core/a.ts', 1, /a\.ts → proxy\/core\/b\.ts → proxy\/core\/a\.ts/]);
});

t.test('long files and functions', async (t) => {
  const body = `f(\`}}\${1}\`, /}/);\n`.repeat(FUNCTION_LINES - 2);
  const fits = { path: 'proxy/worker.ts', text: `function f() {\n${body}}\n` };
  expectFindings(t, [fits]);
  const long = { path: 'proxy/worker.ts', text: `\n// Why.\nconst f = () => {\n\n${body}};\n` };
  expectFindings(t, [long], ['proxy/worker.ts', 3, /71 lines/]);
  expectFindings(t, [{ path: 'bench/main.ts', text: '\n'.repeat(FILE_LINES) }]);
  const suite = `function suite(t) {\n${'t.test(n, (t) => {\n  t.ok(1);\n});\n'.repeat(FUNCTION_LINES - 2)}}\n`;
  expectFindings(t, [{ path: 'test/unit/n.test.ts', text: suite }]);
  expectFindings(
    t,
    [{ path: 'proxy/worker.ts', text: suite }],
    ['proxy/worker.ts', 1, /suite takes 206 lines/],
  );
  const test = { path: 'test/unit/n.test.ts', text: `t.ok(1);\n${long.text}` };
  expectFindings(t, [test], ['test/unit/n.test.ts', 4, /71 lines/]);
  const file = { path: 'proxy/native/a.h', text: '\n'.repeat(FILE_LINES + 1) };
  expectFindings(t, [file], ['proxy/native/a.h', FILE_LINES + 1, /501 lines/]);
});

t.test('long functions in C++', async (t) => {
  const head = 'namespace n {\nstruct S {\n  int x = 0;\n};\nint S::f(int a)\n    const {\n';
  const line = "  g('}', \"{\", 1'000); // {\n";
  const fits = { path: 'proxy/native/a.cc', text: `${head}${line.repeat(FUNCTION_LINES - 3)}}\n}\n` };
  expectFindings(t, [fits]);
  const long = { path: 'proxy/native/a.cc', text: `${head}${line.repeat(FUNCTION_LINES - 2)}}\n}\n` };
  expectFindings(t, [long], ['proxy/native/a.cc', 5, /S::f takes 71 lines/]);
});

t.test('exports without a docstring', async (t) => {
  const text =
    '// Not one.\nexport interface I {}\n/** One. */\nexport async function f(): Promise<void> {}\n';
  expectFindings(t, [{ path: 'proxy/worker.ts', text }], ['proxy/worker.ts', 2, /export I has no docstring/]);
});

t.test('empty catch blocks', async (t) => {
  const text = 'try {\n  f();\n} catch {\n  // Never mind.\n}\ntry {} catch (e) { f(e); }\n';
  expectFindings(t, [{ path: 'proxy/worker.ts', text }], ['proxy/worker.ts', 3, /empty catch/]);
});

t.test('test files that prove nothing', async (t) => {
  const nothing = { path: 'test/unit/n.test.ts', text: "t.test('x', async (t) => t.pass('fine'));\n" };
  expectFindings(t, [nothing], ['test/unit/n.test.ts', 1, /without an assertion/]);
  expectFindings(t, [{ path: 'test/unit/n.test.ts', text: 't\n  .equal(1, 1);\n' }]);
});

t.test('dead files', async (t) => {
  const dead = { path: 'proxy/core/dead.ts', text: '/** D. */\nexport const d = 1;\n' };
  const test = {
    path: 'test/unit/d.test.ts',
    text: "import { d } from '../../proxy/core/dead.ts';\nt.ok(d);\n",
  };
  expectFindings(t, [dead, test], ['proxy/core/dead.ts', 1, /dead file/]);
});

t.test('addresses in the lock file', async (t) => {
  const path = 'package-lock.json';
  const text = '{\n  "resolved": "https://registry.example/x.tgz"\n}\n';
  expectFindings(t, [{ path, text }], [path, 2, /registry address/]);
});

t.test('leftovers and commented-out code', async (t) => {
  const path = 'proxy/worker.ts';
  for (const word of ['TODO', 'FIXME', 'XXX', 'HACK']) {
    expectFindings(
      t,
      [{ path, text: `let a = 1;\n/* ${word}: later */\n` }],
      [path, 2, /do it, or open an issue/],
    );
  }
  for (const code of ['const a = 1;', 'return;', 'if (a) {', 'a.b(c, d);', 'a.b = c;', '}']) {
    expectFindings(t, [{ path, text: `// ${code}\n` }], [path, 1, /commented-out/]);
    expectFindings(
      t,
      [{ path: 'proxy/native/a.h', text: `int a; // ${code}\n` }],
      ['proxy/native/a.h', 1, /commented/],
    );
  }
  const prose = `// If it is too small; that is good.\n// Return early: see f(x).\nconst s = '// return;' + \`// \${1}; TODO\`;\n`;
  expectFindings(t, [{ path, text: prose }]);
});

function readCheckout(): SourceText[] {
  const folders = ['proxy', 'iptables-init', 'controller', 'bench', 'test', 'scripts'];
  const paths = folders.flatMap((folder) => {
    if (statSync(join(ROOT, folder), { throwIfNoEntry: false }) === undefined) return [];
    return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map(
      (name) => `${folder}/${name}`,
    );
  });
  return [...paths.filter((path) => /(?<!\.d)\.(ts|mjs|cc|h)$/.test(path)), 'package-lock.json'].map(
    (path) => ({
      path,
      text: readFileSync(join(ROOT, path), 'utf8'),
    }),
  );
}
