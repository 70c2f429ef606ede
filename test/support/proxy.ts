/** `ferrule proxy` as a child of a test, with explicit listeners, a folder of resources, and its figures as numbers. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { stringify } from 'yaml';
import type { SocketAddress } from '../../proxy/core/address.ts';
import type { Explanation } from '../../proxy/model/explanation.ts';
import { at } from './engine.ts';
import { parseExposition } from './exposition.ts';
import { spawnNode } from './node-child.ts';

const FERRULE = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));

/** For everything that happens on a machine that runs other tests as well. */
const DEADLINE_MS = 40_000;
const POLL_MS = 10;

/** Clock ticks of /proc/PID/stat per second: fixed by the kernel's user interface on every architecture Node runs on. */
const TICKS_PER_SECOND = 100;

/** Where the proxy writes the token of its admin port, in its folder. */
const TOKEN_FILE = 'admin-token';

/** Gauges that are 0 when nobody is connected. */
const IDLE_GAUGES = [
  'tcp_open_connections',
  'ferrule_engine_connections',
  'ferrule_engine_relays',
  'ferrule_engine_queued_bytes',
  'ferrule_engine_timers',
  'ferrule_engine_accept_paused',
];

/** One line of the proxy's log. */
export type LogRecord = Readonly<Record<string, string | number>>;

/** Options of a start. */
export interface ProxyStart {
  /** `identity` of the configuration; absent: none. */
  readonly identity?: object;
  readonly outbound?: object;
  readonly inbound?: object;
  readonly workers?: number;
  readonly shutdown?: object;
  /** Beside the format, which is JSON. */
  readonly log?: object;
  /** Files of the folder of resources by name; absent: the proxy has no discovery source. */
  readonly mesh?: Readonly<Record<string, string>>;
  /** Limit of open files. */
  readonly openFiles?: number;
  /** Arguments for Node itself. */
  readonly nodeArguments?: readonly string[];
}

/** How a proxy ended. */
export interface ProxyEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A proxy that was started by a test. */
export class TestProxy {
  readonly pid: number;
  readonly ended: Promise<ProxyEnd>;
  /** What it said so far, lines that are no JSON as `message`. */
  readonly records: LogRecord[] = [];
  /** Its standard output, which nobody reads. */
  readonly output: Readable;
  /** Bound addresses in the order of the configuration. */
  listeners: readonly SocketAddress[] = [];
  private admin = '';
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly folder: string;
  private partial = '';

  constructor(child: ChildProcessWithoutNullStreams, folder: string) {
    this.child = child;
    this.folder = folder;
    this.pid = child.pid!;
    this.output = child.stdout;
    child.stderr.setEncoding('utf8').on('data', (text: string) => this.take(text));
    this.ended = once(child, 'close').then(([status, signal]) => ({ status, signal }));
  }

  /** Waits until it accepts connections. Throws with its log when it ends instead. */
  async ready(): Promise<void> {
    const { listeners, admin } = await this.logged(/^(ready|listening, not ready yet)$/);
    this.listeners = listeners === 'none' ? [] : String(listeners).split(',').map(at);
    this.admin = String(admin);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Orders it to stop; resolves when it has ended. */
  async stop(): Promise<ProxyEnd> {
    this.kill('SIGTERM');
    return this.ended;
  }

  /** The first line whose message matches, once it is there, looking from line `from` on. */
  async logged(message: RegExp, from = 0): Promise<LogRecord> {
    return eventually(
      `a log line ${message}`,
      () => {
        const record = this.records.slice(from).find((line) => message.test(String(line.message)));
        if (record === undefined && this.hasEnded()) throw new Error(`it ended: ${this.said()}`);
        return record;
      },
      () => this.said(),
    );
  }

  /** Everything it logged, as text. */
  said(): string {
    return this.records.map((record) => JSON.stringify(record)).join('\n');
  }

  /** Changes its configuration file; see `ProxyStart`. SIGHUP makes it read the file again. */
  rewriteConfig(change: (text: string) => string): void {
    const path = join(this.folder, 'ferrule.yaml');
    writeFileSync(path, change(readFileSync(path, 'utf8')));
  }

  /** Writes a file of the resources' folder, whole at once as a careful editor does. */
  writeMesh(name: string, text: string): void {
    mkdirSync(join(this.folder, 'mesh.d'), { recursive: true });
    writeFileSync(join(this.folder, name), text);
    renameSync(join(this.folder, name), join(this.folder, 'mesh.d', name));
  }

  /** The sum of the series of a family that have all these labels; 0 when there is none. */
  async sum(family: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const wanted = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
    let sum = 0;
    for (const [series, value] of await this.samples()) {
      const own = series === family || series.startsWith(`${family}{`);
      if (own && wanted.every((label) => series.includes(label))) sum += value;
    }
    return sum;
  }

  /** The HTTP status of /ready. */
  readiness(): Promise<number> {
    return new Promise((resolve, reject) => {
      get(`http://${this.admin}/ready`, { agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).on('error', reject);
    });
  }

  /** Every series with its value. */
  async samples(): Promise<ReadonlyMap<string, number>> {
    return parseExposition(await this.fetch('/metrics')).samples;
  }

  /** Why it is not ready, as /ready says it. */
  reasons(): Promise<string> {
    return this.fetch('/ready');
  }

  /** What /config says is in force. */
  async configuration(): Promise<{ readonly [section: string]: unknown }> {
    return JSON.parse(await this.fetch('/config', this.bearer()));
  }

  /** What /explain tells of one request. Throws with what it says when it knows none. */
  async explanation(id: string): Promise<Explanation> {
    const text = await this.fetch(`/explain?id=${id}`, this.bearer());
    if (!text.startsWith('{')) throw new Error(text);
    return JSON.parse(text);
  }

  /** What /explain tells of the latest requests. */
  async explanations(): Promise<readonly Explanation[]> {
    return JSON.parse(await this.fetch('/explain', this.bearer()));
  }

  /** Waits until a sum is what it should be. */
  async until(
    family: string,
    labels: Readonly<Record<string, string>>,
    right: (sum: number) => boolean,
  ): Promise<number> {
    let sum = 0;
    return eventually(
      `${family} ${JSON.stringify(labels)}`,
      async () => {
        sum = await this.sum(family, labels);
        return right(sum) ? sum : undefined;
      },
      () => `it is ${sum}\n${this.said()}`,
    );
  }

  /** Waits until every gauge says that nothing is open, armed or queued. */
  async idle(): Promise<void> {
    for (const gauge of IDLE_GAUGES) await this.until(gauge, {}, (sum) => sum === 0);
  }

  /** Open descriptors. */
  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Anonymous memory in bytes. */
  anonymousBytes(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
  }

  /** Processor time used so far, all threads, in seconds. */
  cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
    // Fields 14 and 15; the name, field 2, may hold anything but ends at the last parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }

  private hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private bearer(): { readonly authorization: string } {
    return { authorization: `Bearer ${readFileSync(join(this.folder, TOKEN_FILE), 'utf8').trim()}` };
  }

  private fetch(path: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      get(`http://${this.admin}${path}`, { agent: false, headers }, (response) => {
        response
          .setEncoding('utf8')
          .toArray()
          .then((parts) => resolve(parts.join('')), reject);
      }).on('error', reject);
    });
  }

  private take(text: string): void {
    const lines = (this.partial + text).split('\n');
    this.partial = lines.pop()!;
    for (const line of lines) this.records.push(line.startsWith('{') ? JSON.parse(line) : { message: line });
  }
}

/** Starts a proxy without waiting for it; it and its files are gone when the test ends. */
export function launchProxy(t: Test, start: ProxyStart): TestProxy {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-proxy-'));
  const config = join(folder, 'ferrule.yaml');
  writeFileSync(
    config,
    stringify({
      identity: start.identity ?? { source: 'none' },
      discovery: start.mesh === undefined ? [] : [{ source: 'file', path: './mesh.d' }],
      outbound: { listen: [], ...start.outbound },
      inbound: { listen: [], ...start.inbound },
      workers: start.workers ?? 1,
      admin: { listen: '127.0.0.1:0', tokenFile: join(folder, TOKEN_FILE) },
      shutdown: start.shutdown ?? { grace: '5s', drainDelay: '0s' },
      log: { format: 'json', ...start.log },
    }),
  );
  const args = [...(start.nodeArguments ?? []), FERRULE, 'proxy', '--config', config];
  const child = start.openFiles === undefined ? spawnNode(args) : spawnLimited(start.openFiles, args);
  const proxy = new TestProxy(child, folder);
  for (const [name, text] of Object.entries(start.mesh ?? {})) proxy.writeMesh(name, text);
  t.teardown(async () => {
    proxy.kill('SIGKILL');
    await proxy.ended;
    rmSync(folder, { recursive: true, force: true });
  });
  return proxy;
}

/** Starts a proxy that accepts connections when this resolves. */
export async function startTestProxy(t: Test, start: ProxyStart): Promise<TestProxy> {
  const proxy = launchProxy(t, start);
  await proxy.ready();
  return proxy;
}

function spawnLimited(openFiles: number, args: readonly string[]): ChildProcessWithoutNullStreams {
  // exec twice: the pid is the proxy's.
  const script = `ulimit -n ${openFiles} && exec /usr/bin/env -u NODE_OPTIONS "$@"`;
  return spawn('/bin/sh', ['-c', script, 'sh', process.execPath, ...args]);
}

/** Calls `look` until it finds something. Throws after DEADLINE_MS, with what `explain` says. */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  explain = () => '',
): Promise<T> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_MS} ms\n${explain()}`);
    await sleep(POLL_MS);
  }
}

/** An endpoint of a service. */
export interface TestEndpoint {
  readonly address: SocketAddress;
  readonly weight?: number;
  readonly identity?: string;
  /** Port of its proxy, where it wants a transport header. */
  readonly proxyPort?: number;
}

/** Resources of a service `NAME.default:80`, with a slice per endpoint. */
export function serviceYaml(
  name: string,
  endpoints: readonly TestEndpoint[],
  clusterIP?: string,
  appProtocol?: string,
): string {
  const port = { name: 'main', port: 80, ...(appProtocol === undefined ? {} : { appProtocol }) };
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { ...(clusterIP === undefined ? {} : { clusterIP }), ports: [port] },
  };
  const slices = endpoints.map(({ address, weight, identity, proxyPort }, index) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${index}`,
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': name },
      annotations: {
        ...(weight === undefined ? {} : { 'ferrule.dev/weight': String(weight) }),
        ...(identity === undefined ? {} : { 'ferrule.dev/identity': identity }),
        ...(proxyPort === undefined ? {} : { 'ferrule.dev/proxy-port': String(proxyPort) }),
      },
    },
    addressType: 'IPv4',
    ports: [{ name: 'main', port: address.port }],
    endpoints: [{ addresses: [address.ip] }],
  }));
  return [service, ...slices].map((document) => stringify(document)).join('---\n');
}

/** Settings for one explicit listener on a free port in front of `NAME.default:80`. */
export function listenerFor(...names: readonly string[]): { listeners: object[] } {
  return { listeners: names.map((name) => ({ listen: '127.0.0.1:0', service: `${name}.default:80` })) };
}
