import fc from 'fast-check';
import t from 'tap';
import { InOrder } from '../../proxy/balance/in-order.ts';
import { Balancer } from '../../proxy/balance/p2c.ts';
import { destinationLabels, TransportSeries } from '../../proxy/metrics/transport.ts';
import { DEFAULT_CONNECT_MS, Endpoint } from '../../proxy/model/endpoint.ts';
import type { EndpointSnapshot } from '../../proxy/model/target.ts';
import { testSlab } from '../support/slab.ts';

const { slab } = testSlab();

function create(snapshot: EndpointSnapshot, initialMs: number): Endpoint {
  const endpoint: Endpoint = new Endpoint(
    snapshot,
    new TransportSeries(slab, { direction: 'outbound', target_addr: `${snapshot.ip}:${snapshot.port}` }),
    initialMs,
    0,
  );
  return endpoint;
}

function snapshots(...weights: number[]): EndpointSnapshot[] {
  return weights.map((weight, index) => ({ ip: `10.0.0.${index + 1}`, port: 80, weight, labels: {} }));
}

function balancer(...weights: number[]): Balancer {
  const made = new Balancer(seeded(7));
  made.update(snapshots(...weights), 0, create);
  return made;
}

/** Mulberry32: a fixed sequence in [0, 1). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}

function share(picker: Balancer, picks: number): number[] {
  const counts = picker.endpoints.map(() => 0);
  for (let i = 0; i < picks; i++) {
    const endpoint = picker.pick([], 0);
    if (endpoint !== undefined) counts[picker.endpoints.indexOf(endpoint)]++;
  }
  return counts.map((count) => count / picks);
}

t.test('idle endpoints are picked by weight', async (t) => {
  const [light, heavy] = share(balancer(1, 3), 20_000);
  t.ok(light > 0.2 && light < 0.3, `the lighter got ${light}`);
  t.ok(heavy > 0.7 && heavy < 0.8, `the heavier got ${heavy}`);
  for (const part of share(balancer(1, 1, 1, 1), 20_000)) {
    t.ok(Math.abs(part - 0.25) < 0.02, `of four equals one got ${part}`);
  }
});

t.test('open connections settle in proportion to weights', async (t) => {
  const picker = balancer(1, 2, 5);
  for (let i = 0; i < 8_000; i++) picker.pick([], 0)?.hold();
  const [one, two, five] = picker.endpoints.map(({ inFlight }) => inFlight);
  t.ok(
    Math.abs(one - 1000) < 100 && Math.abs(two - 2000) < 150 && Math.abs(five - 5000) < 200,
    `${one} ${two} ${five}`,
  );
});

t.test('a slow endpoint is avoided, and tried again when that has faded', async (t) => {
  const picker = balancer(1, 1);
  const [slow, fast] = picker.endpoints;
  slow.observe(1_000, 0);
  fast.observe(2, 0);
  for (let i = 0; i < 100; i++) t.equal(picker.pick([], 10), fast);
  const later = 200_000;
  const picked = new Set(Array.from({ length: 100 }, () => picker.pick([], later)));
  t.ok(picked.has(slow), 'after minutes the slow one is picked again');
});

t.test('connect times below a millisecond are noise', async (t) => {
  const picker = balancer(1, 1);
  const [a, b] = picker.endpoints;
  // Long enough ago that the assumed 30 ms have faded.
  a.observe(0.05, 100_000);
  b.observe(0.4, 100_000);
  const [one, other] = [0, 0].map(() => share(picker, 2_000)[0]);
  t.ok(Math.abs(one - 0.5) < 0.5 && other > 0, 'both are used');
  for (let i = 0; i < 50; i++) a.hold();
  t.equal(picker.pick([], 200_000), b, 'connections in flight decide');
});

t.test('the average jumps up and comes down slowly', async (t) => {
  const endpoint = create(snapshots(1)[0], DEFAULT_CONNECT_MS);
  t.equal(endpoint.connectMs(0), DEFAULT_CONNECT_MS);
  endpoint.observe(500, 0);
  t.equal(endpoint.connectMs(0), 500, 'a peak counts at once');
  endpoint.observe(1, 1_000);
  t.ok(endpoint.connectMs(1_000) > 400, 'one fast connect a second later hardly lowers it');
  endpoint.observe(1, 60_000);
  t.ok(endpoint.connectMs(60_000) < 5, 'a minute later it does');
});

t.test('those tried are never picked again', async (t) => {
  const picker = balancer(1, 1, 1);
  const tried: Endpoint[] = [];
  for (let i = 0; i < 3; i++) {
    const endpoint = picker.pick(tried, 0);
    t.ok(endpoint !== undefined && !tried.includes(endpoint));
    if (endpoint !== undefined) tried.push(endpoint);
  }
  t.equal(picker.pick(tried, 0), undefined);
});

t.test('an update keeps the figures of what stays and reports what goes', async (t) => {
  const picker = balancer(1, 1, 1);
  const [first, second, third] = picker.endpoints;
  for (const endpoint of [first, second, third]) endpoint.observe(100, 0);
  second.hold();
  const gone = picker.update(
    [...snapshots(1, 1), { ip: '10.0.0.9', port: 80, weight: 1, labels: {} }],
    0,
    create,
  );
  t.same(gone, [third]);
  t.equal(picker.endpoints[0], first);
  t.equal(picker.endpoints[1].inFlight, 1);
  t.equal(picker.endpoints[2].connectMs(0), 100, 'a newcomer starts with the mean of the others');
  const changed = picker.update(snapshots(2, 1), 0, create);
  t.ok(changed.includes(first), 'another weight makes another endpoint');
});

t.test('in order: the first that was not tried', async (t) => {
  const [a, b] = snapshots(1, 1).map((snapshot) => create(snapshot, 1));
  const picker = new InOrder([a, b]);
  t.equal(picker.pick([]), a);
  t.equal(picker.pick([a]), b);
  t.equal(picker.pick([a, b]), undefined);
});

t.test('property: a pick is always a listed endpoint that was not tried', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 100 }), { maxLength: 12 }),
      fc.array(fc.nat(11)),
      fc.nat(),
      (weights, triedIndexes, seed) => {
        const picker = new Balancer(seeded(seed));
        picker.update(snapshots(...weights), 0, create);
        const tried = triedIndexes
          .map((index) => picker.endpoints[index])
          .filter((endpoint) => endpoint !== undefined);
        const endpoint = picker.pick(tried, 0);
        const left = picker.endpoints.filter((candidate) => !tried.includes(candidate));
        return endpoint === undefined ? left.length === 0 : left.includes(endpoint);
      },
    ),
    { seed: 11, numRuns: 500 },
  );
  t.pass('500 runs');
});

t.test('metrics of an endpoint that discovery dropped live until its last connection ends', async (t) => {
  const { slab: own, read } = testSlab();
  const labels = destinationLabels('outbound', create(snapshots(1)[0], 1).address, {});
  const series = new TransportSeries(own, labels);
  const endpoint = new Endpoint(snapshots(1)[0], series, 1, 0);
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
