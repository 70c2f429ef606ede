import t from 'tap';
import { SLOW_START_MS } from '../../proxy/model/endpoint.ts';
import type { BalancePolicy, EndpointSnapshot } from '../../proxy/model/target.ts';
import { balancerOf, createEndpoint, seeded, shares, snapshots } from '../support/balance.ts';
import { exponential, quantile, type ServerModel, simulate } from '../support/balance-simulation.ts';

const POLICIES: readonly BalancePolicy[] = ['ewma', 'least-request', 'round-robin'];

/** Four workers of 5 ms: 800 requests per second. */
const FAST: ServerModel = { serviceMs: exponential(5), workers: 4 };
const SLOW: ServerModel = { serviceMs: exponential(100), workers: 4 };

t.test('one replica of three is 20 times slower: p99 is at most twice that of the fast ones', async (t) => {
  const p99 = (policy: BalancePolicy, servers: readonly ServerModel[], perSecond: number): number => {
    const balancer = balancerOf(snapshots(...servers.map(() => 1)), policy);
    const random = seeded(3);
    return quantile(
      simulate({ balancer, servers, perSecond, fromMs: 0, untilMs: 60_000, random }).times,
      0.99,
    );
  };
  for (const perSecond of [32, 160, 480, 960]) {
    const alone = p99('ewma', [FAST, FAST], perSecond);
    const ewma = p99('ewma', [FAST, FAST, SLOW], perSecond);
    t.ok(ewma <= 2 * alone, `at ${perSecond}/s: ${ewma} ms, ${alone} without the slow one`);
  }
  const turns = p99('round-robin', [FAST, FAST, SLOW], 32);
  t.ok(turns > 4 * p99('ewma', [FAST, FAST], 32), `round-robin, for comparison: ${turns} ms`);
});

t.test('a replica that becomes slow is left within a moment, one that recovers is used again', async (t) => {
  const balancer = balancerOf(snapshots(1, 1, 1));
  const moody: ServerModel = {
    serviceMs: (random, nowMs) => exponential(nowMs < 20_000 || nowMs > 40_000 ? 5 : 500)(random, nowMs),
    workers: 4,
  };
  const servers = [FAST, FAST, moody];
  const random = seeded(5);
  const share = (fromMs: number, untilMs: number): number => {
    const { counts } = simulate({ balancer, servers, perSecond: 600, fromMs, untilMs, random });
    return counts[2] / counts.reduce((sum, count) => sum + count);
  };
  const before = share(0, 20_000);
  t.ok(before > 0.28 && before < 0.38, `healthy: ${before}`);
  share(20_000, 20_500);
  const slow = share(20_500, 40_000);
  t.ok(slow < 0.01, `slow: ${slow}`);
  share(40_000, 90_000);
  const after = share(90_000, 110_000);
  t.ok(after > 0.28 && after < 0.38, `healthy again: ${after}`);
});

t.test('requests are shared by weight, whatever the policy and how busy it is', async (t) => {
  const weights = [1, 2, 5];
  const servers = weights.map((weight): ServerModel => ({ serviceMs: exponential(5), workers: 2 * weight }));
  for (const policy of POLICIES) {
    for (const perSecond of [50, 500, 2_000]) {
      const balancer = balancerOf(snapshots(...weights), policy);
      const random = seeded(9);
      const { counts } = simulate({ balancer, servers, perSecond, fromMs: 0, untilMs: 30_000, random });
      const total = counts.reduce((sum, count) => sum + count);
      for (const [index, weight] of weights.entries()) {
        const due = weight / 8;
        const share = counts[index] / total;
        const text = `${policy} at ${perSecond}/s: weight ${weight} of 8 got ${share.toFixed(3)}`;
        t.ok(share > 0.7 * due && share < 1.3 * due, text);
      }
    }
  }
});

t.test('a newcomer neither takes everything nor starves', async (t) => {
  for (const policy of POLICIES) {
    for (const perSecond of [60, 1_200]) {
      const balancer = balancerOf(snapshots(1, 1, 1), policy);
      const random = seeded(13);
      const run = (fromMs: number, untilMs: number): number[] => {
        const servers = balancer.endpoints.map(() => FAST);
        const { counts } = simulate({ balancer, servers, perSecond, fromMs, untilMs, random });
        const total = counts.reduce((sum, count) => sum + count);
        return counts.map((count) => count / total);
      };
      run(0, 30_000);
      balancer.update(snapshots(1, 1, 1, 1), policy, 30_000, createEndpoint);
      const label = `${policy} at ${perSecond}/s`;
      const [, , , first] = run(30_000, 31_000);
      t.ok(first < 0.25 * 0.35, `${label}: in the first second ${first}`);
      const [, , , half] = run(31_000, 35_000);
      t.ok(half > 0.02 && half < 0.25 * 0.7, `${label}: until half-time ${half}`);
      const [, , , rest] = run(35_000, 30_000 + SLOW_START_MS);
      t.ok(rest > half && rest < 0.25 * 1.1, `${label}: until the end ${rest}`);
      run(40_000, 60_000);
      const [, , , after] = run(60_000, 90_000);
      t.ok(after > 0.2 && after < 0.3, `${label}: afterwards ${after}`);
    }
  }
});

t.test('the first endpoints of a service begin at once; so does whoever replaces all', async (t) => {
  const balancer = balancerOf(snapshots(1, 1));
  t.ok(Math.abs(shares(balancer, 2_000)[0] - 0.5) < 0.05);
  const others = snapshots(1, 1, 1, 1).slice(2);
  balancer.update(others, 'ewma', 1_000, createEndpoint);
  t.ok(Math.abs(shares(balancer, 2_000, 1_000)[0] - 0.5) < 0.05, 'newcomers among themselves are equal');
  balancer.update(snapshots(1, 1, 1, 1), 'ewma', 60_000, createEndpoint);
  const [one, two, three] = shares(balancer, 4_000, 60_000);
  t.ok(one < 0.12 && two < 0.12 && three > 0.38, `two beside two: ${one} ${two} ${three}`);
  t.ok(shares(balancer, 4_000, 60_000 + SLOW_START_MS)[0] > 0.22, 'after the slow start');
});

t.test('of nine newcomers beside one, nearly all requests go to them', async (t) => {
  const ten = snapshots(...new Array<number>(10).fill(1));
  const balancer = balancerOf(ten.slice(0, 1));
  balancer.update(ten, 'ewma', 0, createEndpoint);
  const [old] = shares(balancer, 10_000);
  t.ok(old > 0.1 && old < 0.25, `the one that was there got ${old}`);
});

const zoned = (zones: string): EndpointSnapshot[] =>
  snapshots(...[...zones].map(() => 1)).map((snapshot, index) => ({ ...snapshot, zones: [zones[index]] }));

t.test('the own zone is preferred while it copes', async (t) => {
  for (const policy of POLICIES) {
    for (const [perSecond, most] of [
      [100, 0],
      [800, 0],
      [1_000, 0.01],
    ]) {
      const balancer = balancerOf(zoned('aabbbb'), policy, { zone: 'a' });
      const servers = balancer.endpoints.map(() => FAST);
      const random = seeded(17);
      const { counts } = simulate({ balancer, servers, perSecond, fromMs: 0, untilMs: 30_000, random });
      const spilt = counts.slice(2).reduce((sum, count) => sum + count);
      const share = spilt / (spilt + counts[0] + counts[1]);
      t.ok(share <= most, `${policy} at ${perSecond}/s of 1600: ${share} went elsewhere`);
    }
  }
});

t.test('what the own zone cannot serve spills over, and comes back', async (t) => {
  for (const policy of POLICIES) {
    const balancer = balancerOf(zoned('aabbbb'), policy, { zone: 'a' });
    const servers = balancer.endpoints.map(() => FAST);
    const random = seeded(19);
    // One and a half times what the own zone can do.
    const busy = simulate({
      balancer,
      servers,
      perSecond: 2_400,
      fromMs: 0,
      untilMs: 60_000,
      sinceMs: 10_000,
      random,
    });
    const total = busy.counts.reduce((sum, count) => sum + count);
    const near = (busy.counts[0] + busy.counts[1]) / total;
    const p99 = quantile(busy.times, 0.99);
    t.ok(near > 0.35 && near < 0.7, `${policy}: the own zone kept ${near}`);
    t.ok(p99 < 150, `${policy}: p99 ${p99}, near ${near}`);
    simulate({ balancer, servers, perSecond: 100, fromMs: 60_000, untilMs: 100_000, random });
    const calm = simulate({ balancer, servers, perSecond: 100, fromMs: 100_000, untilMs: 130_000, random });
    const stayed = calm.counts[0] + calm.counts[1];
    const away = 1 - stayed / calm.counts.reduce((sum, count) => sum + count);
    t.ok(away < 0.02, `${policy}: later ${away} went elsewhere`);
  }
});

t.test('zones: failures, hints, unknown zones', async (t) => {
  const balancer = balancerOf(zoned('aab'), 'ewma', { zone: 'a' });
  const [one, two, far] = balancer.endpoints;
  one.requestFailed(1, 0);
  t.equal(balancer.pickForRequest([], 1), two);
  two.requestFailed(1, 0);
  t.equal(balancer.pickForRequest([], 1), far);
  t.match(balancer.last, { reason: 'zone', elsewhere: { endpoint: far } });
  t.equal(balancer.pick([], 1), far, 'for connections too');
  far.requestFailed(1, 1);
  t.not(balancer.pickForRequest([], 1), far, 'all have failed: the own zone');
  far.figures.failedMs = Number.NEGATIVE_INFINITY;
  t.not(balancer.pickForRequest([], 1_000), far, 'a second later its turn is over');
  t.equal(balancer.pickForRequest([one, two], 1_000), far, 'those left to try are elsewhere');
  t.equal(balancer.pickForRequest([far, two], 1_000), one);

  const hinted = zoned('bbb').map((snapshot, index) => ({
    ...snapshot,
    zones: index === 1 ? ['b', 'a'] : ['b'],
  }));
  t.same(shares(balancerOf(hinted, 'ewma', { zone: 'a' }), 100), [0, 1, 0], 'hints name several zones');
  const elsewhere = shares(balancerOf(zoned('bbb'), 'ewma', { zone: 'a' }), 3_000);
  t.ok(
    elsewhere.every((share) => share > 0.28),
    'none in the own zone: all are alike',
  );
  const nowhere = shares(balancerOf(zoned('abb'), 'ewma'), 3_000);
  t.ok(
    nowhere.every((share) => share > 0.28),
    'a proxy without a zone prefers none',
  );
});

t.test('endpoints that appear in the own zone take over gradually', async (t) => {
  for (const policy of POLICIES) {
    const balancer = balancerOf(zoned('bb'), policy, { zone: 'a' });
    balancer.update(zoned('bbaa'), policy, 0, createEndpoint);
    const near = (nowMs: number): number => {
      const [, , one, two] = shares(balancer, 4_000, nowMs);
      return one + two;
    };
    const [start, middle, end] = [near(0), near(5_000), near(SLOW_START_MS)];
    t.ok(start > 0.07 && start < 0.13, `${policy}: ${start}`);
    t.ok(middle > 0.5 && middle < 0.6, `${policy}: ${middle}`);
    t.equal(end, 1, policy);
  }
});

t.test('newcomers elsewhere are no help for a slow zone', async (t) => {
  const balancer = balancerOf(zoned('a'), 'ewma', { zone: 'a' });
  balancer.update(zoned('ab'), 'ewma', 0, createEndpoint);
  const [near, far] = balancer.endpoints;
  near.answered(1_000, SLOW_START_MS - 1);
  for (let i = 0; i < 50; i++) t.equal(balancer.pickForRequest([], SLOW_START_MS - 1), near);
  t.equal(balancer.pickForRequest([], SLOW_START_MS), far);
});
