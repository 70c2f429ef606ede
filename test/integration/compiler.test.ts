/** V8's helper threads get out of the way of those that carry traffic. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';

const run = promisify(execFile);
const MODULE = new URL('../../proxy/control/compiler.ts', import.meta.url).href;
const SCRIPT = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { getPriority } from 'node:os';
  const { restrainCompiler } = await import(${JSON.stringify(MODULE)});
  restrainCompiler();
  for (const thread of readdirSync('/proc/self/task')) {
    const name = readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim();
    if (name === 'V8Worker' || thread === String(process.pid)) console.log(name, getPriority(Number(thread)));
  }
`;

/** Lines of thread and niceness, of a process that was started with that niceness. */
async function priorities(niceness: number): Promise<string[]> {
  const args = ['-n', String(niceness), process.execPath, '--input-type=module', '--eval', SCRIPT];
  const { stdout } = await run('nice', args);
  return stdout.trim().split('\n');
}

t.test('helpers have a tenth of the share, and no other thread', async (t) => {
  const lines = await priorities(0);
  const helpers = lines.filter((line) => line.startsWith('V8Worker'));
  t.ok(helpers.length > 0, 'they have that name');
  t.strictSame(new Set(helpers), new Set(['V8Worker 10']));
  t.equal(lines.length - helpers.length, 1);
  t.notOk(lines.includes('MainThread 10'));
});

t.test('a process that is nicer stays so', async (t) => {
  const lines = await priorities(15);
  t.ok(lines.length > 1);
  t.ok(
    lines.every((line) => line.endsWith(' 15')),
    lines.join(', '),
  );
});
