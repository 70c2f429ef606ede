/** What the client's sidecar counts of requests that it can tell apart: those of HTTP in every version, and the calls of gRPC. */

import type { Sample } from './exposition.ts';

/** Responses by their status since the start; what is no gRPC has one of HTTP only. */
export interface Statuses {
  /** By status code of HTTP. */
  readonly http?: Readonly<Record<string, number>>;
  /** By `grpc-status`. */
  readonly grpc?: Readonly<Record<string, number>>;
}

/** The responses of one service since the start. */
export interface Responses {
  readonly requests: number;
  readonly failures: number;
  /** By endpoint, in the order they were asked for. */
  readonly endpoints: readonly number[];
  readonly statuses: Statuses;
  /** For each upper bound in seconds, ascending: how many took that long at most. */
  readonly latencies: ReadonlyMap<number, number>;
}

/**
 * Reads the metrics of a sidecar.
 * @param endpoints of the service, each `ip:port`
 */
export function readResponses(samples: readonly Sample[], endpoints: readonly string[]): Responses {
  const counts = endpoints.map(() => 0);
  const statuses: { http?: Record<string, number>; grpc?: Record<string, number> } = {};
  const latencies = new Map<number, number>();
  let failures = 0;
  for (const { name, labels, value } of samples) {
    const endpoint = labels.direction === 'outbound' ? endpoints.indexOf(labels.target_addr) : -1;
    if (endpoint < 0) continue;
    if (name === 'ferrule_response_latency_seconds_bucket') {
      const bound = labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le);
      latencies.set(bound, (latencies.get(bound) ?? 0) + value);
    } else if (name === 'response_total') {
      counts[endpoint] += value;
      if (labels.classification === 'failure') failures += value;
      const kind = labels.grpc_status === undefined ? 'http' : 'grpc';
      // A request that ended before there was a response has none.
      const status = labels.grpc_status ?? labels.status_code ?? 'none';
      statuses[kind] ??= {};
      statuses[kind][status] = (statuses[kind][status] ?? 0) + value;
    }
  }
  const requests = counts.reduce((sum, count) => sum + count, 0);
  return { requests, failures, endpoints: counts, statuses, latencies };
}

/**
 * Milliseconds that the share `q` (0 to 1) of the responses between two readings took at most: estimated as by Prometheus'
 * `histogram_quantile`, that is evenly within a bucket; 0 when there were none.
 */
export function quantileMs(before: Responses, now: Responses, q: number): number {
  const counts = [...now.latencies].map(([bound, count]) => [
    bound,
    count - (before.latencies.get(bound) ?? 0),
  ]);
  const wanted = q * (counts.at(-1)?.[1] ?? 0);
  if (wanted === 0) return 0;
  let lower = { bound: 0, count: 0 };
  for (const [bound, count] of counts) {
    if (count >= wanted) {
      if (bound === Number.POSITIVE_INFINITY) break;
      const share = (wanted - lower.count) / (count - lower.count);
      return 1000 * (lower.bound + share * (bound - lower.bound));
    }
    lower = { bound, count };
  }
  return 1000 * lower.bound;
}
