/** Servers nobody of Ferrule wrote, started in the namespaces of tests; gone with the namespace. */
import type { ChildProcess } from 'node:child_process';
import { chownSync, cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { poll } from './mesh.ts';
import { exec, type Namespace, spawn } from './netns.ts';
import { requirePeer } from './peers.ts';

/** The user databases run as: they refuse root. */
const NOBODY = 65534;

/** For setpriv: as that user. */
export const AS_NOBODY = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];

/** For env: tap puts its hooks into every Node process it sees, and they slow it down. */
export const WITHOUT_HOOKS = ['-u', 'NODE_OPTIONS'];

/** A folder the unprivileged user may write to; t.testdir() may lie below one that it cannot enter. */
export function folderFor(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-servers-${process.pid}-`));
  chownSync(folder, NOBODY, NOBODY);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Puts files into the unprivileged user's hands under other names, as servers want their keys. */
export function giveToNobody(from: string, to: string): void {
  cpSync(from, to);
  chownSync(to, NOBODY, NOBODY);
}

/** The paths of several programs; undefined when one is missing, which was told then. */
export function programs(t: Test, ...names: string[]): string[] | undefined {
  const found = names.map((name) => requirePeer(t, name));
  return found.every((path) => path !== undefined) ? found : undefined;
}

/** Starts a server and waits until it accepts connections. @returns the process */
export async function serve(
  namespace: Namespace,
  port: number,
  command: string,
  args: readonly string[],
): Promise<ChildProcess> {
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
  return child;
}

/** Starts the application of `http-application-program.ts`. */
export function serveApplication(namespace: Namespace, host: string, port: number): Promise<ChildProcess> {
  const program = fileURLToPath(new URL('./http-application-program.ts', import.meta.url));
  const args = [...WITHOUT_HOOKS, process.execPath, program, host, String(port)];
  return serve(namespace, port, 'env', args);
}

/**
 * Starts MariaDB with a user `ferrule` who needs no password.
 * @param host IP literal to listen on; `*` is every address of both families
 * @param paths of mariadb-install-db and mariadbd
 */
export async function startMariadb(
  t: Test,
  namespace: Namespace,
  host: string,
  port: number,
  [install, mariadbd]: readonly string[],
): Promise<void> {
  const folder = folderFor(t);
  const data = `--datadir=${join(folder, 'data')}`;
  const options = ['--no-defaults', data, '--auth-root-authentication-method=normal', '--skip-test-db'];
  const installed = exec(namespace, 'setpriv', [...AS_NOBODY, install, ...options]);
  t.equal(installed.status, 0, `a new database ${installed.status === 0 ? '' : installed.stderr}`);
  const start = join(folder, 'init.sql');
  writeFileSync(start, "CREATE USER 'ferrule'@'%';\nGRANT ALL ON *.* TO 'ferrule'@'%';\n");
  // Without names it asks no DNS, which a namespace does not have, before it greets.
  const flags = ['--skip-name-resolve', `--socket=${folder}/socket`, `--init-file=${start}`];
  const where = [`--bind-address=${host}`, `--port=${port}`];
  await serve(namespace, port, 'setpriv', [
    ...AS_NOBODY,
    mariadbd,
    '--no-defaults',
    data,
    ...flags,
    ...where,
  ]);
}

/**
 * Starts exim, which greets whoever connects.
 * @param listen socat's words for where: `TCP4-LISTEN:25,bind=10.0.0.1`
 * @param paths of exim4 and socat
 */
export async function startSmtp(
  t: Test,
  namespace: Namespace,
  listen: string,
  port: number,
  [exim, socat]: readonly string[],
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-smtp-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // With a name of its own it asks no DNS either.
  const config = join(folder, 'exim.conf');
  writeFileSync(config, 'primary_hostname = mail.test\nhost_lookup =\n');
  await serve(namespace, port, socat, [`${listen},fork,reuseaddr`, `EXEC:${exim} -C ${config} -bs,pipes`]);
}
