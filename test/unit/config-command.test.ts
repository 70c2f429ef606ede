import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { command } from '../../proxy/cli/proxy.ts';
import { printDefaultConfig } from '../../proxy/config/print.ts';
import { NAMED_SETTINGS } from '../../proxy/config/settings.ts';
import { EXIT } from '../../proxy/core/errors.ts';

const executable = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));

function ferruleProxy(args: readonly string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [executable, 'proxy', ...args], { encoding: 'utf8', env });
}

t.test('--print-config prints the default file, whatever is configured', async (t) => {
  const { status, stdout, stderr } = ferruleProxy(['--print-config'], { FERRULE_WORKERS: 'many' });
  t.equal(stdout, printDefaultConfig());
  t.equal(stderr, '');
  t.equal(status, EXIT.ok);
});

t.test('mistakes in file, variables and flags end it with 64, all named', async (t) => {
  const file = `${t.testdir({ 'ferrule.yaml': 'log: { level: loud }' })}/ferrule.yaml`;
  const args = [
    '-c',
    file,
    '--workers',
    '7',
    '--workers',
    '99',
    '--inbound-listen',
    'here',
    '--inbound-listen',
    'there',
  ];
  const { status, stdout, stderr } = ferruleProxy(args, { FERRULE_SHUTDOWN_GRACE: 'long' });
  t.equal(status, EXIT.usage);
  t.equal(stdout, '');
  const found = stderr.split('\n').map((line) =>
    line
      .trim()
      .split(': must be')[0]
      .replace(/^\S*ferrule\.yaml/, 'F'),
  );
  t.strictSame(found, [
    'The configuration has 5 mistakes:',
    'F:1: log.level',
    'FERRULE_SHUTDOWN_GRACE: shutdown.grace',
    '--inbound-listen: inbound.listen[0]',
    '--inbound-listen: inbound.listen[1]',
    '--workers: workers',
    '',
  ]);
  t.match(stderr, /is "99"/, 'of a value given twice the last counts');
});

t.test('the help names every setting of this version and no other', async (t) => {
  for (const { flag } of NAMED_SETTINGS) {
    t.ok(command.usage.includes(` --${flag} `), flag);
  }
});

t.test('--print-hosts gives services with a virtual IP their names', async (t) => {
  const service = (name: string, namespace: string, ip: string) =>
    `apiVersion: v1\nkind: Service\nmetadata: { name: ${name}, namespace: ${namespace} }\n` +
    `spec: { clusterIP: ${ip}, ports: [ { port: 80 } ] }\n`;
  const folder = t.testdir({
    a: { 'web.yaml': service('web', 'shop', '10.96.0.10'), 'old.yaml': service('old', 'shop', 'None') },
    b: { 'db.yaml': service('db', 'data', '10.96.0.11') },
    broken: { 'web.yaml': 'kind: Service\napiVersion: v1\nmetadata: [' },
  });
  const args = ['--print-hosts', '--workload-namespace', 'shop', '--discovery'];
  const { status, stdout } = ferruleProxy([...args, `file:${folder}/a,file:${folder}/b`]);
  t.equal(
    stdout,
    '10.96.0.11 db.data.svc.cluster.local db.data\n10.96.0.10 web.shop.svc.cluster.local web.shop web\n',
  );
  t.equal(status, EXIT.ok);
  const broken = ferruleProxy([...args, `file:${folder}/a,file:${folder}/broken`]);
  t.equal(broken.status, EXIT.failure);
  t.equal(broken.stdout, '', 'half a hosts file is none');
  t.match(broken.stderr, /broken\/web\.yaml:\d+: /);
  t.equal(ferruleProxy(['--print-hosts']).status, EXIT.usage, 'nothing to print from');
});
