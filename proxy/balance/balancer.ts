/**
 * Chooses among the endpoints of one target, by connection and by request. Power of two choices: two endpoints drawn by
 * weight, the better one is taken. Two random choices are nearly as good as the best of all and never herd
 * (Mitzenmacher 2001).
 *
 * Better is, in this order: the one that did not fail a moment ago; the one that is not new (beside an older one a newcomer
 * is taken only when drawn first, and then with a probability that rises with its age: it never has more than its share); for
 * `ewma` the one with less load, (in flight / weight + 1) × time, where the times differ by more than twice; else the one with
 * fewer in flight for its weight; and of two that are alike the first drawn. Times that differ less are noise: a product with
 * them would give an idle service's requests all to one endpoint, and nothing to the lighter of two weights.
 *
 * Zones: both are drawn from the own zone. A third, drawn from the others, takes its place when the better one failed a
 * moment ago, or has more than twice the third's time and more than twice its load.
 */
import { type Endpoint, EndpointFigures, type Load, SLOW_START_MS } from '../model/endpoint.ts';
import { type Candidate, type EndpointPicker, PickRecord } from '../model/pick.ts';
import type { BalancePolicy, EndpointSnapshot } from '../model/target.ts';
import { CHANCES, type Chance, newChance } from './chance.ts';
import { Pool } from './pool.ts';

/** Times below this are equal, in ms: within a data centre they differ by noise. */
const NOISE_MS = 1;

/**
 * Times that differ by less are alike. A peak-sensitive average of equal endpoints varies by about as much, and what is
 * only twice as slow gets half as much by its requests in flight alone.
 */
const ALIKE = 2;

/** What a balancer depends on beside its endpoints. */
export interface BalancerOptions {
  /** Where this proxy runs; without it no zone is preferred. */
  readonly zone?: string | undefined;
  readonly chance?: Chance;
}

/** Makes the endpoint of a snapshot, with figures that are new or of the one it replaces. */
export type CreateEndpoint = (snapshot: EndpointSnapshot, figures: EndpointFigures) => Endpoint;

/** The endpoints of one target. */
export class Balancer implements EndpointPicker {
  /** What it chooses from; changed by `update` only. */
  endpoints: readonly Endpoint[] = [];
  readonly last = new PickRecord();
  private readonly zone: string | undefined;
  private readonly chance: Chance;
  private policy: BalancePolicy = 'ewma';
  /** Endpoints of the own zone, and those elsewhere; all and none where no zone is preferred. */
  private near: Pool;
  private far: Pool;
  /** Times are looked at. */
  private timed = true;
  /** Until when some endpoint is new. */
  private newcomersUntilMs = Number.NEGATIVE_INFINITY;

  constructor({ zone, chance = newChance() }: BalancerOptions = {}) {
    this.zone = zone;
    this.chance = chance;
    this.near = this.far = new Pool([], chance);
  }

  /**
   * Takes a new list. An endpoint whose address, identity and labels stay keeps its object; one with other labels is made
   * anew with the figures of the old one.
   * @returns endpoints that are no longer used; connections to them go on.
   */
  update(
    snapshots: readonly EndpointSnapshot[],
    policy: BalancePolicy,
    nowMs: number,
    create: CreateEndpoint,
  ): Endpoint[] {
    const figures = new Map(this.endpoints.map(({ snapshot, figures }) => [serverOf(snapshot), figures]));
    const before = new Map(this.endpoints.map((endpoint) => [keyOf(endpoint.snapshot), endpoint]));
    // The first ones of all start alike.
    const joinedMs = this.endpoints.length === 0 ? undefined : nowMs;
    this.endpoints = snapshots.map((snapshot) => {
      const key = keyOf(snapshot);
      const known = before.get(key);
      before.delete(key);
      known?.renew(snapshot);
      return known ?? create(snapshot, figures.get(serverOf(snapshot)) ?? new EndpointFigures(joinedMs));
    });
    const latest = (before: number, { figures }: Endpoint): number => Math.max(before, figures.joinedMs);
    this.newcomersUntilMs = this.endpoints.reduce(latest, Number.NEGATIVE_INFINITY) + SLOW_START_MS;
    this.policy = policy;
    this.split();
    return [...before.values()];
  }

  pick(tried: readonly Endpoint[], nowMs: number): Endpoint | undefined {
    return this.choose(tried, nowMs, false);
  }

  pickForRequest(tried: readonly Endpoint[], nowMs: number): Endpoint | undefined {
    return this.choose(tried, nowMs, true);
  }

  private choose(tried: readonly Endpoint[], nowMs: number, request: boolean): Endpoint | undefined {
    this.last.clear();
    if (tried.length > 0) return this.rest(tried, nowMs, request);
    const { near, far } = this;
    if (near.endpoints.length === 0) return undefined;
    // One chance per pick: what it decides of a newcomer holds against its zone and against the others.
    const chance = nowMs < this.newcomersUntilMs ? this.chance() : 0;
    const best =
      this.policy === 'round-robin'
        ? this.turn(near, chance, nowMs, request)
        : this.betterOfTwo(near, chance, nowMs, request);
    if (far.endpoints.length === 0) return best;
    const other = far.endpoints[far.draw()];
    if (!this.yields(best, other, chance, nowMs, request)) return best;
    this.last.reason = 'zone';
    return other;
  }

  private betterOfTwo(pool: Pool, chance: number, nowMs: number, request: boolean): Endpoint {
    const { last } = this;
    const { endpoints } = pool;
    const drawn = endpoints.length === 1 ? 0 : pool.draw();
    const first = endpoints[drawn];
    this.weigh(last.first, first, nowMs, request);
    last.reason = 'only';
    if (endpoints.length === 1) return first;
    const second = endpoints[pool.drawOther(drawn)];
    this.weigh(last.second, second, nowMs, request);
    return this.isSecondBetter(first, second, chance, nowMs) ? second : first;
  }

  private isSecondBetter(first: Endpoint, second: Endpoint, chance: number, nowMs: number): boolean {
    const { last } = this;
    const avoided = first.isAvoided(nowMs);
    last.reason = 'failed';
    if (avoided !== second.isAvoided(nowMs)) return avoided;
    if (nowMs < this.newcomersUntilMs) {
      last.reason = 'new';
      const secondIsNew = second.ramp(nowMs) < 1;
      const ramp = first.ramp(nowMs);
      if (ramp === 1 && secondIsNew) return false;
      if (ramp * CHANCES <= chance && !secondIsNew) return true;
    }
    const { first: a, second: b } = last;
    if (this.policy === 'ewma' && a.measured && b.measured) {
      last.reason = 'load';
      if (a.timeMs > ALIKE * b.timeMs || b.timeMs > ALIKE * a.timeMs) return b.load < a.load;
    }
    // Even with this one more it would not be busier than the first is now: equal weights: it has fewer in flight.
    const isBetter = (b.inFlight + 1) / second.weight <= a.inFlight / first.weight;
    const isWorse = (a.inFlight + 1) / first.weight <= b.inFlight / second.weight;
    last.reason = isBetter || isWorse ? 'in-flight' : 'drawn';
    return isBetter;
  }

  /** Whose turn it is, but for those that failed a moment ago and newcomers that chance holds back. */
  private turn({ endpoints, rotation }: Pool, chance: number, nowMs: number, request: boolean): Endpoint {
    const { last } = this;
    const first = endpoints[rotation.next()];
    let endpoint = first;
    last.reason = 'turn';
    for (let turns = 1; endpoint.isAvoided(nowMs) || endpoint.ramp(nowMs) * CHANCES <= chance; turns++) {
      if (turns === endpoints.length) {
        // All are alike in that: nobody is held back.
        endpoint = first;
        last.reason = 'turn';
        break;
      }
      last.reason = endpoint.isAvoided(nowMs) ? 'failed' : 'new';
      endpoint = endpoints[rotation.next()];
    }
    this.weigh(last.first, first, nowMs, request);
    if (endpoint !== first) this.weigh(last.second, endpoint, nowMs, request);
    return endpoint;
  }

  /** After a failure the whole list is looked at, whatever the policy: the least loaded, of the own zone if that is no worse. */
  private rest(tried: readonly Endpoint[], nowMs: number, request: boolean): Endpoint | undefined {
    const near = leastLoaded(this.near.endpoints, tried, nowMs, request);
    const far = leastLoaded(this.far.endpoints, tried, nowMs, request);
    const useFar = near === undefined || (near.isAvoided(nowMs) && far?.isAvoided(nowMs) === false);
    const endpoint = useFar ? far : near;
    if (endpoint === undefined) return undefined;
    this.weigh(this.last.first, endpoint, nowMs, request);
    this.last.reason = 'rest';
    return endpoint;
  }

  /** Notes what is compared. Where no times are looked at, load is what is in flight alone. */
  private weigh(candidate: Candidate, endpoint: Endpoint, nowMs: number, request: boolean): void {
    const { inFlight, time } = loadOf(endpoint, request);
    candidate.endpoint = endpoint;
    candidate.inFlight = inFlight;
    candidate.measured = time.measured;
    const busy = inFlight / endpoint.weight + 1;
    if (!this.timed) {
      candidate.timeMs = Number.NaN;
      candidate.load = busy;
      return;
    }
    // Who is elsewhere may rest for long.
    const timeMs = candidate === this.last.elsewhere ? time.rested(nowMs) : time.at(nowMs);
    candidate.timeMs = Math.max(timeMs, NOISE_MS);
    candidate.load = busy * candidate.timeMs;
  }

  /** The best of the own zone yields to one drawn from the others. */
  private yields(best: Endpoint, other: Endpoint, chance: number, nowMs: number, request: boolean): boolean {
    const near = this.last.first.endpoint === best ? this.last.first : this.last.second;
    const far = this.last.elsewhere;
    this.weigh(far, other, nowMs, request);
    if (other.isAvoided(nowMs)) return false;
    if (best.isAvoided(nowMs)) return true;
    // A zone of newcomers takes over as they warm up; newcomers elsewhere help nobody.
    if (other.ramp(nowMs) < 1) return false;
    if (best.ramp(nowMs) * CHANCES <= chance) return true;
    return near.measured && near.timeMs > ALIKE * far.timeMs && near.load > ALIKE * far.load;
  }

  private split(): void {
    const { endpoints, zone, chance } = this;
    const near = endpoints.filter(
      ({ snapshot }) => zone !== undefined && snapshot.zones?.includes(zone) === true,
    );
    const far = near.length === 0 ? [] : endpoints.filter((endpoint) => !near.includes(endpoint));
    this.near = new Pool(near.length === 0 ? endpoints : near, chance);
    this.far = new Pool(far, chance);
    this.timed = this.policy === 'ewma' || far.length > 0;
  }
}

function leastLoaded(
  endpoints: readonly Endpoint[],
  tried: readonly Endpoint[],
  nowMs: number,
  request: boolean,
): Endpoint | undefined {
  let best: Endpoint | undefined;
  let least = 0;
  for (const endpoint of endpoints) {
    if (tried.includes(endpoint)) continue;
    const { inFlight, time } = loadOf(endpoint, request);
    const load = (inFlight / endpoint.weight + 1) * Math.max(time.at(nowMs), NOISE_MS);
    const wins = best === undefined || load < least;
    if (best !== undefined && endpoint.isAvoided(nowMs) !== best.isAvoided(nowMs)) {
      if (endpoint.isAvoided(nowMs)) continue;
    } else if (!wins) continue;
    best = endpoint;
    least = load;
  }
  return best;
}

function loadOf({ figures }: Endpoint, request: boolean): Load {
  return request ? figures.requests : figures.connections;
}

/** Everything whose change makes it another server, of which nothing is known. */
function serverOf({ ip, port, proxyPort, identity, serverName }: EndpointSnapshot): string {
  return JSON.stringify([ip, port, proxyPort, identity, serverName]);
}

/** Everything an `Endpoint` cannot change while connections use it: the server, what it speaks, and the labels of their metrics. */
function keyOf(snapshot: EndpointSnapshot): string {
  const labels = Object.entries(snapshot.labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return serverOf(snapshot) + JSON.stringify([labels, snapshot.protocol]);
}
