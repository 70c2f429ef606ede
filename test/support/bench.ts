/** Made-up cases and measurements for tests of the benchmark harness. */

import type { Case, Measurement, Peer, Target } from '../../bench/harness/model.ts';
import type { PeerResult } from '../../bench/harness/rounds.ts';

/** A case in CPU microseconds per request. */
export function benchCase(target: Target | undefined): Case {
  return {
    name: 'c32',
    description: '32 connections',
    metric: 'CPU per request',
    unit: 'µs',
    throughputUnit: 'req/s',
    target,
  };
}

/** A measurement with nothing but a value and a throughput. */
export function measured(value: number | undefined): Measurement {
  return { value, cpuSeconds: value, throughput: 50_000, latencyMs: undefined, memoryKb: undefined };
}

/** All rounds of a peer, by their values. */
export function benchResult(
  peer: string,
  role: Peer['role'],
  values: readonly (number | undefined)[],
  failure?: string,
): PeerResult {
  return { peer, role, measurements: values.map(measured), failure };
}
