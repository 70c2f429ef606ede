import t from 'tap';
import { tally } from '../../scripts/tally.mjs';

/** The output of a run: each file's lines are indented below it, and its closing test point follows. */
function run(files: readonly { readonly lines: readonly string[]; readonly closing: string }[]): string {
  const bodies = files.map(({ lines, closing }, index) => {
    const [state, name] = closing.split(/ - /);
    const indented = lines.map((line) => `    ${line}\n`).join('');
    return `# Subtest: ${name.replace(/ #.*/, '')}\n${indented}${state} ${index + 1} - ${name}\n`;
  });
  return `TAP version 14\n${bodies.join('\n')}1..${files.length}\n`;
}

t.test('assertions are counted, at every depth', async (t) => {
  const nested = ['ok 1 - a', '# Subtest: s', '    ok 1 - b', '    ok 2 - c', '    1..2', 'ok 2 - s', '1..2'];
  t.same(tally(run([{ lines: nested, closing: 'ok - x.test.ts' }])), { passed: 3, failed: [], skipped: [] });
});

t.test('a failed assertion counts once, by its full name', async (t) => {
  const nested = ['# Subtest: s', '    not ok 1 - b', '    ok 2 - c', '    1..2', 'not ok 1 - s', '1..1'];
  const counts = tally(run([{ lines: nested, closing: 'not ok - x.test.ts' }]));
  t.same(counts, { passed: 1, failed: ['x.test.ts > s > b'], skipped: [] });
});

t.test('a skipped assertion is neither passed nor failed', async (t) => {
  const lines = ['ok 1 - a # SKIP no redis', 'ok 2 - b', '1..2'];
  const counts = tally(run([{ lines, closing: 'ok - x.test.ts' }]));
  t.same(counts, { passed: 1, failed: [], skipped: ['x.test.ts > a: no redis'] });
});

t.test('a file that crashed is a failure though its assertions passed', async (t) => {
  const counts = tally(run([{ lines: ['ok 1 - a', '1..1'], closing: 'not ok - x.test.ts' }]));
  t.equal(counts.passed, 1);
  t.match(counts.failed, [/^x.test.ts: ended badly/]);
});

t.test('a file that asserts nothing is a failure; a file skipped for a reason is not', async (t) => {
  const empty = tally(run([{ lines: ['1..0'], closing: 'ok - x.test.ts # SKIP no tests found' }]));
  t.match(empty.failed, ['x.test.ts: asserts nothing']);
  const skipped = tally(run([{ lines: ['1..0 # needs root'], closing: 'ok - x.test.ts # SKIP needs root' }]));
  t.same(skipped, { passed: 0, failed: [], skipped: ['x.test.ts: needs root'] });
});

t.test('no output, or output cut short, is a failure', async (t) => {
  t.same(tally('').failed, ['no test ran']);
  const whole = run([
    { lines: ['ok 1 - a', '1..1'], closing: 'ok - x.test.ts' },
    { lines: ['ok 1 - a', '1..1'], closing: 'ok - y.test.ts' },
  ]);
  t.same(tally(whole).failed, []);
  const cut = tally(whole.slice(0, whole.indexOf('1..2')));
  t.same(cut, { passed: 2, failed: ['the output of tap ends early'], skipped: [] });
});
