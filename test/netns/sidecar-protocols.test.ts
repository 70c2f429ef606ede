/** Real clients and servers that know nothing of the two sidecars between them. */
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createMesh, type Mesh, poll, SERVER, service, startSidecar } from '../support/mesh.ts';
import { exec, type Namespace, spawn } from '../support/netns.ts';
import { requirePeer } from '../support/peers.ts';

const VIRTUAL = '10.96.0.10';

/** The user databases run as: they refuse root. */
const NOBODY = 65534;
const AS_NOBODY = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];

/** A folder the unprivileged user may write to; t.testdir() may lie below one that it cannot enter. */
function folderFor(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-protocols-'));
  chownSync(folder, NOBODY, NOBODY);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Both pods, and a virtual IP in front of `port` of the server pod. */
async function meshFor(t: Test, port: number): Promise<{ mesh: Mesh; arrived: () => number } | undefined> {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return undefined;
  const resources = service('db', VIRTUAL, port, [SERVER.v4]);
  const outgoing = await startSidecar(t, mesh.client, { resources });
  const incoming = await startSidecar(t, mesh.server, { resources });
  t.teardown(() => {
    if (!t.passing()) t.comment(`client sidecar:\n${outgoing.log()}\nserver sidecar:\n${incoming.log()}`);
  });
  return { mesh, arrived: () => incoming.sum('tcp_open_total', 'direction="inbound"', 'peer="dst"') };
}

/** Starts a server and waits until it accepts connections. */
async function serve(
  namespace: Namespace,
  port: number,
  command: string,
  args: readonly string[],
): Promise<void> {
  let text = '';
  const child = spawn(namespace, command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      text += chunk;
    });
  }
  await poll(`${command} listens`, () => {
    if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}: ${text}`);
    return exec(namespace, 'ss', ['-Hltn', `sport = :${port}`]).stdout !== '';
  });
}

function programs(t: Test, ...names: string[]): string[] | undefined {
  const found = names.map((name) => requirePeer(t, name));
  return found.every((path) => path !== undefined) ? found : undefined;
}

t.test('redis-cli and redis-benchmark', async (t) => {
  const paths = programs(t, 'redis-server', 'redis-cli', 'redis-benchmark');
  const made = paths && (await meshFor(t, 6379));
  if (paths === undefined || made === undefined) return;
  const [server, cli, benchmark] = paths;
  const folder = folderFor(t);
  await serve(made.mesh.server, 6379, server, [
    '--bind',
    SERVER.v4,
    '--protected-mode',
    'no',
    '--save',
    '',
    '--dir',
    folder,
  ]);
  const redis = (...args: string[]) => exec(made.mesh.client, cli, ['-h', VIRTUAL, ...args]).stdout.trim();
  t.equal(redis('set', 'key', 'value'), 'OK');
  t.equal(redis('get', 'key'), 'value');
  const load = exec(made.mesh.client, benchmark, [
    '-h',
    VIRTUAL,
    '-n',
    '20000',
    '-c',
    '20',
    '-P',
    '4',
    '-t',
    'set,get',
    '-q',
  ]);
  t.equal(load.status, 0, load.stderr);
  t.match(load.stdout, /GET: .*requests per second/);
  t.ok(made.arrived() >= 22, 'through the sidecar of the server');
});

t.test('psql and pgbench', async (t) => {
  const paths = programs(t, 'initdb', 'postgres', 'psql', 'pgbench');
  const made = paths && (await meshFor(t, 5432));
  if (paths === undefined || made === undefined) return;
  const [initdb, postgres, psql, pgbench] = paths;
  const data = join(folderFor(t), 'data');
  const { client, server } = made.mesh;
  const created = exec(server, 'setpriv', [
    ...AS_NOBODY,
    initdb,
    '-D',
    data,
    '-U',
    'ferrule',
    '-A',
    'trust',
    '--no-sync',
  ]);
  t.equal(created.status, 0, created.stderr);
  writeFileSync(join(data, 'pg_hba.conf'), 'host all all 0.0.0.0/0 trust\n');
  const settings = [`listen_addresses=${SERVER.v4}`, 'unix_socket_directories=', 'fsync=off'];
  const flags = settings.flatMap((setting) => ['-c', setting]);
  await serve(server, 5432, 'setpriv', [...AS_NOBODY, postgres, '-D', data, ...flags]);
  const login = ['-h', VIRTUAL, '-U', 'ferrule'];
  await poll(
    'postgres is up',
    () => exec(client, psql, [...login, '-c', 'select 1', 'postgres']).status === 0,
  );
  t.equal(
    exec(client, psql, [...login, '-Atc', 'select sum(i) from generate_series(1,100000) i', 'postgres'])
      .stdout,
    '5000050000\n',
  );
  t.equal(exec(client, pgbench, [...login, '-i', '-q', 'postgres']).status, 0);
  const load = exec(client, pgbench, [...login, '-n', '-c', '4', '-t', '200', 'postgres']);
  t.match(load.stdout, /number of transactions actually processed: 800\/800/);
  t.ok(made.arrived() >= 7, 'through the sidecar of the server');
});

t.test('mariadb, whose server speaks first', async (t) => {
  const paths = programs(t, 'mariadb-install-db', 'mariadbd', 'mariadb');
  const made = paths && (await meshFor(t, 3306));
  if (paths === undefined || made === undefined) return;
  const [install, mariadbd, client] = paths;
  const folder = folderFor(t);
  const data = join(folder, 'data');
  const options = [
    '--no-defaults',
    `--datadir=${data}`,
    '--auth-root-authentication-method=normal',
    '--skip-test-db',
  ];
  t.equal(exec(made.mesh.server, 'setpriv', [...AS_NOBODY, install, ...options]).status, 0);
  const start = join(folder, 'init.sql');
  writeFileSync(start, "CREATE USER 'ferrule'@'%';\nGRANT ALL ON *.* TO 'ferrule'@'%';\n");
  const flags = ['--no-defaults', `--datadir=${data}`, `--socket=${folder}/socket`, `--init-file=${start}`];
  await serve(made.mesh.server, 3306, 'setpriv', [
    ...AS_NOBODY,
    mariadbd,
    ...flags,
    `--bind-address=${SERVER.v4}`,
  ]);
  const since = performance.now();
  const query = () =>
    exec(made.mesh.client, client, ['-h', VIRTUAL, '-u', 'ferrule', '--skip-ssl', '-BNe', 'select 6*7']);
  await poll('mariadb answers', () => query().stdout === '42\n');
  t.pass(`first answer ${Math.round(performance.now() - since)} ms after it listened`);
  t.ok(made.arrived() >= 1, 'through the sidecar of the server');
});

t.test('an SMTP banner', async (t) => {
  const paths = programs(t, 'exim4', 'socat', 'curl');
  const made = paths && (await meshFor(t, 25));
  if (paths === undefined || made === undefined) return;
  const [exim, socat] = paths;
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-smtp-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // With a name of its own it asks no DNS, which a namespace does not have.
  const config = join(folder, 'exim.conf');
  writeFileSync(config, 'primary_hostname = mail.test\nhost_lookup =\n');
  const inetd = `EXEC:${exim} -C ${config} -bs,pipes`;
  await serve(made.mesh.server, 25, socat, [`TCP-LISTEN:25,fork,reuseaddr,bind=${SERVER.v4}`, inetd]);
  const session = exec(made.mesh.client, socat, ['-t', '10', '-', `TCP:${VIRTUAL}:25`], {
    input: 'QUIT\r\n',
  });
  t.match(session.stdout, /^220 .*\r\n221 /s, 'greeting and goodbye');
  t.ok(made.arrived() >= 1, 'through the sidecar of the server');
});

t.test('ssh: a command and a large transfer', async (t) => {
  const paths = programs(t, 'sshd', 'ssh', 'ssh-keygen');
  const made = paths && (await meshFor(t, 22));
  if (paths === undefined || made === undefined) return;
  const [sshd, ssh, keygen] = paths;
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-ssh-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const name of ['host', 'user'])
    exec(made.mesh.server, keygen, ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
  writeFileSync(join(folder, 'keys'), readFileSync(join(folder, 'user.pub')));
  const settings = [
    `ListenAddress ${SERVER.v4}`,
    `HostKey ${folder}/host`,
    `AuthorizedKeysFile ${folder}/keys`,
    'PermitRootLogin yes',
    'StrictModes no',
    'UsePAM no',
    'PidFile none',
  ];
  writeFileSync(join(folder, 'sshd_config'), `${settings.join('\n')}\n`);
  // Where it puts unprivileged children; a package's service would have made it.
  exec(made.mesh.server, 'mkdir', ['-p', '/run/sshd']);
  await serve(made.mesh.server, 22, sshd, ['-D', '-e', '-f', join(folder, 'sshd_config')]);
  const known = [
    '-o',
    'StrictHostKeyChecking=no',
    '-o',
    'UserKnownHostsFile=/dev/null',
    '-o',
    'BatchMode=yes',
  ];
  const login = ['-i', join(folder, 'user'), ...known, `${userInfo().username}@${VIRTUAL}`];
  const run = (command: string, input?: string) =>
    exec(made.mesh.client, ssh, [...login, command], input === undefined ? {} : { input });
  t.equal(run('echo hello').stdout, 'hello\n', 'a command');
  const text = 'a line to be counted on the other side\n'.repeat(500_000);
  t.equal(run('wc -c', text).stdout.trim(), String(text.length), '20 MB to the server');
  t.equal(run('head -c 20000000 /dev/zero | sha256sum').status, 0);
  t.equal(run('head -c 500000 /dev/zero | tr "\\0" x').stdout.length, 500_000, 'and back');
  t.ok(made.arrived() >= 4, 'through the sidecar of the server');
});
