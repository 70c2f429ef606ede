/** Endpoints and balancers for tests of balancing. */
import { Balancer, type BalancerOptions } from '../../proxy/balance/balancer.ts';
import { CHANCES, chanceOf } from '../../proxy/balance/chance.ts';
import { TransportSeries } from '../../proxy/metrics/transport.ts';
import { Endpoint, type EndpointFigures } from '../../proxy/model/endpoint.ts';
import type { BalancePolicy, EndpointSnapshot } from '../../proxy/model/target.ts';
import { testSlab } from './slab.ts';

const { slab } = testSlab();

/** An endpoint with metrics nobody reads. */
export function createEndpoint(snapshot: EndpointSnapshot, figures?: EndpointFigures): Endpoint {
  const labels = { direction: 'outbound', target_addr: `${snapshot.ip}:${snapshot.port}` };
  return new Endpoint(snapshot, new TransportSeries(slab, labels), undefined, figures);
}

/** Endpoints 10.0.0.1 and up with these weights. */
export function snapshots(...weights: number[]): EndpointSnapshot[] {
  return weights.map((weight, index) => ({ ip: `10.0.0.${index + 1}`, port: 80, weight, labels: {} }));
}

/** A balancer that has known these endpoints from the start, with a fixed seed unless told otherwise. */
export function balancerOf(
  endpoints: readonly EndpointSnapshot[],
  policy: BalancePolicy = 'ewma',
  options: BalancerOptions = {},
): Balancer {
  const balancer = new Balancer({ chance: chanceOf(7), ...options });
  balancer.update(endpoints, policy, 0, createEndpoint);
  return balancer;
}

/** A fixed sequence in [0, 1). */
export function seeded(seed: number): () => number {
  const chance = chanceOf(seed);
  return () => chance() / CHANCES;
}

/** Parts of `picks` requests that each endpoint gets when none lasts. */
export function shares(balancer: Balancer, picks: number, nowMs = 0): number[] {
  const counts = balancer.endpoints.map(() => 0);
  for (let i = 0; i < picks; i++) {
    const endpoint = balancer.pickForRequest([], nowMs);
    if (endpoint !== undefined) counts[balancer.endpoints.indexOf(endpoint)]++;
  }
  return counts.map((count) => count / picks);
}
