/** The golden metrics of the demo: what the clients measured, with what the sidecars counted. */

import { readSamples, type Sample, sum } from './exposition.ts';
import type { Mesh, MeshService } from './mesh.ts';
import type { Figures, Report } from './messages.ts';

/** Both points of view at one moment. */
export interface Observation {
  readonly atMs: number;
  readonly report: Report;
  readonly client: readonly Sample[];
  readonly server: readonly Sample[];
}

/** One row of the table. */
export interface ServiceRow {
  readonly name: string;
  /** As dialled by the clients. */
  readonly address: string;
  readonly requestsPerSecond: number;
  /** 0 to 1; 1 without requests. */
  readonly success: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Open at the client's sidecar now. */
  readonly connections: number;
  readonly bytesPerSecond: number;
  /** Connections each endpoint has got, in the order of the endpoints. */
  readonly endpoints: readonly number[];
}

/** What one sidecar costs. */
export interface SidecarRow {
  readonly pod: string;
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
  const scrape = (admin: string) => ({ ask: 'scrape', url: `http://${admin}/metrics` }) as const;
  const [report, client, server] = await Promise.all([
    mesh.clients.ask({ ask: 'report' }),
    mesh.clients.ask(scrape(mesh.clientSidecar.admin)),
    mesh.servers.ask(scrape(mesh.serverSidecar.admin)),
  ]);
  return { atMs: performance.now(), report, client: readSamples(client), server: readSamples(server) };
}

/** The figures of the time between two observations. */
export function goldenMetrics(mesh: Mesh, before: Observation, now: Observation): Golden {
  const seconds = (now.atMs - before.atMs) / 1000;
  return {
    services: mesh.services.flatMap((service) => {
      const figures = now.report.services[service.service.name];
      return figures === undefined ? [] : [serviceRow(service, figures, before, now, seconds)];
    }),
    sidecars: (['client', 'server'] as const).map((pod) => sidecarRow(pod, before[pod], now[pod], seconds)),
    mtlsShare: mtlsShare(now),
  };
}

/** The share of the connections between the sidecars that were mutual TLS; 0 when there were none. */
export function mtlsShare({ server }: Observation): number {
  const between = { direction: 'inbound', peer: 'src' };
  const all = sum(server, 'tcp_open_total', between);
  return all === 0 ? 0 : sum(server, 'tcp_open_total', { ...between, tls: 'true' }) / all;
}

function serviceRow(
  { service, client, metricsTarget }: MeshService,
  figures: Figures,
  before: Observation,
  now: Observation,
  seconds: number,
): ServiceRow {
  const own = { direction: 'outbound', peer: 'src', target_addr: metricsTarget };
  const bytes = (samples: readonly Sample[]) =>
    sum(samples, 'tcp_read_bytes_total', own) + sum(samples, 'tcp_write_bytes_total', own);
  return {
    name: service.name,
    address: `${client.dial.ip}:${client.dial.port}`,
    requestsPerSecond: figures.recentRequests / seconds,
    success: figures.recentRequests === 0 ? 1 : 1 - figures.recentFailures / figures.recentRequests,
    p50Ms: figures.recentP50Ms,
    p99Ms: figures.recentP99Ms,
    connections: sum(now.client, 'tcp_open_connections', own),
    bytesPerSecond: (bytes(now.client) - bytes(before.client)) / seconds,
    endpoints: service.endpoints.map(({ ip, port }) =>
      sum(now.client, 'tcp_open_total', {
        direction: 'outbound',
        peer: 'dst',
        target_addr: `${ip}:${port}`,
      }),
    ),
  };
}

function sidecarRow(
  pod: string,
  before: readonly Sample[],
  now: readonly Sample[],
  seconds: number,
): SidecarRow {
  const cpuSeconds = (samples: readonly Sample[]) => sum(samples, 'process_cpu_seconds_total');
  return {
    pod,
    cpu: (cpuSeconds(now) - cpuSeconds(before)) / seconds,
    anonymousBytes: sum(now, 'ferrule_process_anonymous_memory_bytes'),
    connections: sum(now, 'tcp_open_connections', { peer: 'src' }),
    errors: sum(now, 'inbound_tcp_errors_total') + sum(now, 'outbound_tcp_errors_total'),
  };
}
