/** Two pods with a sidecar each, captured by real iptables rules, for tests of the whole way. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { bootstrap } from '../../scripts/bootstrap.mjs';
import { parseExposition, seriesName } from './exposition.ts';
import { canUseNamespaces, createNamespace, exec, link, type Namespace, spawn } from './netns.ts';
import { missing, requirePeer } from './peers.ts';
import { init } from './pod.ts';

/** Addresses of the pods; each test has a network of its own. */
export const CLIENT = { v4: '10.77.1.1', v6: 'fd77:1::1' };
export const SERVER = { v4: '10.77.1.2', v6: 'fd77:1::2' };

/** The uid the rules let through. */
export const PROXY_UID = 2102;
/** What a program may take to be ready on a machine that runs other tests as well. */
const READY_DEADLINE_MS = 40_000;

/**
 * What a sidecar may take to let go of connections whose ends are gone. It hears of them at once; those it keeps to endpoints for
 * HTTP/2 end after 10 s without a byte. The rest is load.
 */
const RELEASE_DEADLINE_MS = 25_000;

/** Gauges of what is open or held; an idle sidecar shows each, at zero. */
const HELD_GAUGES = [
  'tcp_open_connections',
  'ferrule_engine_connections',
  'ferrule_engine_relays',
  'ferrule_engine_queued_bytes',
] as const;

// A test file that is run by itself has no npm script before it that would have built what it tests.
await bootstrap();

const FERRULE = fileURLToPath(new URL('../../dist/proxy/cli/ferrule.js', import.meta.url));
const TCP_PEER = fileURLToPath(new URL('./tcp-peer.ts', import.meta.url));

/** What sidecars had not let go of at the end of the test that runs; it fails when everything is cleaned up. */
const complaints: unknown[] = [];

/** A running sidecar. */
export interface Sidecar {
  /** What it has logged so far. */
  log(): string;
  /** The value of a series; 0 when there is none. `labels` must be all of them, in any order. */
  metric(family: string, labels: Readonly<Record<string, string>>): number;
  /** The sum of all series of a family whose text contains every part. */
  sum(family: string, ...parts: string[]): number;
  /** Waits until the condition holds. */
  until(what: string, condition: () => boolean): Promise<void>;
}

/** The pair. */
export interface Mesh {
  readonly client: Namespace;
  readonly server: Namespace;
}

/** Makes two linked namespaces with rules in both. @returns undefined when this machine cannot, after saying why */
export function createMesh(t: Test, backend: 'nft' | 'legacy', proxyUid = PROXY_UID): Mesh | undefined {
  const usable = canUseNamespaces();
  if (!usable.ok) {
    missing(t, usable.reason);
    return undefined;
  }
  for (const program of [`iptables-${backend}`, `ip6tables-${backend}`, 'setpriv']) {
    if (requirePeer(t, program) === undefined) return undefined;
  }
  // The first of the teardowns is the last to run; whatever comes after one that throws, tap skips.
  t.teardown(() => {
    const found = complaints.splice(0);
    if (found.length > 0) throw new AggregateError(found, found.join('\n'));
  });
  const client = createNamespace(t, 'client');
  const server = createNamespace(t, 'server');
  link(
    { namespace: client, addresses: [`${CLIENT.v4}/24`, `${CLIENT.v6}/64`] },
    { namespace: server, addresses: [`${SERVER.v4}/24`, `${SERVER.v6}/64`] },
  );
  for (const [namespace, gateway] of [
    [client, SERVER],
    [server, CLIENT],
  ] as const) {
    for (const [family, via] of [
      ['-4', gateway.v4],
      ['-6', gateway.v6],
    ]) {
      exec(namespace, 'ip', [family, 'route', 'add', 'default', 'via', via]);
    }
    const result = init(namespace, [
      '--iptables-mode',
      backend,
      '--proxy-uid',
      String(proxyUid),
      '--ipv6',
      'require',
    ]);
    t.equal(result.status, 0, `rules are installed with ${backend}: ${result.stderr}`);
  }
  return { client, server };
}

/** Where the sidecars of a test know the mesh from. At its end endpoints go: so do connections to them at once, idle or not. */
const resourcesOf = new WeakMap<Test, string[]>();

/**
 * Starts a sidecar as the proxy's uid, from an up-to-date `dist/`, and waits until it is ready. When the test ends, before
 * its namespaces go, the sidecar must still run and every gauge of `HELD_GAUGES` return to zero; else the test fails.
 */
export async function startSidecar(
  t: Test,
  namespace: Namespace,
  options: { readonly resources?: string; readonly config?: object; readonly discovery?: string } = {},
): Promise<Sidecar> {
  // Not t.testdir(): a second one in the same test would empty the first, and it may lie where the proxy's uid cannot look.
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-mesh-'));
  chmodSync(folder, 0o755);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const mesh = join(folder, `${namespace.name}.d`);
  mkdirSync(mesh, { recursive: true });
  const resources = join(mesh, 'mesh.yaml');
  writeFileSync(resources, options.resources ?? '');
  const config = join(folder, `${namespace.name}.json`);
  const discovery = [{ source: 'file', path: options.discovery ?? mesh }];
  writeFileSync(config, JSON.stringify({ discovery, shutdown: { drainDelay: '0s' }, ...options.config }));
  const who = ['--regid', String(PROXY_UID), '--clear-groups'];
  const args = ['--reuid', String(PROXY_UID), ...who, process.execPath, FERRULE, 'proxy', '--config', config];
  const child = spawn(namespace, 'setpriv', args, {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: withoutHooks(),
  });
  let text = '';
  child.stderr?.on('data', (chunk) => {
    text += chunk;
  });
  const scrape = () => exec(namespace, 'curl', ['-s', 'http://127.0.0.1:4191/metrics']).stdout;
  const sidecar: Sidecar = {
    log: () => text,
    metric: (family, labels) => parseExposition(scrape()).samples.get(seriesName(family, labels)) ?? 0,
    sum: (family, ...parts) => {
      let sum = 0;
      for (const [name, value] of parseExposition(scrape()).samples) {
        const mine = name.startsWith(`${family}{`) || name === family;
        if (mine && parts.every((part) => name.includes(part))) sum += value;
      }
      return sum;
    },
    until: (what, condition) => poll(what, condition, () => text),
  };
  const known = resourcesOf.get(t) ?? [];
  resourcesOf.set(t, known);
  known.push(resources);
  // A test of discovery that does not answer gets a sidecar that is never ready.
  const page = options.discovery === undefined ? 'ready' : 'live';
  await poll('the sidecar is ready', () => {
    if (child.exitCode !== null) throw new Error(`the sidecar ended with ${child.exitCode}: ${text}`);
    return exec(namespace, 'curl', ['-sf', `http://127.0.0.1:4191/${page}`]).status === 0;
  });
  t.teardown(async () => {
    try {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the sidecar is gone: ${text}`);
      for (const file of known.splice(0)) withoutEndpoints(file);
      await released(scrape, () => text);
    } catch (error) {
      complaints.push(error);
    }
  });
  return sidecar;
}

function withoutEndpoints(file: string): void {
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^endpoints: .*/gm, 'endpoints: []'));
}

/** Waits until a sidecar holds nothing any more. @throws naming the gauges that are left */
async function released(scrape: () => string, explain: () => string): Promise<void> {
  let held: string[] = [];
  const free = () => {
    const { families, samples } = parseExposition(scrape());
    held = HELD_GAUGES.filter((gauge) => gauge.startsWith('ferrule_') && !families.has(gauge));
    for (const [name, value] of samples) {
      if (value !== 0 && HELD_GAUGES.some((gauge) => name === gauge || name.startsWith(`${gauge}{`)))
        held.push(`${name} ${value}`);
    }
    return held.length === 0;
  };
  const what = () => `left at the end of the test: ${held.join(', ')}\n${explain()}`;
  await poll('the sidecar lets go of everything', free, what, RELEASE_DEADLINE_MS);
}

/** Starts tcp-peer's server in a namespace. */
export async function startServer(namespace: Namespace, host: string, port: number): Promise<void> {
  const child = spawn(namespace, process.execPath, [TCP_PEER, 'serve', host, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: withoutHooks(),
  });
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  await poll(`a server on ${host}:${port}`, () => text.includes('listening'));
}

/** What a client of tcp-peer saw. */
export interface Answer {
  readonly received?: number;
  readonly sha256?: string;
  /** Hash of as many bytes of the pattern as were asked for. */
  readonly sent?: string;
  /** What was received, when it is short. */
  readonly text?: string;
  readonly error?: string;
}

/** Runs a client of tcp-peer to its end. */
export function ask(namespace: Namespace, host: string, port: number, what: string, bytes = 0): Answer {
  const args = [TCP_PEER, 'ask', host, String(port), what, String(bytes)];
  const { stdout, stderr } = exec(namespace, process.execPath, args, { env: withoutHooks() });
  if (stdout === '') throw new Error(`no answer: ${stderr}`);
  return JSON.parse(stdout);
}

/** Waits until a condition holds, looking ten times a second. */
export async function poll(
  what: string,
  condition: () => boolean,
  explain: () => string = () => '',
  patienceMs = READY_DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`in vain waited for: ${what}\n${explain()}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A service with a virtual IP and one endpoint, or the identity given for it. */
export function service(
  name: string,
  ip: string,
  port: number,
  endpoints: readonly string[],
  more = '',
): string {
  const family = ip.includes(':') ? 'IPv6' : 'IPv4';
  const list = endpoints.map((endpoint) => `{ addresses: [ "${endpoint}" ] }`).join(', ');
  return `---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: default }
spec: { clusterIP: "${ip}", ipFamilies: [ ${family} ], ports: [ { name: tcp, port: ${port} } ] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: default, labels: { kubernetes.io/service-name: ${name} }${more} }
addressType: ${family}
ports: [ { name: tcp, port: ${port} } ]
endpoints: [ ${list} ]
`;
}

/** tap puts its hooks into every Node process it sees; a proxy is to run as users run it. */
function withoutHooks(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _hooks, ...env } = process.env;
  return env;
}
