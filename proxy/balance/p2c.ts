/**
 * Power of two choices by connection: two endpoints drawn by weight, the one with less load wins. Load is
 * connections in flight per weight, times the connect-time average. Two random choices are nearly as good as the best
 * of all and never herd (Mitzenmacher 2001).
 */
import { DEFAULT_CONNECT_MS, type Endpoint, type EndpointPicker } from '../model/endpoint.ts';
import type { EndpointSnapshot } from '../model/target.ts';

/**
 * Connect times below this are equal, in ms: within a data centre they differ by noise, and noise must not outweigh
 * connections in flight.
 */
const NOISE_MS = 1;

/** The endpoints of one service. Replaced endpoints keep their figures; see `update`. */
export class Balancer implements EndpointPicker {
  /** What it chooses from; changed by `update` only. */
  endpoints: readonly Endpoint[] = [];
  /** Running sums of weights; empty when all weights are equal. */
  private cumulative: readonly number[] = [];
  private readonly random: () => number;

  /** @param random uniform in [0, 1) */
  constructor(random: () => number = Math.random) {
    this.random = random;
  }

  /**
   * Takes a new list. An endpoint that stays the same keeps its object and so its figures; `create` makes new ones with
   * the mean connect time of those known, so that a newcomer neither takes everything nor starves.
   * @returns endpoints that are no longer listed; connections to them go on.
   */
  update(
    snapshots: readonly EndpointSnapshot[],
    nowMs: number,
    create: (snapshot: EndpointSnapshot, initialMs: number) => Endpoint,
  ): Endpoint[] {
    const before = new Map(this.endpoints.map((endpoint) => [keyOf(endpoint.snapshot), endpoint]));
    const initialMs = meanConnectMs(this.endpoints, nowMs);
    this.endpoints = snapshots.map((snapshot) => {
      const key = keyOf(snapshot);
      const known = before.get(key);
      before.delete(key);
      return known ?? create(snapshot, initialMs);
    });
    this.cumulative = sumWeights(this.endpoints);
    return [...before.values()];
  }

  pick(tried: readonly Endpoint[], nowMs: number): Endpoint | undefined {
    const endpoints = this.endpoints;
    if (tried.length > 0) return leastLoaded(endpoints, tried, nowMs);
    if (endpoints.length <= 1) return endpoints[0];
    const first = this.draw();
    let second = this.draw();
    // The same one twice: take its neighbour, so that there are two to compare.
    if (second === first) second = (first + 1) % endpoints.length;
    const a = endpoints[first];
    const b = endpoints[second];
    return load(b, nowMs) < load(a, nowMs) ? b : a;
  }

  private draw(): number {
    const sums = this.cumulative;
    if (sums.length === 0) return Math.floor(this.random() * this.endpoints.length);
    const point = this.random() * sums[sums.length - 1];
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sums[middle] > point) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/**
 * Idle endpoints compare by connect time alone: the draw by weight has decided already, and multiplying by the weight
 * once more would starve the lighter ones.
 */
function load(endpoint: Endpoint, nowMs: number): number {
  return (endpoint.inFlight / endpoint.weight + 1) * Math.max(endpoint.connectMs(nowMs), NOISE_MS);
}

function leastLoaded(
  endpoints: readonly Endpoint[],
  tried: readonly Endpoint[],
  nowMs: number,
): Endpoint | undefined {
  let best: Endpoint | undefined;
  for (const endpoint of endpoints) {
    if (tried.includes(endpoint)) continue;
    if (best === undefined || load(endpoint, nowMs) < load(best, nowMs)) best = endpoint;
  }
  return best;
}

/** Everything that makes it another endpoint when it changes. */
function keyOf(snapshot: EndpointSnapshot): string {
  return JSON.stringify(snapshot);
}

function meanConnectMs(endpoints: readonly Endpoint[], nowMs: number): number {
  if (endpoints.length === 0) return DEFAULT_CONNECT_MS;
  return endpoints.reduce((sum, endpoint) => sum + endpoint.connectMs(nowMs), 0) / endpoints.length;
}

function sumWeights(endpoints: readonly Endpoint[]): number[] {
  if (endpoints.every((endpoint) => endpoint.weight === endpoints[0].weight)) return [];
  let sum = 0;
  return endpoints.map((endpoint) => {
    sum += endpoint.weight;
    return sum;
  });
}
