/** The demo from beginning to end: build a mesh, send traffic, show it, take everything away again. */

import { EXIT, UserError } from '../core/errors.ts';
import { installedDatabases } from './databases.ts';
import { startExplicitMesh } from './explicit.ts';
import {
  certificateRotations,
  goldenMetrics,
  identityFigures,
  mtlsShare,
  type Observation,
  observe,
  rootRollovers,
  rounded,
  type ServiceSummary,
  scrape,
  serviceSummaries,
} from './golden.ts';
import { removeStaleRuns } from './leftovers.ts';
import type { Mesh, MeshService } from './mesh.ts';
import { obstacleToPods } from './pods.ts';
import type { Program } from './program.ts';
import { rotate } from './rotation.ts';
import { Run } from './run.ts';
import type { Protocol } from './services.ts';
import { startTransparentMesh } from './transparent.ts';
import { View } from './view.ts';

/** How the clients' traffic gets into the sidecars; `auto` is transparent where it can be. */
export const DEMO_MODES = ['auto', 'transparent', 'explicit'] as const;
/** One of `DEMO_MODES`. */
export type DemoMode = (typeof DEMO_MODES)[number];

/** What the command line decides. */
export interface DemoOptions {
  readonly mode: DemoMode;
  /** Traffic ends after this time; undefined: at a signal. */
  readonly forMs: number | undefined;
}

/** What came of it; the names are those of the JSON object. */
export interface Summary {
  readonly transparent: boolean;
  readonly requests: number;
  readonly failures: number;
  /** 0 to 1. */
  readonly mtlsShare: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Times every sidecar has taken a new certificate into use while traffic flowed. */
  readonly certificateRotations: number;
  /** Times every sidecar has replaced its root; it takes some five seconds in the beginning. */
  readonly rootRollovers: number;
  /** By name. */
  readonly services: Readonly<Record<string, ServiceSummary>>;
}

/** What a run should have shown and did not; empty when it is a success. */
export function shortcomings(summary: Summary): string[] {
  const { requests, failures, mtlsShare, certificateRotations } = summary;
  const found: string[] = [];
  if (requests === 0) found.push('there was no traffic');
  if (failures > 0) found.push(`${failures} of ${requests} requests failed`);
  if (mtlsShare < 1) {
    const plain = Math.ceil((1 - mtlsShare) * 100);
    found.push(`up to ${plain} % of the connections between the sidecars were not mutual TLS`);
  }
  if (certificateRotations === 0) found.push('no new certificate was taken up by both sidecars');
  return found;
}

/** How often figures are asked for and shown. */
const REFRESH_MS = 1_000;

/** A terminal sends Ctrl-C to npm as well, which passes it on: within this time a second signal is the same one. */
const SAME_SIGNAL_MS = 500;

/**
 * Runs the demo until its time is over or a signal comes. Everything it made is gone when it returns or throws.
 * @returns undefined when a signal came before any traffic
 * @throws UserError when the mesh cannot be built, or a piece of it ends
 */
export async function runDemo(options: DemoOptions): Promise<Summary | undefined> {
  const view = new View(process.stderr);
  const ending = new AbortController();
  const { signal } = ending;
  watchSignals(ending);
  const stale = await removeStaleRuns();
  if (stale.length > 0) view.say(`removed what a killed demo had left: ${stale.join(', ')}`);
  if (options.mode !== 'explicit') {
    const obstacle = obstacleToPods();
    try {
      if (obstacle !== undefined) throw new UserError(obstacle, EXIT.unavailable);
      return await attempt(startTransparentMesh, options, view, signal);
    } catch (error) {
      if (!(error instanceof UserError) || error instanceof TrafficError) throw error;
      if (options.mode === 'transparent') {
        throw new UserError(`no transparent demo here: ${error.message}`, error.exitCode, { cause: error });
      }
      view.say(`no transparent demo here: ${error.message}\nusing loopback and explicit ports instead`);
    }
  }
  return attempt(startExplicitMesh, options, view, signal);
}

/** The mesh was built and carried traffic: what went wrong then is to be seen, not worked around. */
class TrafficError extends UserError {}

async function attempt(
  start: typeof startTransparentMesh,
  options: DemoOptions,
  view: View,
  signal: AbortSignal,
): Promise<Summary | undefined> {
  const run = new Run();
  const building = build(start, run, view);
  try {
    const mesh = await untilAborted(building, signal);
    return mesh === undefined ? undefined : await carryTraffic(mesh, options, view, signal);
  } finally {
    view.close();
    await run.remove();
    // Whatever it was waiting for is gone; its failure then means nothing.
    await Promise.allSettled([building]);
  }
}

/** A mesh in which every built-in service has answered once through both sidecars. */
async function build(start: typeof startTransparentMesh, run: Run, view: View): Promise<Mesh> {
  const startedMs = performance.now();
  const mesh = await start(run, installedDatabases());
  for (const { program } of [mesh.clientSidecar, mesh.serverSidecar]) {
    program.onLine = (line) => sayTroubles(program, line, view);
  }
  const builtIn = mesh.services.filter(({ launch }) => launch === undefined);
  await Promise.all(builtIn.map(({ client }) => addClients(mesh, client)));
  view.say(`first traffic after ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  return mesh;
}

/** A sidecar's warnings; what is not a line of its log is a program falling over. */
function sayTroubles({ name }: Program, line: string, view: View): void {
  if (!line.startsWith('{')) return view.say(`${name}: ${line}`);
  const { time: _, level, message, ...fields } = JSON.parse(line);
  if (level !== 'warn' && level !== 'error') return;
  view.say(`${name}: ${level}: ${message} ${JSON.stringify(fields)}`);
}

async function addClients(mesh: Mesh, service: MeshService['client']): Promise<void> {
  try {
    await mesh.clients.ask({ ask: 'add', service });
  } catch (error) {
    throw new UserError(`${service.name} does not answer through the sidecars: ${(error as Error).message}`);
  }
}

async function carryTraffic(
  mesh: Mesh,
  { forMs }: DemoOptions,
  view: View,
  signal: AbortSignal,
): Promise<Summary> {
  for (const line of introduction(mesh)) view.say(line);
  const over = new AbortController();
  const timer = forMs === undefined ? undefined : setTimeout(() => over.abort(), forMs);
  const end = AbortSignal.any([signal, over.signal]);
  const broken = Promise.withResolvers<never>();
  for (const { name, ended } of programsOf(mesh)) {
    void ended.then(({ reason }) => broken.reject(new TrafficError(`${name}: ${reason}`)));
  }
  for (const service of mesh.services) {
    startDatabase(mesh, service, view, end).catch(async (error) => broken.reject(await secondThought(error)));
  }
  try {
    return await Promise.race([watchAndStop(mesh, view, end), broken.promise]);
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

async function watchAndStop(mesh: Mesh, view: View, end: AbortSignal): Promise<Summary> {
  try {
    const first = await observe(mesh);
    await Promise.all([untilAborted(showFigures(mesh, view, end), end), rotateIdentities(mesh, view, end)]);
    await mesh.clients.ask({ ask: 'stop' });
    return await summarize(mesh, first, view);
  } catch (error) {
    throw await secondThought(error as Error);
  }
}

/** Most likely a piece has ended; that is the better explanation, and noticed before this resolves. */
async function secondThought({ message }: Error): Promise<TrafficError> {
  await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
  return new TrafficError(message);
}

function programsOf({ clients, servers, clientSidecar, serverSidecar }: Mesh): Program[] {
  return [clients.program, servers.program, clientSidecar.program, serverSidecar.program];
}

/** Runs beside the traffic: making an empty database takes longer than anybody wants to look at nothing. */
async function startDatabase(
  mesh: Mesh,
  { client, launch }: MeshService,
  view: View,
  end: AbortSignal,
): Promise<void> {
  if (launch === undefined) return;
  try {
    await launch.database.start(launch);
  } catch (error) {
    if (!end.aborted) view.say(`${client.name} is left out: ${(error as Error).message}`);
    return;
  }
  if (!end.aborted) await addClients(mesh, client);
}

function rotateIdentities(mesh: Mesh, view: View, end: AbortSignal): Promise<void> {
  const figures = async () => identityFigures(await scrape(mesh));
  const rolledOver = () => view.say('the root was rolled over: both sidecars trust the new one only');
  return rotate({ identities: mesh.identities, figures }, rolledOver, end);
}

async function showFigures(mesh: Mesh, view: View, end: AbortSignal): Promise<void> {
  const startMs = performance.now();
  let before = await observe(mesh);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
    if (end.aborted) return;
    const now = await observe(mesh);
    view.show(goldenMetrics(mesh, before, now), now.atMs - startMs);
    before = now;
  }
}

async function summarize(mesh: Mesh, first: Observation, view: View): Promise<Summary> {
  const last = await observe(mesh);
  const { services, p50Ms, p99Ms, lastFailure } = last.report;
  const total = (name: 'requests' | 'failures') =>
    Object.values(services).reduce((sum, { all }) => sum + all[name], 0);
  if (lastFailure !== undefined) view.say(`the last failure: ${lastFailure}`);
  return {
    transparent: mesh.transparent,
    requests: total('requests'),
    failures: total('failures'),
    mtlsShare: mtlsShare(last),
    p50Ms: rounded(p50Ms),
    p99Ms: rounded(p99Ms),
    certificateRotations: certificateRotations(last),
    rootRollovers: rootRollovers(first, last),
    services: serviceSummaries(mesh, last, (last.atMs - first.atMs) / 1000),
  };
}

function introduction(mesh: Mesh): string[] {
  const { clientSidecar, serverSidecar, enterClient, enterServer, services } = mesh;
  const placeOf = (protocol: Protocol) => {
    const dial = services.find(({ client }) => client.protocol === protocol)?.client.dial;
    return `${dial?.ip}:${dial?.port}`;
  };
  return [
    mesh.transparent
      ? 'Two pods (network namespaces), a sidecar in each; iptables takes the traffic to them. The clients dial virtual IPs.'
      : 'Two sidecars on loopback; the clients dial listeners of the first.',
    'Between the sidecars is mutual TLS; their certificates are replaced every few seconds, and the root once.',
    'The client of http2, and that of grpc, has one connection; its requests reach all endpoints.',
    'By endpoint: requests of HTTP and gRPC, connections of all others.',
    'Try:',
    `  ${enterClient}curl -s http://${placeOf('http')}/        # a request through both sidecars`,
    `  ${enterClient}curl -s --http2-prior-knowledge http://${placeOf('http2')}/`,
    `  ${enterClient}curl -s http://${clientSidecar.admin}/metrics   # admin port of the client's sidecar`,
    `  ${enterServer}curl -s http://${serverSidecar.admin}/metrics   # and of the server's`,
  ];
}

function watchSignals(ending: AbortController): void {
  let firstMs: number | undefined;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      ending.abort();
      firstMs ??= performance.now();
      // Impatience: the janitor does the rest.
      if (performance.now() - firstMs > SAME_SIGNAL_MS) process.exit(EXIT.failure);
    });
  }
}

/** @returns undefined when `signal` comes first */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const aborted = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  return Promise.race([promise, aborted]);
}
