/** Two pods as network namespaces on one link, each with the real rules of `ferrule init`. */

import { programPath } from './programs.ts';
import type { Run } from './run.ts';
import { ferrule } from './sidecars.ts';

/** Addresses of the pods. The namespaces are ours alone, so they collide with nothing. */
export const CLIENT_IP = '10.77.0.1';
/** The server pod has two, so that services can have two endpoints. */
export const SERVER_IPS = ['10.77.0.2', '10.77.0.3'] as const;

/** Full names of the namespaces of the pods. */
export interface Pods {
  readonly client: string;
  readonly server: string;
}

/** Why there can be no namespaces and rules here; undefined when they are worth a try. */
export function obstacleToPods(): string | undefined {
  if (process.geteuid?.() !== 0) return 'network namespaces and iptables rules need root';
  // The back end is the business of `ferrule init`.
  const missing = ['ip', 'nsenter'].filter((name) => programPath(name) === undefined);
  return missing.length === 0 ? undefined : `not installed: ${missing.join(', ')}`;
}

/**
 * Makes the pods and installs the rules.
 * @throws UserError with the program that failed and what it said
 */
export async function makePods(run: Run, initArguments: readonly string[]): Promise<Pods> {
  const pods = { client: run.namespace('client'), server: run.namespace('server') };
  const ip = (...args: string[]) => run.execute(`ip ${args.join(' ')}`, ['ip', ...args]);
  await Promise.all([ip('netns', 'add', pods.client), ip('netns', 'add', pods.server)]);
  const peer = ['peer', 'name', 'eth0', 'netns', pods.server];
  await ip('link', 'add', 'name', 'eth0', 'netns', pods.client, 'type', 'veth', ...peer);
  await Promise.all([
    connectPod(run, pods.client, [CLIENT_IP], SERVER_IPS[0], initArguments),
    connectPod(run, pods.server, SERVER_IPS, CLIENT_IP, initArguments),
  ]);
  return pods;
}

/** One shell for what must happen in this order: a program takes longer to start than to work. */
async function connectPod(
  run: Run,
  namespace: string,
  addresses: readonly string[],
  gateway: string,
  initArguments: readonly string[],
): Promise<void> {
  const commands = [
    'link set lo up',
    ...addresses.map((address) => `addr add ${address}/24 dev eth0`),
    'link set eth0 up',
    // Virtual IPs are nobody's; without a route to them the kernel would refuse before any rule is asked.
    `route add default via ${gateway}`,
  ];
  const ip = programPath('ip') ?? 'ip';
  const script = commands.map((command) => `${ip} ${command}`).join('\n');
  await run.execute('addresses of a pod', ['sh', '-ec', script], { namespace });
  await Promise.all([
    // The mesh of the demo is IPv4: kernels without IPv6 rules run it too.
    run.execute('ferrule init', [...ferrule(), 'init', '--ipv6', 'off', ...initArguments], { namespace }),
    run.execute('link of a pod', ['sh', '-ec', LINK_IS_UP, ip], { namespace }),
  ]);
}

/**
 * Until the kernel has noticed that both ends are up, which may take a second, programs that ask for the addresses of running
 * interfaces do not see these; a sidecar would not know its own. Gives up after 5 s and lets the first exchange tell.
 */
const LINK_IS_UP = `
for try in $(seq 100); do
  case $("$0" -o link show eth0) in *'state UP'*) exit 0 ;; esac
  sleep 0.05
done`;
