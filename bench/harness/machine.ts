/** This machine: programs, versions, ports, folders. */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { cpus, loadavg, release } from 'node:os';
import { dirname, join } from 'node:path';
import { UserError } from '../../proxy/core/errors.ts';

/**
 * The user proxies run as when the harness is root: root has pipe buffers without limit, a sidecar has not, and splice
 * depends on them.
 */
const PROXY_UID = 2102;

/** Below the ports the kernel gives to clients (32768 by default), so that no connection of a load holds one. */
const PORTS = { first: 20_000, count: 10_000 } as const;

/** The user that proxies run as; undefined for our own. */
export function proxyUser(): number | undefined {
  return process.getuid?.() === 0 ? PROXY_UID : undefined;
}

/** The folder of the project: the nearest one above this file with a package.json. */
export function projectRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json'))) {
    if (folder === dirname(folder))
      throw new UserError('the benchmark runs inside a checkout of the project');
    folder = dirname(folder);
  }
  return folder;
}

/** The path of a program in PATH or the folders of system programs; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** @throws UserError that names the Debian package when the program is not installed */
export function needProgram(name: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new UserError(`${name} is not installed (Debian: apt-get install ${name})`);
  return path;
}

/** What a program prints about itself, on either stream. */
export function ask(
  command: string,
  args: readonly string[],
  user?: number,
): { readonly status: number | null; readonly text: string } {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: 10_000,
    ...(user === undefined ? {} : { uid: user, gid: user }),
  });
  return { status, text: error === undefined ? `${stdout}${stderr}` : error.message };
}

/** Kernel, processor and Node with its TLS library, and what decides how proxies run. */
export function machineVersions(): string[] {
  const processors = cpus();
  const pipePages = readFileSync('/proc/sys/fs/pipe-user-pages-soft', 'utf8').trim();
  return [
    `Linux ${release()}, ${processors.length} × ${processors[0]?.model.trim() ?? 'unknown processor'}`,
    `Node ${process.version} with OpenSSL ${process.versions.openssl}`,
    `proxies run as uid ${proxyUser() ?? process.getuid?.()}, which may have ${pipePages} pages of pipes`,
    // Whoever reads a report should see when the machine was not idle: pairing helps, but only so far.
    `load average at the start ${loadavg()[0].toFixed(2)}`,
  ];
}

/** How generators and backends tell their versions. */
const VERSION_OF: Readonly<Record<string, { readonly args: string[]; readonly pattern: RegExp }>> = {
  wrk: { args: ['-v'], pattern: /wrk (?:\w+\/)?(\S+)/ },
  nginx: { args: ['-v'], pattern: /nginx\/(\S+)/ },
  h2load: { args: ['--version'], pattern: /nghttp2\/(\S+)/ },
  nghttpd: { args: ['--version'], pattern: /nghttp2\/(\S+)/ },
  openssl: { args: ['version'], pattern: /OpenSSL (\S+)/ },
  'g++': { args: ['--version'], pattern: /(\S+)\n/ },
};

/** What makes the load and answers it. */
export function generatorVersions(programs: ReadonlySet<string>): string[] {
  return [...programs].map((name) => {
    const { args, pattern } = VERSION_OF[name] ?? { args: ['--version'], pattern: /(\d\S*)/ };
    const text = ask(findProgram(name) ?? name, args).text;
    return `load: ${name} ${pattern.exec(text)?.[1] ?? 'of unknown version'}`;
  });
}

let nextPort = process.pid % PORTS.count;

/** A port of 127.0.0.1 that nobody listens on. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PORTS.count; tries++) {
    const port = PORTS.first + (nextPort++ % PORTS.count);
    if (await canListen(port)) return port;
  }
  throw new UserError(`no free port from ${PORTS.first} to ${PORTS.first + PORTS.count - 1}`);
}

function canListen(port: number): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EADDRINUSE') resolve(false);
    else reject(error);
  });
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  return promise;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return false;
  }
}
