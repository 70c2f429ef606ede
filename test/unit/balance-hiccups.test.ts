import t from 'tap';
import type { Balancer } from '../../proxy/balance/balancer.ts';
import { balancerOf, seeded, snapshots } from '../support/balance.ts';
import {
  exponential,
  type Pause,
  quantile,
  randomPauses,
  type ServerModel,
  simulate,
} from '../support/balance-simulation.ts';

const SEEDS = [1, 2, 3, 4, 5];
/** Longer than a fast answer by as much as a machine's scheduler makes it. */
const HICCUP_MS = 30;
/** One at 5 s. */
const HICCUP: Pause = { fromMs: 5_000, untilMs: 5_000 + HICCUP_MS };

const always =
  (ms: number): ServerModel['serviceMs'] =>
  () =>
    ms;

/** Pauses of three replicas until 30 s. */
type Pauses = (random: () => number) => readonly Pause[][];

const own: Pauses = (random) => [0, 1, 2].map(() => randomPauses(random, 5_000, HICCUP_MS, 30_000));
const common: Pauses = (random) => {
  const pauses = randomPauses(random, 5_000, HICCUP_MS, 30_000);
  return [pauses, pauses, pauses];
};
/** Connections are opened, code is compiled. */
const atFirst: Pauses = () => [0, 1, 2].map(() => [{ fromMs: 0, untilMs: 2 * HICCUP_MS }]);

t.test('hiccups do not send requests to a replica that is 20 times slower', async (t) => {
  for (const [name, pausesOf] of Object.entries({ own, common, atFirst })) {
    for (const perSecond of [100, 1_000]) {
      for (const seed of SEEDS) {
        const pauses = pausesOf(seeded(100 + seed));
        const run = (...times: number[]) => {
          const servers = times.map((ms, index) => ({
            serviceMs: always(ms),
            workers: 64,
            pauses: pauses[index],
          }));
          const balancer = balancerOf(snapshots(...times.map(() => 1)));
          const random = seeded(seed);
          return simulate({
            balancer,
            servers,
            perSecond,
            fromMs: 0,
            sinceMs: 2_000,
            untilMs: 30_000,
            random,
          });
        };
        const [alone, all] = [run(2, 2), run(2, 2, 40)];
        const ratio = quantile(all.times, 0.99) / quantile(alone.times, 0.99);
        const slow = all.counts[2] / all.times.length;
        const text = `${name}, ${perSecond}/s, seed ${seed}: p99 ${ratio} times, slow ${slow}`;
        t.ok(ratio <= 2 && slow < 0.002, text);
      }
    }
  }
});

/** What the first of two equal endpoints gets of the requests of a time. */
function shareOfFirst(
  balancer: Balancer,
  pauses: readonly (readonly Pause[])[],
  perSecond: number,
  seed: number,
) {
  const servers = pauses.map((pauses) => ({ serviceMs: exponential(2), workers: 8, pauses }));
  const random = seeded(seed);
  return (fromMs: number, untilMs: number): number => {
    const { counts } = simulate({ balancer, servers, perSecond, fromMs, untilMs, random });
    return counts[0] / (counts[0] + counts[1]);
  };
}

t.test('two equals share the requests soon after a hiccup, of both or of one', async (t) => {
  for (const pauses of [
    [[HICCUP], [HICCUP]],
    [[HICCUP], []],
  ]) {
    for (const perSecond of [200, 1_000]) {
      for (const seed of SEEDS) {
        const share = shareOfFirst(balancerOf(snapshots(1, 1)), pauses, perSecond, seed);
        share(0, HICCUP.untilMs + 10);
        const [soon, later] = [share(5_040, 7_040), share(7_040, 15_040)];
        const text = `${perSecond}/s, seed ${seed}: ${soon}, then ${later}`;
        t.ok(soon > 0.3 && soon < 0.7 && later > 0.45 && later < 0.55, text);
      }
    }
  }
});

t.test('one that stood still for half a second is used again within 20 s', async (t) => {
  for (const perSecond of [200, 1_000]) {
    for (const seed of SEEDS) {
      const pauses = [[{ fromMs: 5_000, untilMs: 5_500 }], []];
      const share = shareOfFirst(balancerOf(snapshots(1, 1)), pauses, perSecond, seed);
      share(0, 25_500);
      const after = share(25_500, 30_000);
      t.ok(after > 0.4 && after < 0.6, `${perSecond}/s, seed ${seed}: ${after}`);
    }
  }
});

t.test('one that becomes slow is left within a few requests, hiccups or not', async (t) => {
  for (const [times, most] of [
    [20, 12],
    [5, 40],
  ]) {
    for (const seed of SEEDS) {
      for (const pauses of [[], randomPauses(seeded(seed), 2_000, HICCUP_MS, 10_000)]) {
        const balancer = balancerOf(snapshots(1, 1, 1));
        const steady: ServerModel = { serviceMs: exponential(5), workers: 8, pauses };
        const moody: ServerModel = {
          ...steady,
          serviceMs: (random, nowMs) => exponential(nowMs < 5_000 ? 5 : 5 * times)(random, nowMs),
        };
        const servers = [steady, steady, moody];
        const random = seeded(seed);
        const run = (fromMs: number, untilMs: number) =>
          simulate({ balancer, servers, perSecond: 600, fromMs, untilMs, random }).counts[2];
        run(0, 5_000);
        const slow = run(5_000, 6_000);
        t.ok(slow <= most, `${times} times, seed ${seed}, ${pauses.length} pauses: ${slow} of 600 requests`);
      }
    }
  }
});
