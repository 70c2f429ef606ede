/** Servers and clients in simulated time, to see what a balancer makes of them. */
import type { Balancer } from '../../proxy/balance/balancer.ts';
import type { Endpoint } from '../../proxy/model/endpoint.ts';

/** While it lasts, work stands still; what arrives then waits. Times of the simulation, in ms. */
export interface Pause {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** How a replica serves. */
export interface ServerModel {
  /** Of one request, in ms, by the simulated time. */
  readonly serviceMs: (random: () => number, nowMs: number) => number;
  /** Requests it works on at once; others wait in order. */
  readonly workers: number;
  /** In order, without overlaps; none when absent. */
  readonly pauses?: readonly Pause[];
}

/** What a simulation gave. */
export interface SimulationResult {
  /** Response times in ms, in the order of their ends. */
  readonly times: number[];
  /** Requests by endpoint, in the balancer's order, given to those that began since `sinceMs`. */
  readonly counts: number[];
}

/** What is simulated. */
export interface Simulation {
  readonly balancer: Balancer;
  /** In the order of the balancer's endpoints. */
  readonly servers: readonly ServerModel[];
  /** Poisson arrivals per second. */
  readonly perSecond: number;
  readonly fromMs: number;
  readonly untilMs: number;
  /** Requests that begin earlier are served, but not reported. */
  readonly sinceMs?: number;
  readonly random: () => number;
}

interface Running {
  readonly endMs: number;
  readonly beganMs: number;
  readonly server: number;
  readonly endpoint: Endpoint;
}

/** Sends requests at random moments through the balancer to servers that queue. */
export function simulate(options: Simulation): SimulationResult {
  const { balancer, servers, random, untilMs, sinceMs = options.fromMs } = options;
  const indexOf = new Map(balancer.endpoints.map((endpoint, index) => [endpoint, index]));
  /** When each worker of each server is free. */
  const free = servers.map(({ workers }) => new Array<number>(workers).fill(0));
  const running: Running[] = [];
  const times: number[] = [];
  const counts = servers.map(() => 0);
  const finish = (done: Running): void => {
    done.endpoint.answered(done.endMs - done.beganMs, done.endMs);
    done.endpoint.endRequest();
    if (done.beganMs >= sinceMs) times.push(done.endMs - done.beganMs);
  };
  let nowMs = options.fromMs;
  for (;;) {
    nowMs += (-Math.log(1 - random()) * 1_000) / options.perSecond;
    while (running.length > 0 && running[0].endMs <= nowMs) finish(running.shift()!);
    if (nowMs >= untilMs) break;
    const endpoint = balancer.pickForRequest([], nowMs)!;
    const server = indexOf.get(endpoint)!;
    endpoint.beginRequest();
    if (nowMs >= sinceMs) counts[server]++;
    const workers = free[server];
    const worker = workers.indexOf(Math.min(...workers));
    const startMs = Math.max(nowMs, workers[worker]);
    const { serviceMs, pauses = [] } = servers[server];
    workers[worker] = endOfWork(startMs, serviceMs(random, nowMs), pauses);
    const entry = { endMs: workers[worker], beganMs: nowMs, server, endpoint };
    const at = running.findLastIndex(({ endMs }) => endMs <= entry.endMs);
    running.splice(at + 1, 0, entry);
  }
  for (const done of running) finish(done);
  return { times, counts };
}

/** When work of `ms` that begins at `startMs` is done. */
function endOfWork(startMs: number, ms: number, pauses: readonly Pause[]): number {
  let endMs = startMs + ms;
  for (const { fromMs, untilMs } of pauses) {
    if (fromMs >= endMs) break;
    if (untilMs > startMs) endMs += untilMs - Math.max(fromMs, startMs);
  }
  return endMs;
}

/** Pauses of `lengthMs` at random moments, one in `everyMs` on average. */
export function randomPauses(
  random: () => number,
  everyMs: number,
  lengthMs: number,
  untilMs: number,
): Pause[] {
  const pauses: Pause[] = [];
  for (let nowMs = 0; ; ) {
    nowMs += -Math.log(1 - random()) * (everyMs - lengthMs);
    if (nowMs >= untilMs) return pauses;
    pauses.push({ fromMs: nowMs, untilMs: nowMs + lengthMs });
    nowMs += lengthMs;
  }
}

/** Exponentially distributed with this mean, the rough case: real servers vary less. */
export function exponential(meanMs: number): ServerModel['serviceMs'] {
  return (random) => -Math.log(1 - random()) * meanMs;
}

/** The value below which this part of `times` lies. */
export function quantile(times: readonly number[], part: number): number {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.min(Math.floor(part * sorted.length), sorted.length - 1)];
}
