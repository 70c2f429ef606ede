/** Real databases as services of the demo, where they are installed. They live in the folder of the run and are gone with it. */

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { programPath } from './programs.ts';
import type { Run, StartOptions, User } from './run.ts';
import type { Place, Protocol } from './services.ts';

/** A database that can be started here. */
export interface Database {
  readonly protocol: Protocol & ('redis' | 'postgres' | 'mariadb');
  /** The port clients expect it at. */
  readonly port: number;
  /** Clients of this one: a psql is a process. */
  readonly clients: number;
  /**
   * Prepares and starts it and waits until it accepts connections.
   * @throws UserError with what it said when it does not
   */
  start(launch: Launch): Promise<void>;
}

/** Where and how a database is started. */
export interface Launch {
  readonly run: Run;
  readonly listen: Place;
  /** Other users of this machine can reach its port too. */
  readonly password: string;
  readonly namespace: string | undefined;
}

/** What an empty database needs at most to be made and started on a busy machine. */
const START_PATIENCE_MS = 60_000;

const REDIS: Database = {
  protocol: 'redis',
  port: 6379,
  clients: 4,
  async start(launch) {
    const { run, listen, password } = launch;
    const { owner, options } = place(launch);
    const folder = run.makeFolder('redis', options.user);
    const settings = [
      `bind ${listen.ip}`,
      `port ${listen.port}`,
      `requirepass ${password}`,
      `dir ${folder}`,
      // Nothing is to be kept.
      'save ""',
      'appendonly no',
    ];
    const file = run.writeFile('redis/redis.conf', `${settings.join('\n')}\n`, owner);
    const program = run.start('redis-server', ['redis-server', file], options);
    await program.line(/eady to accept connections/, START_PATIENCE_MS);
  },
};

const POSTGRES: Database = {
  protocol: 'postgres',
  port: 5432,
  clients: 2,
  async start(launch) {
    const { run, listen, password } = launch;
    const { owner, options } = place(launch);
    const folder = run.makeFolder('postgres', options.user);
    const data = join(folder, 'data');
    const passwordFile = run.writeFile('postgres/password', `${password}\n`, owner);
    const auth = ['-A', 'scram-sha-256', '--pwfile', passwordFile];
    await run.execute(
      'initdb',
      ['initdb', '-D', data, '-U', 'demo', ...auth, '--locale=C', '-E', 'UTF8', '--no-sync'],
      options,
    );
    // The server's sidecar dials from the address of the pod, not from loopback.
    run.appendFile('postgres/data/pg_hba.conf', 'host all all 0.0.0.0/0 scram-sha-256\n');
    const settings = {
      listen_addresses: listen.ip,
      port: listen.port,
      unix_socket_directories: '',
      // Nothing is to be kept, and it shares the machine with the mesh.
      fsync: 'off',
      max_connections: 20,
      shared_buffers: '16MB',
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const program = run.start('postgres', ['postgres', '-D', data, ...flags], options);
    await program.line(/ready to accept connections/, START_PATIENCE_MS);
  },
};

const MARIADB: Database = {
  protocol: 'mariadb',
  port: 3306,
  clients: 2,
  async start(launch) {
    const { run, listen, password } = launch;
    const { owner, options } = place(launch);
    const folder = run.makeFolder('mariadb', options.user);
    const data = join(folder, 'data');
    await run.execute(
      'mariadb-install-db',
      [
        'mariadb-install-db',
        '--no-defaults',
        `--datadir=${data}`,
        '--auth-root-authentication-method=normal',
        '--skip-test-db',
      ],
      options,
    );
    // Runs before the first connection is accepted.
    const file = run.writeFile(
      'mariadb/init.sql',
      `CREATE OR REPLACE USER 'root'@'%' IDENTIFIED BY '${password}';\n` +
        "DELETE FROM mysql.global_priv WHERE Host <> '%';\nFLUSH PRIVILEGES;\n",
      owner,
    );
    const settings = {
      datadir: data,
      'bind-address': listen.ip,
      port: listen.port,
      socket: join(folder, 'socket'),
      'pid-file': join(folder, 'pid'),
      'init-file': file,
      // There is no name server in a pod; looking for the name of every client would take its timeout.
      'skip-name-resolve': 'ON',
      // Nothing is to be kept, and it shares the machine with the mesh.
      'innodb-flush-log-at-trx-commit': 0,
      'innodb-buffer-pool-size': '16M',
    };
    const flags = Object.entries(settings).map(([name, value]) => `--${name}=${value}`);
    const program = run.start('mariadbd', ['mariadbd', '--no-defaults', ...flags], options);
    await program.line(/ready for connections/, START_PATIENCE_MS);
  },
};

/** What can be started here: Redis, and PostgreSQL or else MariaDB. */
export function installedDatabases(): Database[] {
  const candidates: readonly (readonly [Database, readonly string[]])[] = [
    [REDIS, ['redis-server']],
    [POSTGRES, ['initdb', 'postgres', 'psql']],
    [MARIADB, ['mariadb-install-db', 'mariadbd', 'mariadb']],
  ];
  const found = candidates
    .filter(([, programs]) => programs.every((name) => programPath(name) !== undefined))
    .map(([database]) => database);
  const relational = found.find(({ protocol }) => protocol !== 'redis');
  return found.filter((database) => database.protocol === 'redis' || database === relational);
}

/** For one run of the demo; no character of it needs quoting anywhere. */
export function newPassword(): string {
  return randomBytes(16).toString('hex');
}

/** Databases refuse to run as root; the others would be wise to. */
function place({ namespace }: Launch): { owner: User; options: StartOptions } {
  const root = process.geteuid?.() === 0;
  const user = root ? unprivilegedUser() : undefined;
  const owner = user ?? { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  return { owner, options: { user, namespace } };
}

/** The conventional one, which PostgreSQL wants to find in the list of users; 65534 in every distribution. */
function unprivilegedUser(): User {
  const entry = /^nobody:[^:]*:(\d+):(\d+):/m.exec(readFileSync('/etc/passwd', 'utf8'));
  return { uid: Number(entry?.[1] ?? 65534), gid: Number(entry?.[2] ?? 65534) };
}
