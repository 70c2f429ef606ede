/** The main thread: puts the parts of a proxy together and takes them apart again. Never on the data path. */
import { type AdminServer, startAdmin } from './admin/admin.ts';
import { changedSettings, takeOver } from './config/changes.ts';
import { type Config, describeConfig } from './config/config.ts';
import { AccessOutput } from './control/access-output.ts';
import { addControlMetrics } from './control/control-metrics.ts';
import { Discovery } from './control/discovery.ts';
import { FileSource } from './control/file-source.ts';
import { IdentityFiles } from './control/identity-files.ts';
import { drain, Lifecycle, type Stoppable } from './control/lifecycle.ts';
import { type ListenerRequest, Listeners } from './control/listeners.ts';
import { Workers } from './control/workers.ts';
import type { SocketAddress } from './core/address.ts';
import { EXIT, UserError } from './core/errors.ts';
import { type LogLevel, log } from './core/log.ts';
import { addProcessMetrics } from './metrics/process.ts';
import { MetricsRegistry } from './metrics/registry.ts';
import type { OwnIdentity, PolicyMessage } from './model/messages.ts';

/** The product's version, as `proxy_build_info` and `--version` show it. */
export const VERSION = '0.1.0';

/** Compiled or not, as this file is. */
const WORKER_SCRIPT = new URL(
  import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js',
  import.meta.url,
);

/** A proxy that runs. */
export interface RunningProxy extends Stoppable {
  /** Bound addresses in the order of the configuration: outbound, its listeners, inbound, its ports. */
  readonly listeners: readonly SocketAddress[];
  readonly admin: readonly SocketAddress[];
  /** Where commands find the token for the admin port. */
  readonly adminTokenFile: string | undefined;
  /** Why it is not ready; empty when it is. */
  unready(): readonly string[];
  /** Takes over what may change while it runs. */
  reconfigure(newer: Config): void;
  /** Ends everything now; open connections are reset. */
  stop(): Promise<void>;
}

/**
 * Runs until SIGTERM, SIGINT or a request to the admin port, and then as long as `drain` says; a second signal ends it at once.
 * @param reload reads the configuration anew, which SIGHUP asks for
 * @returns the exit status
 * @throws UserError when something cannot be bound or loaded
 */
export async function runProxy(config: Config, reload: () => Promise<Config>): Promise<number> {
  log.level = config.log.level;
  log.format = config.log.format;
  const lifecycle = new Lifecycle(['SIGTERM', 'SIGINT']);
  const starting = startProxy(config, lifecycle);
  // A start that fails is told below, by whoever waits for `starting`.
  const started = starting.catch(() => undefined);
  const takeOverNewer = async (): Promise<void> => {
    const running = await started;
    try {
      running?.reconfigure(await reload());
    } catch (error) {
      log.error(`the configuration stays as it is: ${(error as Error).message}`);
    }
  };
  // One after the other: the file that is read last must be the one that stays. From here on, since unheard it would kill.
  let reloading = Promise.resolve();
  const onHangup = (): void => {
    reloading = reloading.then(takeOverNewer);
  };
  process.on('SIGHUP', onHangup);
  const proxy = await starting;
  const unready = proxy.unready();
  log.info(unready.length === 0 ? 'ready' : 'listening, not ready yet', {
    listeners: proxy.listeners.join(',') || 'none',
    admin: proxy.admin.join(','),
    token: proxy.adminTokenFile,
    pid: process.pid,
    reasons: unready.length === 0 ? undefined : unready.join('; '),
  });
  const cause = await lifecycle.ordered;
  const connections = proxy.connections();
  log.info('stopping', { cause, connections, applications: lifecycle.applications });
  // Nobody presses Ctrl-C to wait for a proxy that does nothing.
  const idle = connections === 0 && lifecycle.applications === 0;
  if (cause !== 'SIGINT' || !idle) await drain(proxy, lifecycle, config.shutdown);
  await proxy.stop();
  log.info('stopped');
  process.off('SIGHUP', onHangup);
  lifecycle.close();
  return EXIT.ok;
}

/** Starts everything and resolves when connections are accepted. On failure nothing is left running. */
async function startProxy(config: Config, lifecycle: Lifecycle): Promise<RunningProxy> {
  const registry = makeRegistry();
  const discovery = new Discovery(
    config.discovery.map(({ path }) => new FileSource(path, { namespace: config.workload.namespace })),
  );
  const identity = followIdentity(config, (newest) => workers?.setIdentity(newest));
  const listeners = new Listeners(listenerRequests(config), config.workers);
  addControlMetrics(registry, VERSION, discovery, identity);
  let inForce = config;
  let workers: Workers | undefined;
  let admin: AdminServer | undefined;
  const stopAll = async (): Promise<void> => {
    await workers?.stop();
    discovery.close();
    identity?.close();
    await admin?.close();
    listeners.close();
  };
  try {
    admin = await startAdmin({
      listen: config.admin.listen,
      tokenFile: config.admin.tokenFile,
      context: {
        readiness: () => readiness(workers, discovery, identity, lifecycle),
        metrics: () => registry.render(),
        config: () => describeConfig({ ...inForce, log: { ...inForce.log, level: log.level } }),
        env: process.env,
        getLogLevel: () => log.level,
        setLogLevel: (level: LogLevel) => setLogLevel(level, workers),
        shutDown: () => lifecycle.stop('/shutdown'),
        applicationStarted: () => lifecycle.applicationStarted(),
        explain: (id) => explain(workers, id),
      },
    });
    const own = [...listeners.addresses, ...admin.addresses].map(String);
    const started = new Workers(WORKER_SCRIPT, workerSettings(config, own), listeners.grants, {
      discovery,
      registry,
      access: new AccessOutput(process.stdout),
      onIdentityRefused: (version) => identity?.refusedByWorker(version),
    });
    workers = started;
    countRestarts(registry, started);
    // Before the workers, which would refuse what they cannot secure.
    await identity?.start();
    await Promise.all([discovery.start(), started.start()]);
  } catch (error) {
    await stopAll();
    throw error;
  }
  const running = workers;
  return {
    listeners: listeners.addresses,
    admin: admin.addresses,
    adminTokenFile: admin.tokenFile,
    connections: () => running.connections(),
    accepted: () => running.accepted(),
    draining: (sides) => running.announce({ type: 'draining', sides }),
    unlisten: async (side) => {
      // Closed, not only unwatched: the kernel would go on accepting for nobody.
      await running.unlisten(side);
      listeners.close(side);
    },
    unready: () => readiness(running, discovery, identity, lifecycle).reasons,
    reconfigure: (newer) => {
      inForce = reconfigure(inForce, newer, running);
    },
    stop: stopAll,
  };
}

function countRestarts(registry: MetricsRegistry, workers: Workers): void {
  registry.counter('ferrule_worker_restarts_total', 'Workers that threw and were replaced', [], () => [
    { labels: {}, value: workers.restarts },
  ]);
}

async function explain(workers: Workers | undefined, id: string | undefined) {
  if (workers === undefined) throw new UserError('the proxy is starting: try again', EXIT.unavailable);
  return workers.explain(id);
}

/**
 * Takes over what may change in a running proxy, and names what may not.
 * @returns what is in force now
 */
function reconfigure(inForce: Config, newer: Config, workers: Workers): Config {
  const next = takeOver(inForce, newer);
  const ignored = changedSettings(next, newer);
  if (ignored.length > 0) log.warn('these changes need a restart', { settings: ignored.join(', ') });
  workers.announce({ type: 'policies', policies: policyMessage(next) });
  setLogLevel(next.log.level, workers);
  workers.announce({ type: 'access-log', access: next.log.access });
  log.info('configuration read again');
  return next;
}

function setLogLevel(level: LogLevel, workers: Workers | undefined): void {
  log.level = level;
  workers?.announce({ type: 'log-level', level });
}

function policyMessage({ inbound }: Config): PolicyMessage {
  return {
    defaultPolicy: inbound.defaultPolicy,
    ports: inbound.ports.map(({ port, policy }) => ({ port, policy })),
    clusterNetworks: inbound.clusterNetworks.map(String),
  };
}

function listenerRequests(config: Config): ListenerRequest[] {
  const { outbound, inbound } = config;
  return [
    ...outbound.listen.map((address) => ({ address, role: { kind: 'outbound' } as const })),
    ...outbound.listeners.map(({ listen, service }) => ({
      address: listen,
      role: { kind: 'outbound-service', service } as const,
    })),
    ...inbound.listen.map((address) => ({ address, role: { kind: 'inbound' } as const })),
    ...inbound.ports.map(({ listen }, place) => ({
      address: listen,
      role: { kind: 'inbound-port', place } as const,
    })),
  ];
}

function workerSettings(config: Config, ownAddresses: readonly string[]) {
  const { inbound, outbound } = config;
  return {
    ownAddresses,
    identityEnabled: config.identity.source !== 'none',
    outbound: {
      originalDst: outbound.originalDst,
      opaquePorts: outbound.opaquePorts,
      requireIdentity: outbound.requireIdentity,
      multiplex: outbound.multiplex,
      unknown: outbound.unknown,
      discoveryTimeoutMs: outbound.discoveryTimeoutMs,
      zone: config.workload.zone,
    },
    inbound: {
      originalDst: inbound.originalDst,
      opaquePorts: inbound.opaquePorts,
      policies: policyMessage(config),
    },
    log: config.log,
  };
}

function makeRegistry(): MetricsRegistry {
  const registry = new MetricsRegistry();
  addProcessMetrics(registry);
  return registry;
}

/** Every part that must work before the application may be reached has its reasons here. */
function readiness(
  workers: Workers | undefined,
  discovery: Discovery,
  identity: IdentityFiles | undefined,
  lifecycle: Lifecycle,
) {
  const unproven = identity?.unready() ?? workers?.unproven(Date.now());
  const reasons = [
    ...(lifecycle.stopping ? ['shutting down'] : []),
    ...(workers?.ready ? [] : ['a worker is not running']),
    ...discoveryReasons(discovery),
    ...(unproven === undefined ? [] : [unproven]),
  ];
  return { ready: reasons.length === 0, reasons };
}

function discoveryReasons(discovery: Discovery): string[] {
  return discovery
    .health()
    .filter(({ health }) => !health.synced)
    .map(
      ({ name, health }) => `discovery ${name} has no answer yet${health.error ? `: ${health.error}` : ''}`,
    );
}

/** @returns undefined when the configuration wants no identity; otherwise to be started and closed by the caller */
function followIdentity(
  { identity }: Config,
  onChange: (newest: OwnIdentity) => void,
): IdentityFiles | undefined {
  if (identity.source === 'none') return undefined;
  return new IdentityFiles(identity, onChange);
}
