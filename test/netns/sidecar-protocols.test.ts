/** Real clients and servers that know nothing of the two sidecars between them, nor of the mutual TLS. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { basename, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { makeIdentities } from '../support/identities.ts';
import { createMesh, type Mesh, poll, SERVER } from '../support/mesh.ts';
import { SECURITIES, type Security, startSidecars } from '../support/mesh-security.ts';
import { exec, type Namespace } from '../support/netns.ts';
import {
  AS_NOBODY,
  folderFor,
  giveToNobody,
  programs,
  serve,
  startMariadb,
  startSmtp,
} from '../support/servers.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/**
 * How much later a server that speaks first may answer through sidecars. Nobody is to wait for a client that is silent: the
 * longest wait in the design is 50 ms, and a name nobody resolves costs 5 s; the rest is for a loaded machine.
 */
const FIRST_ANSWER_MS = 800;

/** Of one transfer through ssh, which encrypts and decrypts it as well. */
const SSH_BYTES = SOAK ? 100_000_000 : 20_000_000;

const VIRTUAL = '10.96.0.10';

/** One of real life, over every kind of sidecars. */
interface Protocol {
  readonly name: string;
  readonly run: (t: Test, security: Security) => Promise<void>;
  /** Behind a transport header, which changes nothing of what passes, only where time does not matter. */
  readonly slow: boolean;
}

const PROTOCOLS: readonly Protocol[] = [
  { name: 'redis-cli and redis-benchmark', run: redis, slow: false },
  { name: 'psql and pgbench, with TLS of their own', run: postgresql, slow: true },
  { name: 'mariadb, whose server speaks first', run: mariadb, slow: true },
  { name: 'an SMTP banner', run: smtp, slow: false },
  { name: 'ssh: a command and a large transfer', run: ssh, slow: true },
  { name: 'curl and TLS of the application', run: https, slow: false },
];

for (const security of SECURITIES) {
  for (const { name, run, slow } of PROTOCOLS) {
    if (slow && security === 'transport-header' && !SOAK) continue;
    t.test(`${name}, ${security}`, (t) => run(t, security));
  }
}

/** Both pods, and a virtual IP in front of `port` of the server pod. */
async function meshFor(
  t: Test,
  security: Security,
  port: number,
): Promise<{ mesh: Mesh; expectArrived: (least: number) => void } | undefined> {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return undefined;
  const db = { name: 'db', ip: VIRTUAL, port, endpoint: SERVER.v4 };
  const { expectSecurity } = await startSidecars(t, mesh, security, [db]);
  return { mesh, expectArrived: (least) => expectSecurity(t, least) };
}

async function redis(t: Test, security: Security): Promise<void> {
  const paths = programs(t, 'redis-server', 'redis-cli', 'redis-benchmark');
  const made = paths && (await meshFor(t, security, 6379));
  if (paths === undefined || made === undefined) return;
  const [server, cli, benchmark] = paths;
  const where = ['--bind', SERVER.v4, '--protected-mode', 'no', '--save', '', '--dir', folderFor(t)];
  await serve(made.mesh.server, 6379, server, where);
  const redis = (...args: string[]) => exec(made.mesh.client, cli, ['-h', VIRTUAL, ...args]).stdout.trim();
  t.equal(redis('set', 'key', 'value'), 'OK');
  t.equal(redis('get', 'key'), 'value');
  const size = ['-n', '20000', '-c', '20', '-P', '4'];
  const load = exec(made.mesh.client, benchmark, ['-h', VIRTUAL, ...size, '-t', 'set,get', '-q']);
  t.equal(load.status, 0, load.stderr);
  t.match(load.stdout, /GET: .*requests per second/);
  made.expectArrived(22);
}

async function postgresql(t: Test, security: Security): Promise<void> {
  const paths = programs(t, 'initdb', 'postgres', 'psql', 'pgbench');
  const made = paths && (await meshFor(t, security, 5432));
  if (paths === undefined || made === undefined) return;
  const [initdb, postgres, psql, pgbench] = paths;
  const data = join(folderFor(t), 'data');
  const { client, server } = made.mesh;
  const cluster = ['-D', data, '-U', 'ferrule', '-A', 'trust', '--no-sync'];
  const created = exec(server, 'setpriv', [...AS_NOBODY, initdb, ...cluster]);
  t.equal(created.status, 0, created.stderr);
  writeFileSync(join(data, 'pg_hba.conf'), 'host all all 0.0.0.0/0 trust\n');
  const { certificate, key, trustAnchors } = (await (await makeIdentities(t)).make('db')).paths;
  giveToNobody(certificate, join(data, 'server.crt'));
  giveToNobody(key, join(data, 'server.key'));
  const settings = [`listen_addresses=${SERVER.v4}`, 'unix_socket_directories=', 'fsync=off', 'ssl=on'];
  const flags = settings.flatMap((setting) => ['-c', setting]);
  await serve(server, 5432, 'setpriv', [...AS_NOBODY, postgres, '-D', data, ...flags]);
  const query = (how: string, text: string) => {
    const where = `host=${VIRTUAL} user=ferrule dbname=postgres ${how}`;
    return exec(client, psql, [where, '-XAtc', text]).stdout;
  };
  await poll('postgres is up', () => query('', 'select 1') === '1\n');
  t.equal(query('', 'select sum(i) from generate_series(1,100000) i'), '5000050000\n');

  const encrypted = 'select ssl, version from pg_stat_ssl where pid = pg_backend_pid()';
  t.equal(query('sslmode=prefer', encrypted), 't|TLSv1.3\n', 'SSLRequest: its own TLS');
  const verified = `sslmode=verify-ca sslrootcert=${trustAnchors}`;
  t.equal(query(verified, encrypted), 't|TLSv1.3\n', "nobody but the server ended the client's TLS");
  t.equal(query('sslmode=disable', encrypted), 'f|\n', 'and without');

  const login = ['-h', VIRTUAL, '-U', 'ferrule'];
  t.equal(exec(client, pgbench, [...login, '-i', '-q', 'postgres']).status, 0);
  const load = exec(client, pgbench, [...login, '-n', '-c', '4', '-t', '200', 'postgres']);
  t.match(load.stdout, /number of transactions actually processed: 800\/800/);
  made.expectArrived(10);
}

async function mariadb(t: Test, security: Security): Promise<void> {
  const paths = programs(t, 'mariadb-install-db', 'mariadbd', 'mariadb');
  const made = paths && (await meshFor(t, security, 3306));
  if (paths === undefined || made === undefined) return;
  const client = paths[2];
  await startMariadb(t, made.mesh.server, SERVER.v4, 3306, paths);
  const query = (from: Namespace, host: string) => {
    const since = performance.now();
    const asked = exec(from, client, ['-h', host, '-u', 'ferrule', '--skip-ssl', '-BNe', 'select 6*7']);
    return { answer: asked.stdout, ms: performance.now() - since };
  };
  // From its own pod nothing is captured: so the first connection through sidecars is the one that is timed.
  await poll('mariadb answers', () => query(made.mesh.server, SERVER.v4).answer === '42\n');
  const direct = query(made.mesh.server, SERVER.v4);
  const first = query(made.mesh.client, VIRTUAL);
  t.equal(first.answer, '42\n');
  const more = Math.round(first.ms - direct.ms);
  t.ok(more < FIRST_ANSWER_MS, `the first answer took ${more} ms more than without sidecars`);
  made.expectArrived(1);
}

async function smtp(t: Test, security: Security): Promise<void> {
  const paths = programs(t, 'exim4', 'socat', 'curl');
  const made = paths && (await meshFor(t, security, 25));
  if (paths === undefined || made === undefined) return;
  await startSmtp(t, made.mesh.server, `TCP-LISTEN:25,bind=${SERVER.v4}`, 25, paths);
  const session = exec(made.mesh.client, paths[1], ['-t', '10', '-', `TCP:${VIRTUAL}:25`], {
    input: 'QUIT\r\n',
  });
  t.match(session.stdout, /^220 .*\r\n221 /s, 'greeting and goodbye');
  made.expectArrived(1);
}

async function ssh(t: Test, security: Security): Promise<void> {
  const paths = programs(t, 'sshd', 'ssh', 'ssh-keygen');
  const made = paths && (await meshFor(t, security, 22));
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
  const choices = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes'];
  const known = choices.flatMap((choice) => ['-o', choice]);
  const login = ['-i', join(folder, 'user'), ...known, `${userInfo().username}@${VIRTUAL}`];
  t.equal(exec(made.mesh.client, ssh, [...login, 'echo hello']).stdout, 'hello\n', 'a command');
  const file = join(folder, 'file');
  const bytes = randomBytes(SSH_BYTES);
  writeFileSync(file, bytes);
  const sum = `${createHash('sha256').update(bytes).digest('hex')}  -\n`;
  const shell = (pipeline: string) => exec(made.mesh.client, 'sh', ['-c', pipeline, ssh, ...login]).stdout;
  t.equal(shell(`"$0" "$@" sha256sum <${file}`), sum, `${SSH_BYTES / 1e6} MB to the server`);
  t.equal(shell(`"$0" "$@" cat ${file} | sha256sum`), sum, 'and back');
  t.equal(shell(`"$0" "$@" cat <${file} | sha256sum`), sum, 'both ways at once');
  made.expectArrived(4);
}

async function https(t: Test, security: Security): Promise<void> {
  const paths = programs(t, 'openssl', 'curl');
  const made = paths && (await meshFor(t, security, 8443));
  if (paths === undefined || made === undefined) return;
  const identity = await (await makeIdentities(t)).make('shop');
  const { certificate, key, trustAnchors } = identity.paths;
  const page = 'a page of the application\n'.repeat(40_000);
  writeFileSync(join(dirname(key), 'page'), page);
  // Serves files below its working folder.
  const flags = ['-accept', '8443', '-cert', certificate, '-key', key, '-WWW', '-quiet'];
  const command = `cd ${dirname(key)} && exec "$@"`;
  await serve(made.mesh.server, 8443, 'sh', ['-c', command, 'sh', paths[0], 's_server', ...flags]);
  const host = identity.serverName;
  const resolve = ['--resolve', `${host}:8443:${VIRTUAL}`];
  const got = (file: string, ...more: string[]) =>
    exec(made.mesh.client, paths[1], ['-sS', ...resolve, ...more, `https://${host}:8443/${file}`]);
  t.equal(got('page', '--cacert', trustAnchors).stdout, page, '1 MB from the server it verified itself');
  t.equal(got(basename(key)).status, 60, 'which it does without our help');
  made.expectArrived(2);
}
