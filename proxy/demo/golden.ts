/** The golden metrics of the demo: what the clients measured, with what the sidecars counted. */

import { readSamples, type Sample, sum } from './exposition.ts';
import type { Mesh, MeshService } from './mesh.ts';
import type { Exchanges, Report } from './messages.ts';
import { quantileMs, readResponses, type Statuses } from './responses.ts';
import { PODS, type Pod, type Protocol, type Service } from './services.ts';

/** What the sidecars count. */
export type Scrape = Readonly<Record<Pod, readonly Sample[]>>;

/** Both points of view at one moment. */
export interface Observation extends Scrape {
  readonly atMs: number;
  readonly report: Report;
}

/** What a sidecar says of its identity. */
export interface IdentityFigures {
  readonly pod: Pod;
  /** Times it replaced the certificate it began with, or a later one. */
  readonly rotations: number;
  /** When its certificate and the last of its trust anchors end, in milliseconds since 1970. */
  readonly certificateEndsMs: number;
  readonly trustEndsMs: number;
}

/** How a service did: as the client's sidecar counts where it can tell requests apart (HTTP and gRPC), else as the clients do. */
export interface ServiceFigures {
  readonly requests: number;
  /** 0 to 1; 1 without requests. */
  readonly success: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** What each endpoint has got since the start, in their order: requests where the sidecar tells them apart, else connections. */
  readonly endpoints: readonly number[];
  /** Of responses since the start, where the sidecar knows them. */
  readonly statuses?: Statuses;
}

/** One row of the table: the time between two observations. */
export interface ServiceRow extends ServiceFigures {
  readonly name: string;
  /** As dialled by the clients. */
  readonly address: string;
  readonly requestsPerSecond: number;
  /** Open at the client's sidecar now. */
  readonly connections: number;
  readonly bytesPerSecond: number;
}

/** A service in the summary of a run. */
export interface ServiceSummary extends ServiceFigures {
  readonly requestsPerSecond: number;
  /** That the clients have opened. */
  readonly connections: number;
}

/** What one sidecar costs. */
export interface SidecarRow {
  readonly identity: IdentityFigures;
  /** Of one processor, 0 to 1 or more. */
  readonly cpu: number;
  readonly anonymousBytes: number;
  readonly connections: number;
  /** Connections refused or given up, since the start. */
  readonly errors: number;
}

/** What the table shows. */
export interface Golden {
  readonly services: readonly ServiceRow[];
  readonly sidecars: readonly SidecarRow[];
  readonly mtlsShare: number;
}

/** Asks the clients and both sidecars. */
export async function observe(mesh: Mesh): Promise<Observation> {
  const [report, scraped] = await Promise.all([mesh.clients.ask({ ask: 'report' }), scrape(mesh)]);
  return { atMs: performance.now(), report, ...scraped };
}

/** Asks both sidecars. */
export async function scrape(mesh: Mesh): Promise<Scrape> {
  const metricsOf = (admin: string) => ({ ask: 'scrape', url: `http://${admin}/metrics` }) as const;
  const [client, server] = await Promise.all([
    mesh.clients.ask(metricsOf(mesh.clientSidecar.admin)),
    mesh.servers.ask(metricsOf(mesh.serverSidecar.admin)),
  ]);
  return { client: readSamples(client), server: readSamples(server) };
}

/** The figures of the time between two observations. */
export function goldenMetrics(mesh: Mesh, before: Observation, now: Observation): Golden {
  const seconds = (now.atMs - before.atMs) / 1000;
  return {
    services: mesh.services.flatMap((service) => {
      const figures = now.report.services[service.service.name];
      return figures === undefined ? [] : [serviceRow(service, figures.recent, before, now, seconds)];
    }),
    sidecars: identityFigures(now).map((identity) =>
      sidecarRow(identity, before[identity.pod], now[identity.pod], seconds),
    ),
    mtlsShare: mtlsShare(now),
  };
}

/**
 * How each service did since the start, by name; one that never carried traffic is left out.
 * @param seconds since then
 */
export function serviceSummaries(
  mesh: Mesh,
  now: Observation,
  seconds: number,
): Record<string, ServiceSummary> {
  const summaries: Record<string, ServiceSummary> = {};
  for (const one of mesh.services) {
    const figures = now.report.services[one.service.name];
    if (figures === undefined) continue;
    const { requests, success, p50Ms, p99Ms, ...reached } = figuresOf(
      one.service,
      figures.all,
      [],
      now.client,
    );
    summaries[one.service.name] = {
      requests,
      requestsPerSecond: rounded(requests / seconds),
      success,
      p50Ms: rounded(p50Ms),
      p99Ms: rounded(p99Ms),
      connections: sum(now.client, 'tcp_open_total', clientsOf(one)),
      ...reached,
    };
  }
  return summaries;
}

/** The share of the connections between the sidecars that were mutual TLS, as both ends count them; 0 when there were none. */
export function mtlsShare({ client, server }: Scrape): number {
  const opened = (labels: Readonly<Record<string, string>>) =>
    sum(client, 'tcp_open_total', { direction: 'outbound', peer: 'dst', ...labels }) +
    sum(server, 'tcp_open_total', { direction: 'inbound', peer: 'src', ...labels });
  const all = opened({});
  return all === 0 ? 0 : opened({ tls: 'true' }) / all;
}

/** What each sidecar says of its identity. */
export function identityFigures(scraped: Scrape): IdentityFigures[] {
  return PODS.map((pod) => {
    const figure = (name: string, labels = {}) => sum(scraped[pod], name, labels);
    return {
      pod,
      // The certificate it began with is none that replaced another.
      rotations: Math.max(0, figure('control_identity_cert_refreshes_total', { result: 'ok' }) - 1),
      certificateEndsMs: figure('control_identity_cert_expiration_timestamp_seconds') * 1000,
      trustEndsMs: figure('ferrule_identity_trust_anchor_expiration_timestamp_seconds') * 1000,
    };
  });
}

/** Times every sidecar has replaced its certificate. */
export function certificateRotations(scraped: Scrape): number {
  return Math.min(...identityFigures(scraped).map(({ rotations }) => rotations));
}

/** Times every sidecar has replaced its root since `first`: 0 or 1. */
export function rootRollovers(first: Scrape, now: Scrape): number {
  const before = identityFigures(first);
  return identityFigures(now).every((one, index) => replacedRoot(before[index], one)) ? 1 : 0;
}

/** Whether a sidecar has stopped trusting the root that ended last; those of the demo end in the opposite order. */
export function replacedRoot(before: IdentityFigures, now: IdentityFigures): boolean {
  return now.trustEndsMs > 0 && now.trustEndsMs < before.trustEndsMs;
}

function serviceRow(
  mesh: MeshService,
  exchanges: Exchanges,
  before: Observation,
  now: Observation,
  seconds: number,
): ServiceRow {
  const { service, client } = mesh;
  const figures = figuresOf(service, exchanges, before.client, now.client);
  const own = clientsOf(mesh);
  const bytes = (samples: readonly Sample[]) =>
    sum(samples, 'tcp_read_bytes_total', own) + sum(samples, 'tcp_write_bytes_total', own);
  return {
    ...figures,
    name: service.name,
    address: `${client.dial.ip}:${client.dial.port}`,
    requestsPerSecond: figures.requests / seconds,
    connections: sum(now.client, 'tcp_open_connections', own),
    bytesPerSecond: (bytes(now.client) - bytes(before.client)) / seconds,
  };
}

/** Labels of the connections of its clients to their sidecar. */
function clientsOf({ metricsTarget }: MeshService) {
  return { direction: 'outbound', peer: 'src', target_addr: metricsTarget };
}

function figuresOf(
  { protocol, endpoints }: Service,
  { requests, failures, p50Ms, p99Ms }: Exchanges,
  before: readonly Sample[],
  now: readonly Sample[],
): ServiceFigures {
  const addresses = endpoints.map(({ ip, port }) => `${ip}:${port}`);
  if (!REQUESTS_SEEN.has(protocol)) {
    const opened = { direction: 'outbound', peer: 'dst' };
    return {
      requests,
      success: success(requests, failures),
      p50Ms,
      p99Ms,
      endpoints: addresses.map((target_addr) => sum(now, 'tcp_open_total', { ...opened, target_addr })),
    };
  }
  const [old, seen] = [before, now].map((samples) => readResponses(samples, addresses));
  return {
    requests: seen.requests - old.requests,
    success: success(seen.requests - old.requests, seen.failures - old.failures),
    p50Ms: quantileMs(old, seen, 0.5),
    p99Ms: quantileMs(old, seen, 0.99),
    endpoints: seen.endpoints,
    statuses: seen.statuses,
  };
}

/** Protocols whose requests a sidecar tells apart. */
const REQUESTS_SEEN: ReadonlySet<Protocol> = new Set(['http', 'http2', 'grpc']);

/** Three digits: microseconds are what the clocks of two busy processors are good for. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function success(requests: number, failures: number): number {
  return requests === 0 ? 1 : 1 - failures / requests;
}

function sidecarRow(
  identity: IdentityFigures,
  before: readonly Sample[],
  now: readonly Sample[],
  seconds: number,
): SidecarRow {
  const cpuSeconds = (samples: readonly Sample[]) => sum(samples, 'process_cpu_seconds_total');
  return {
    identity,
    cpu: (cpuSeconds(now) - cpuSeconds(before)) / seconds,
    anonymousBytes: sum(now, 'ferrule_process_anonymous_memory_bytes'),
    connections: sum(now, 'tcp_open_connections', { peer: 'src' }),
    errors: sum(now, 'inbound_tcp_errors_total') + sum(now, 'outbound_tcp_errors_total'),
  };
}
