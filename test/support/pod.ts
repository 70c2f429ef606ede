/** A pod and its neighbour on one link, with greeters where traffic may end up, for tests of capture. */

import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { Greeter } from './banners.ts';
import type { DialAnswer, DialRequest } from './dial.ts';
import {
  canUseNamespaces,
  createNamespace,
  exec,
  link,
  type Namespace,
  routeDefault,
  spawn,
} from './netns.ts';
import { missing, requirePeer } from './peers.ts';

/** The two ends of the link. The neighbour also is the way to everywhere else. */
export interface Pod {
  readonly pod: Namespace;
  readonly neighbour: Namespace;
}

/** A pod's addresses in the namespace of its test; each test has a network of its own. */
export const POD_ADDRESSES = ['10.77.0.1/24', 'fd77::1/64'] as const;

/** The neighbour's: on the link, in networks a test may ignore, and the metadata services. */
export const NEIGHBOUR_ADDRESSES = [
  '10.77.0.2/24',
  'fd77::2/64',
  '10.88.0.2/24',
  'fd88::2/64',
  '169.254.169.254/32',
  'fd00:ec2::254/128',
] as const;

const script = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const FERRULE = script('../../proxy/cli/ferrule.ts');

/** How long a program may take to say that it is ready on a loaded machine. */
const READY_DEADLINE_MS = 20_000;

/** Makes the pair. @returns undefined when this machine cannot, after skipping the test with the reason */
export function createPod(t: Test, backend: string): Pod | undefined {
  const usable = canUseNamespaces();
  if (!usable.ok) {
    missing(t, usable.reason);
    return undefined;
  }
  for (const family of ['iptables', 'ip6tables']) {
    if (requirePeer(t, `${family}-${backend}`) === undefined) return undefined;
  }
  const pod = createNamespace(t, `pod-${backend}`);
  const neighbour = createNamespace(t, `neighbour-${backend}`);
  link(
    { namespace: pod, addresses: POD_ADDRESSES },
    { namespace: neighbour, addresses: NEIGHBOUR_ADDRESSES },
  );
  routeDefault(pod, '10.77.0.2');
  routeDefault(pod, 'fd77::2');
  return { pod, neighbour };
}

/** Starts listeners that greet with a banner and waits until they listen. */
export async function startGreeters(namespace: Namespace, greeters: readonly Greeter[]): Promise<void> {
  const child = spawn(namespace, process.execPath, [script('./banners.ts'), JSON.stringify(greeters)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('the greeters are not ready in time')), READY_DEADLINE_MS);
    const settle = (end: () => void) => {
      clearTimeout(late);
      end();
    };
    child.once('exit', (status) => settle(() => reject(new Error(`the greeters ended with ${status}`))));
    child.stdout!.once('data', () => settle(resolve));
  });
}

/** Dials from a namespace. @returns the banner, error code or `timeout` for each target */
export function dial(namespace: Namespace, request: DialRequest): string[] {
  return dialTimed(namespace, request).map(({ text }) => text);
}

/** As `dial`, with the time each answer took. */
export function dialTimed(namespace: Namespace, request: DialRequest): DialAnswer[] {
  const { status, stdout, stderr } = exec(namespace, process.execPath, [
    script('./dial.ts'),
    JSON.stringify(request),
  ]);
  if (status !== 0) throw new Error(`dial: ${stderr}`);
  return JSON.parse(stdout);
}

/** Program and first arguments of `ferrule init`, for tests that run it in an unusual way. */
export function initCommand(): string[] {
  return [process.execPath, FERRULE, 'init'];
}

/** Runs `ferrule init` on the namespace. */
export function init(
  namespace: Namespace,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): SpawnSyncReturns<string> {
  const [node, ...first] = initCommand();
  return spawnSync(node, [...first, '--netns', namespace.path, ...args], { encoding: 'utf8', env });
}

/** Runs `ferrule init` in the namespace as root without any capability. */
export function initWithoutCapabilities(namespace: Namespace, args: readonly string[]) {
  const bare = ['--bounding-set', '-all', '--inh-caps', '-all'];
  return exec(namespace, 'setpriv', [...bare, ...initCommand(), ...args]);
}
