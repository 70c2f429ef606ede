/** The sidecars: real `ferrule proxy` processes with a configuration file each. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { EXIT, UserError } from '../core/errors.ts';
import type { IdentityPaths } from './identities.ts';
import type { Program } from './program.ts';
import { programPath } from './programs.ts';
import type { Run, User } from './run.ts';
import { identityOf, type Pod } from './services.ts';

/** The user and the group sidecars run as, as everywhere in the field. */
const PROXY_ID = 2102;

/** Includes the start of Node on a machine that is busy with everything else the demo starts. */
const READY_PATIENCE_MS = 15_000;

/** Program and first arguments of `ferrule`. */
export function ferrule(): string[] {
  return [process.execPath, process.argv[1]];
}

/** Who the sidecars run as, and what `ferrule init` must know of it. */
export interface ProxyUser {
  /** The demo's own user when absent. */
  readonly user: User | undefined;
  readonly initArguments: readonly string[];
}

/**
 * Chooses the user. Uid 2102 cannot read a checkout below a closed home: then the sidecars keep the demo's uid with group 2102,
 * which the rules exempt as well. Without root there is no choice.
 */
export function chooseProxyUser(): ProxyUser {
  if (process.geteuid?.() !== 0 || programPath('nsenter') === undefined) {
    return { user: undefined, initArguments: [] };
  }
  const [node, script] = ferrule();
  // Loads a good part of the program.
  const tried = spawnSync(node, [script, 'proxy', '--print-config'], {
    uid: PROXY_ID,
    gid: PROXY_ID,
    cwd: '/',
    stdio: 'ignore',
  });
  // Root of a container that may not change users.
  if ((tried.error as NodeJS.ErrnoException | undefined)?.code === 'EPERM') {
    return { user: undefined, initArguments: [] };
  }
  if (tried.status === 0) return { user: { uid: PROXY_ID, gid: PROXY_ID }, initArguments: [] };
  return { user: { uid: 0, gid: PROXY_ID }, initArguments: ['--proxy-gid', String(PROXY_ID)] };
}

/** What is different between the sidecars; the names are those of the configuration file. */
export interface SidecarSettings {
  readonly outbound: object;
  readonly inbound: object;
  /** Address and port. */
  readonly admin: string;
}

/** A sidecar that accepts connections. */
export interface Sidecar {
  readonly pod: Pod;
  readonly program: Program;
  /** What it is bound to, in the order of the configuration. */
  readonly listeners: readonly string[];
  /** Address and port of the admin server for its own pod. */
  readonly admin: string;
}

/** Where a sidecar runs, as whom, and what it is given. */
export interface SidecarOptions {
  readonly user: User | undefined;
  readonly namespace?: string;
  readonly identity: IdentityPaths;
  readonly meshFolder?: string;
}

/**
 * Starts the sidecar of a pod and waits until it accepts connections. It dials nobody without an identity, and lets nobody in
 * without one, clients on loopback excepted.
 * @param options.meshFolder the resources it learns of the mesh from; a sidecar that only takes in needs none
 * @throws UserError with its last lines when it ends instead
 */
export async function startSidecar(
  run: Run,
  pod: Pod,
  settings: SidecarSettings,
  options: SidecarOptions,
): Promise<Sidecar> {
  const { trustDomain, namespace, serviceAccount } = identityOf(pod);
  const secrets = run.makeFolder(`${pod}-secrets`, options.user);
  const file = run.writeFile(
    `${pod}-sidecar.yaml`,
    stringify({
      workload: { namespace, serviceAccount, pod },
      trustDomain,
      identity: { source: 'files', ...options.identity },
      discovery: options.meshFolder === undefined ? [] : [{ source: 'file', path: options.meshFolder }],
      outbound: { ...settings.outbound, requireIdentity: true },
      inbound: { ...settings.inbound, defaultPolicy: 'all-authenticated' },
      admin: { listen: settings.admin, tokenFile: join(secrets, 'admin-token') },
      // When the demo ends its clients are gone: there is nothing to wait for.
      shutdown: { grace: '0s', drainDelay: '0s' },
      log: { format: 'json' },
    }),
  );
  const program = run.start(`sidecar of the ${pod} pod`, [...ferrule(), 'proxy', '--config', file], options);
  const ready = JSON.parse(await program.line(/"message":"ready"/, READY_PATIENCE_MS));
  if (typeof ready.listeners !== 'string' || typeof ready.admin !== 'string') {
    throw new UserError(`${program.name} does not say where it listens`, EXIT.failure);
  }
  return {
    pod,
    program,
    listeners: ready.listeners.split(','),
    admin: ready.admin.replace('0.0.0.0', '127.0.0.1'),
  };
}
