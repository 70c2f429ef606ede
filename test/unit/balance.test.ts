import fc from 'fast-check';
import t from 'tap';
import { chanceOf } from '../../proxy/balance/chance.ts';
import { InOrder } from '../../proxy/balance/in-order.ts';
import { Pool } from '../../proxy/balance/pool.ts';
import { destinationLabels, TransportSeries } from '../../proxy/metrics/transport.ts';
import { Endpoint, SLOW_START_MS } from '../../proxy/model/endpoint.ts';
import { DEFAULT_RTT_MS, PeakEwma } from '../../proxy/model/peak-ewma.ts';
import type { BalancePolicy, EndpointSnapshot } from '../../proxy/model/target.ts';
import { balancerOf, createEndpoint, shares, snapshots } from '../support/balance.ts';
import { testSlab } from '../support/slab.ts';

t.test('idle endpoints are picked by weight, whatever the policy', async (t) => {
  for (const policy of ['ewma', 'least-request', 'round-robin'] as const) {
    const [light, heavy] = shares(balancerOf(snapshots(1, 3), policy), 20_000);
    t.ok(light > 0.24 && light < 0.26, `${policy}: the lighter got ${light}`);
    t.ok(heavy > 0.74 && heavy < 0.76, `${policy}: the heavier got ${heavy}`);
    for (const part of shares(balancerOf(snapshots(1, 1, 1, 1), policy), 20_000)) {
      t.ok(Math.abs(part - 0.25) < 0.02, `${policy}: of four equals one got ${part}`);
    }
    const [half, five, most] = shares(balancerOf(snapshots(0.5, 5, 94.5), policy), 40_000);
    t.ok(half > 0.003 && half < 0.007, `${policy}: half a percent got ${half}`);
    t.ok(five > 0.045 && five < 0.055 && most > 0.94, `${policy}: ${five} ${most}`);
  }
});

t.test('open connections settle in proportion to weights', async (t) => {
  const picker = balancerOf(snapshots(1, 2, 5));
  for (let i = 0; i < 8_000; i++) picker.pick([], 0)?.hold();
  const [one, two, five] = picker.endpoints.map(({ figures }) => figures.connections.inFlight);
  t.ok(
    Math.abs(one - 1000) < 100 && Math.abs(two - 2000) < 150 && Math.abs(five - 5000) < 200,
    `${one} ${two} ${five}`,
  );
});

t.test('a slow endpoint is avoided, and tried again when that has faded', async (t) => {
  const picker = balancerOf(snapshots(1, 1));
  const [slow, fast] = picker.endpoints;
  slow.answered(1_000, 0);
  fast.answered(2, 0);
  for (let i = 0; i < 100; i++) t.equal(picker.pickForRequest([], 10), fast);
  t.match(picker.last, { reason: 'load' });
  for (let i = 0; i < 50; i++) picker.pick([], 10)?.hold();
  t.equal(slow.figures.connections.inFlight, 25, 'times of requests say nothing of connections');
  const later = 200_000;
  const picked = new Set(Array.from({ length: 100 }, () => picker.pickForRequest([], later)));
  t.ok(picked.has(slow), 'after minutes the slow one is picked again');
});

t.test('a slow endpoint helps out when the fast one is busy enough', async (t) => {
  const picker = balancerOf(snapshots(1, 1));
  const [slow, fast] = picker.endpoints;
  slow.answered(100, 0);
  fast.answered(10, 0);
  for (let i = 0; i < 9; i++) fast.beginRequest();
  t.equal(picker.pickForRequest([], 0), fast, '(9 + 1) × 10 ms is not more than 100 ms');
  fast.beginRequest();
  t.equal(picker.pickForRequest([], 0), slow);
});

t.test('times below a millisecond are noise, and so are times within twice each other', async (t) => {
  for (const [one, other] of [
    [0.05, 0.9],
    [30, 59],
  ]) {
    const picker = balancerOf(snapshots(1, 1));
    const [a, b] = picker.endpoints;
    a.answered(one, 0);
    b.answered(other, 0);
    const [share] = shares(picker, 2_000);
    t.ok(Math.abs(share - 0.5) < 0.05, `${one} and ${other} ms: ${share}`);
    a.beginRequest();
    t.equal(picker.pickForRequest([], 0), b, 'requests in flight decide');
    t.equal(picker.last.reason, 'in-flight');
  }
});

t.test('an endpoint nobody has measured is judged by what it has in flight', async (t) => {
  const picker = balancerOf(snapshots(1, 1));
  const [known, unknown] = picker.endpoints;
  known.answered(1, 0);
  t.equal(unknown.figures.requests.time.at(0), DEFAULT_RTT_MS);
  const [share] = shares(picker, 2_000);
  t.ok(Math.abs(share - 0.5) < 0.05, `the first to answer does not take everything: ${share}`);
  unknown.beginRequest();
  for (let i = 0; i < 20; i++) t.equal(picker.pickForRequest([], 0), known, 'nor does a silent one');
});

t.test('a failed endpoint is passed over for a second, whatever the policy', async (t) => {
  for (const policy of ['ewma', 'least-request', 'round-robin'] as const) {
    const picker = balancerOf(snapshots(1, 1, 1), policy);
    const [bad] = picker.endpoints;
    bad.requestFailed(0.1, 5_000);
    for (let i = 0; i < 60; i++) {
      t.not(picker.pickForRequest([], 5_999), bad, `${policy}: request`);
      t.not(picker.pick([], 5_999), bad, `${policy}: connection`);
    }
    t.ok(shares(picker, 300, 6_000)[0] > 0.25, `${policy}: back after a second`);
    for (const endpoint of picker.endpoints) endpoint.requestFailed(1, 7_000);
    t.ok(picker.pickForRequest([], 7_001), 'when all have failed there is still one');
  }
});

t.test('a quick failure is not a short time, a long one is a long time', async (t) => {
  const [endpoint] = balancerOf(snapshots(1)).endpoints;
  const { time } = endpoint.figures.requests;
  endpoint.requestFailed(0.1, 0);
  t.notOk(time.measured);
  endpoint.answered(20, 0);
  endpoint.requestFailed(0.1, 0);
  t.equal(time.at(0), 20);
  endpoint.requestFailed(5_000, 0);
  t.equal(time.at(0), 5_000);
  endpoint.connectFailed(1_000, 0);
  t.equal(endpoint.figures.connections.time.at(0), 1_000);
});

/** An average of answers that take 5 ms, a hundred per second; the last of them at 20 s. */
function steadyAverage(): PeakEwma {
  const time = new PeakEwma();
  for (let nowMs = 10; nowMs <= 20_000; nowMs += 10) time.observe(5, nowMs);
  return time;
}

t.test('a time nobody has measured is assumed, and the first replaces it', async (t) => {
  const time = new PeakEwma();
  t.equal(time.at(100_000), DEFAULT_RTT_MS, 'what is assumed does not fade');
  time.observe(5, 100_000);
  t.equal(time.at(100_000), 5);
  time.observe(7, 100_000);
  t.equal(time.at(100_000), 6, 'the first few weigh alike');
  t.equal(time.at(50_000), 6, 'a clock that goes back changes nothing');
});

t.test('one long time is seen at once, and forgotten after a few short ones or a second', async (t) => {
  const time = steadyAverage();
  time.observe(105, 20_000);
  const peak = time.at(20_000);
  t.ok(peak > 29 && peak <= 30, `a quarter of the difference: ${peak}`);
  t.equal(time.at(20_500), peak / 2, 'half of it after half a second');
  t.ok(time.at(21_000) < 6, `${time.at(21_000)} after a second`);
  for (let nowMs = 20_010; nowMs <= 20_080; nowMs += 10) time.observe(5, nowMs);
  t.ok(time.at(20_080) < 10, `${time.at(20_080)} after eight short ones`);
});

t.test('all that one hiccup delays are one peak', async (t) => {
  const time = steadyAverage();
  for (let n = 0; n < 50; n++) time.observe(105, 20_100);
  t.ok(time.at(20_100) > 100, `${time.at(20_100)} at once`);
  t.ok(time.at(21_100) < 8, `${time.at(21_100)} a second later`);
});

t.test('who stays slow is remembered, for longer each time it is tried', async (t) => {
  const time = steadyAverage();
  let nowMs = 20_000;
  let beforeMs = 0;
  for (let tries = 0; tries < 4; tries++) {
    time.observe(100, nowMs + 1);
    const triedMs = nowMs;
    while (time.at(nowMs) > 10 || nowMs === triedMs) nowMs += 100;
    t.ok(nowMs - triedMs > beforeMs, `tried again after ${nowMs - triedMs} ms`);
    beforeMs = nowMs - triedMs;
  }
  t.ok(beforeMs > 15_000 && beforeMs < 24_000, 'in the end when an average of 10 s has faded');
  time.observe(5, nowMs);
  time.observe(5, nowMs + 1);
  time.observe(5, nowMs + 2);
  t.ok(time.at(nowMs + 2) < 10, `one that is fast again is believed: ${time.at(nowMs + 2)}`);
});

t.test('a failure counts at once and for long, a quick one not at all', async (t) => {
  const time = steadyAverage();
  time.penalize(4, 20_000);
  t.equal(time.at(20_000), 5);
  time.penalize(500, 20_000);
  t.equal(time.at(20_000), 500);
  t.ok(Math.abs(time.at(30_000) - 500 / Math.E) < 1e-9, 'fades over 10 s');
});

t.test('at rest an average fades to the default, and not at all below it', async (t) => {
  const time = new PeakEwma();
  t.equal(time.rested(0), DEFAULT_RTT_MS);
  time.observe(200, 60_000);
  t.ok(time.at(600_000) < 1e-9);
  t.ok(Math.abs(time.rested(600_000) - DEFAULT_RTT_MS) < 1e-9);
  time.observe(10, 600_000);
  t.equal(time.rested(9_000_000), time.at(600_000));
});

t.test('the second one is drawn by weight among the others', async (t) => {
  const weights = [1, 2, 3, 4];
  for (const list of [weights, [1, 1, 1, 1]]) {
    const pool = new Pool(
      snapshots(...list).map((snapshot) => createEndpoint(snapshot)),
      chanceOf(23),
    );
    for (const without of list.keys()) {
      const counts = list.map(() => 0);
      for (let i = 0; i < 20_000; i++) counts[pool.drawOther(without)]++;
      t.equal(counts[without], 0);
      const total = list.reduce((sum, weight) => sum + weight, -list[without]);
      for (const [index, weight] of list.entries()) {
        const due = index === without ? 0 : weight / total;
        t.ok(Math.abs(counts[index] / 20_000 - due) < 0.015, `${index} without ${without}: ${counts[index]}`);
      }
    }
  }
});

t.test('round-robin is exact', async (t) => {
  for (const weights of [[1], [1, 1, 1], [1, 2, 5], [3, 3, 7, 1, 1], [0.5, 1.5]]) {
    const picker = balancerOf(snapshots(...weights), 'round-robin');
    const cycle = weights.reduce((sum, weight) => sum + weight, 0);
    for (let from = 0; from < 7; from++) {
      const counts = shares(picker, 1_000 * cycle).map((share) => Math.round(share * 1_000 * cycle));
      t.same(
        counts,
        weights.map((weight) => weight * 1_000),
        `any 1000 rounds of ${weights}`,
      );
      picker.pickForRequest([], 0);
    }
  }
  const picker = balancerOf(snapshots(1, 3), 'round-robin');
  const turns = Array.from({ length: 8 }, () => picker.endpoints.indexOf(picker.pickForRequest([], 0)!));
  t.equal(turns.filter((index) => index === 0).length, 2);
  t.equal(turns.indexOf(0) + 4, turns.lastIndexOf(0), 'turns are spread');
});

t.test('round-robin begins anywhere', async (t) => {
  const first = new Set<number>();
  for (let seed = 0; seed < 50; seed++) {
    const picker = balancerOf(snapshots(1, 1, 1), 'round-robin', { chance: chanceOf(seed) });
    first.add(picker.endpoints.indexOf(picker.pickForRequest([], 0)!));
  }
  t.equal(first.size, 3);
});

t.test('least-request takes the smaller of the two it drew', async (t) => {
  const picker = balancerOf(snapshots(1, 1, 1, 1, 1), 'least-request');
  for (const [index, endpoint] of picker.endpoints.entries()) {
    endpoint.answered(10 ** (4 - index), 0);
    for (let i = 0; i < index; i++) endpoint.beginRequest();
  }
  for (let i = 0; i < 500; i++) {
    const picked = picker.pickForRequest([], 0);
    const { first, second, reason } = picker.last;
    t.not(first.endpoint, second.endpoint);
    t.equal(picked, first.inFlight < second.inFlight ? first.endpoint : second.endpoint);
    t.equal(reason, 'in-flight');
  }
});

t.test('those tried are never picked again', async (t) => {
  for (const policy of ['ewma', 'least-request', 'round-robin'] as const) {
    const picker = balancerOf(snapshots(1, 1, 1), policy);
    const tried: Endpoint[] = [];
    for (let i = 0; i < 3; i++) {
      const endpoint = picker.pickForRequest(tried, 0);
      t.ok(endpoint !== undefined && !tried.includes(endpoint));
      if (endpoint !== undefined) tried.push(endpoint);
    }
    t.equal(picker.pickForRequest(tried, 0), undefined);
  }
});

t.test('a second try goes to the least loaded of the rest that did not fail', async (t) => {
  const picker = balancerOf(snapshots(1, 1, 1, 1));
  const [tried, busy, failed, free] = picker.endpoints;
  busy.beginRequest();
  failed.requestFailed(1, 0);
  t.equal(picker.pickForRequest([tried], 0), free);
  t.equal(picker.last.reason, 'rest');
  t.equal(picker.last.first.endpoint, free);
  t.equal(picker.pickForRequest([tried, free], 0), busy);
  t.equal(picker.pickForRequest([tried, free, busy], 0), failed);
});

t.test('the last pick explains itself', async (t) => {
  const picker = balancerOf(snapshots(1, 2));
  const [a, b] = picker.endpoints;
  a.answered(100, 0);
  b.answered(10, 0);
  b.beginRequest();
  t.equal(picker.pickForRequest([], 0), b);
  const { first, second } = picker.last;
  const [ofA, ofB] = first.endpoint === a ? [first, second] : [second, first];
  t.match(ofA, { endpoint: a, load: 100, timeMs: 100, inFlight: 0, measured: true });
  t.match(ofB, { endpoint: b, load: 15, timeMs: 10, inFlight: 1, measured: true });
  t.equal(picker.last.reason, 'load');
  t.equal(picker.last.elsewhere.endpoint, undefined);
  const single = balancerOf(snapshots(1));
  single.pick([], 0);
  t.match(single.last, { reason: 'only', second: { endpoint: undefined } });
  t.equal(balancerOf([]).pick([], 0), undefined);
});

t.test('the last pick explains turns that were passed on, and zones', async (t) => {
  const turns = balancerOf(snapshots(1, 1), 'round-robin');
  const [a, b] = turns.endpoints;
  a.requestFailed(1, 0);
  while (turns.pickForRequest([], 0) === b && turns.last.reason === 'turn');
  t.match(turns.last, { reason: 'failed', first: { endpoint: a }, second: { endpoint: b, load: 1 } });
  b.requestFailed(1, 0);
  t.equal(turns.pickForRequest([], 0), turns.last.first.endpoint);
  t.match(turns.last, { reason: 'turn', second: { endpoint: undefined } });

  for (const policy of ['ewma', 'least-request', 'round-robin'] as const) {
    const [near, far] = snapshots(1, 1);
    const endpoints = [
      { ...near, zones: ['a'] },
      { ...far, zones: ['b'] },
    ];
    const picker = balancerOf(endpoints, policy, { zone: 'a' });
    const [here, there] = picker.endpoints;
    here.answered(40, 100_000);
    there.answered(20, 0);
    t.equal(picker.pickForRequest([], 100_000), here, 'a time that rests does not fade');
    const { first, elsewhere } = picker.last;
    t.match(first, { endpoint: here, load: 40, timeMs: 40 }, policy);
    t.match(elsewhere, { endpoint: there, load: 20, timeMs: 20 }, policy);
    here.answered(41, 100_000);
    t.equal(picker.pickForRequest([], 100_000), there, 'more than twice the time and the load');
    t.equal(picker.last.reason, 'zone');
    there.beginRequest();
    t.equal(picker.pickForRequest([], 100_000), here, 'not more than twice the load');
  }
});

t.test('an update keeps what stays, and the figures of what only changes its labels', async (t) => {
  const picker = balancerOf(snapshots(1, 1, 1));
  const [first, second, third] = picker.endpoints;
  second.beginRequest();
  second.hold();
  second.answered(77, 0);
  const [one, two] = snapshots(2, 1);
  const newcomer = { ip: '10.0.0.9', port: 80, weight: 1, labels: {} };
  const relabelled = { ...two, labels: { dst_pod: 'web-1' } };
  const gone = picker.update([{ ...one, zones: ['a'] }, relabelled, newcomer], 'ewma', 0, createEndpoint);
  t.same(new Set(gone), new Set([second, third]));
  t.equal(picker.endpoints[0], first, 'another weight or zone is no other endpoint');
  t.equal(first.weight, 2);
  t.not(picker.endpoints[1], second, 'other labels need other metrics');
  t.equal(picker.endpoints[1].figures, second.figures);
  second.endRequest();
  second.letGo();
  t.match(picker.endpoints[1].figures, { requests: { inFlight: 0 }, connections: { inFlight: 0 } });
  t.equal(picker.endpoints[1].figures.requests.time.at(0), 77);
  const moved = { ...relabelled, identity: 'web.shop.serviceaccount.identity.linkerd.cluster.local' };
  picker.update([moved], 'ewma', 0, createEndpoint);
  t.not(picker.endpoints[0].figures, second.figures, 'another identity is another server');
});

t.test('labels are compared whatever their order', async (t) => {
  const [plain] = snapshots(1);
  const picker = balancerOf([{ ...plain, labels: { a: '1', b: '2' } }]);
  const [endpoint] = picker.endpoints;
  t.same(picker.update([{ ...plain, labels: { b: '2', a: '1' } }], 'ewma', 0, createEndpoint), []);
  t.equal(picker.endpoints[0], endpoint);
});

t.test('in order: the first that was not tried', async (t) => {
  const [a, b] = snapshots(1, 1).map((snapshot) => createEndpoint(snapshot));
  const picker = new InOrder([a, b]);
  t.equal(picker.pick([]), a);
  t.equal(picker.pickForRequest([a]), b);
  t.equal(picker.pick([a, b]), undefined);
});

t.test('property: a pick is always a listed endpoint that was not tried', async (t) => {
  const endpoint = fc.record({
    weight: fc.integer({ min: 1, max: 100 }),
    zone: fc.constantFrom('a', 'b', 'c'),
  });
  const policies = fc.constantFrom<BalancePolicy>('ewma', 'least-request', 'round-robin');
  fc.assert(
    fc.property(
      fc.array(endpoint, { maxLength: 12 }),
      fc.array(fc.nat(11)),
      fc.array(fc.nat(11), { maxLength: 6 }),
      fc.nat(),
      policies,
      fc.integer({ min: 0, max: 2 * SLOW_START_MS }),
      (endpoints, triedIndexes, failedIndexes, seed, policy, nowMs) => {
        const listed = snapshots(...endpoints.map(({ weight }) => weight)).map(
          (snapshot, index): EndpointSnapshot => ({ ...snapshot, zones: [endpoints[index].zone] }),
        );
        const picker = balancerOf(listed.slice(2), policy, { zone: 'a', chance: chanceOf(seed) });
        picker.update(listed, policy, 0, createEndpoint);
        for (const index of failedIndexes) picker.endpoints[index]?.requestFailed(index, nowMs);
        const tried = triedIndexes
          .map((index) => picker.endpoints[index])
          .filter((candidate) => candidate !== undefined);
        const picked = picker.pickForRequest(tried, nowMs);
        const left = picker.endpoints.filter((candidate) => !tried.includes(candidate));
        return picked === undefined ? left.length === 0 : left.includes(picked);
      },
    ),
    { seed: 11, numRuns: 1_000 },
  );
  t.pass('1000 runs');
});

t.test('metrics of an endpoint that discovery dropped live until its last connection ends', async (t) => {
  const { slab: own, read } = testSlab();
  const labels = destinationLabels('outbound', createEndpoint(snapshots(1)[0]).address, {});
  const series = new TransportSeries(own, labels);
  const endpoint = new Endpoint(snapshots(1)[0], series);
  endpoint.hold();
  series.release();
  series.opened();
  t.equal(read('tcp_open_connections', labels), 1);
  series.closed(104);
  endpoint.letGo();
  t.equal(read('tcp_open_connections', labels), 0);
  t.equal(read('tcp_close_total', { ...labels, errno: 'ECONNRESET' }), 1);
  t.equal(read('tcp_open_total', labels), 1);
});
