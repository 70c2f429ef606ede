/** The series of HTTP requests: their labels and counts, their bounds, and how they end. */
import t from 'tap';
import { FINE_LATENCY_SECONDS, LATENCY_MS } from '../../proxy/metrics/buckets.ts';
import { HttpSeries } from '../../proxy/metrics/http.ts';
import { HttpAuthorities, MAX_AUTHORITIES } from '../../proxy/metrics/http-authorities.ts';
import { HttpPoolSeries } from '../../proxy/metrics/http-pool.ts';
import { HttpWorkerMetrics } from '../../proxy/metrics/http-worker.ts';
import { MetricsRegistry } from '../../proxy/metrics/registry.ts';
import { MetricsSlab, SERIES_IDLE_MS, SLAB_BYTES } from '../../proxy/metrics/slab.ts';
import { parseExposition, seriesName } from '../support/exposition.ts';

const TARGET = { direction: 'outbound', target_addr: '10.0.0.1:80' };

/** A worker whose messages reach main at once. */
function start(slabBytes = SLAB_BYTES) {
  const registry = new MetricsRegistry();
  const buffer = new SharedArrayBuffer(slabBytes);
  registry.attach(0, buffer);
  const slab = new MetricsSlab(
    buffer,
    (definition) => registry.define(0, definition),
    (slot) => {
      registry.undefine(0, slot);
      queueMicrotask(() => slab.forgotten(slot));
    },
  );
  const fine = slab.histogram('ferrule_response_latency_seconds', TARGET);
  const scrape = async () => {
    const { samples } = parseExposition(await registry.render());
    return (name: string, labels: Record<string, string>) => samples.get(seriesName(name, labels));
  };
  return { registry, slab, fine, scrape };
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'latin1'));
}

t.test('responses are counted by status and classification, with their latency', async (t) => {
  const { slab, fine, scrape } = start();
  const labels = { ...TARGET, authority: 'orders:80', tls: 'true' };
  const series = new HttpSeries(slab, labels, fine);
  const answers: [number, number, boolean][] = [
    [200, 0.4, true],
    [200, 7, true],
    [200, 70_000, false],
    [404, 3, true],
    [503, 1, true],
  ];
  for (const [status, latencyMs, whole] of answers) {
    series.requested();
    series.responded(status, latencyMs, whole);
  }
  series.requested();
  series.abandoned();
  const read = await scrape();
  t.equal(read('request_total', labels), 6);
  const responses = (more: Record<string, string>) => read('response_total', { ...labels, ...more });
  t.equal(responses({ status_code: '200', classification: 'success' }), 2);
  t.equal(responses({ status_code: '200', classification: 'failure' }), 1, 'broke off');
  t.equal(responses({ status_code: '404', classification: 'success' }), 1, 'the client is at fault');
  t.equal(responses({ status_code: '503', classification: 'failure' }), 1);
  t.equal(responses({ classification: 'failure' }), 1, 'no status');
  const latency = (suffix: string, more: object) =>
    read(`response_latency_ms_${suffix}`, { ...labels, status_code: '200', ...more });
  t.strictSame(
    ['1', '5', '10', '50000', '+Inf'].map((le) => latency('bucket', { le })),
    [1, 1, 2, 2, 3],
  );
  t.equal(latency('sum', {}), 70_007.4);
  t.equal(latency('count', {}), 3);
  t.equal(read('ferrule_response_latency_seconds_count', TARGET), 5);
  t.equal(read('ferrule_response_latency_seconds_bucket', { ...TARGET, le: '0.0004' }), 1);
});

t.test('a server with ever new statuses is bounded', async (t) => {
  const { slab, fine, scrape } = start();
  const series = new HttpSeries(slab, TARGET, fine);
  for (let status = 200; status < 600; status++) {
    series.requested();
    series.responded(status, 1);
  }
  const read = await scrape();
  t.equal(read('response_total', { ...TARGET, status_code: '215', classification: 'success' }), 1);
  t.equal(read('response_total', { ...TARGET, status_code: '216', classification: 'success' }), undefined);
  t.equal(read('response_total', { ...TARGET, overflow: 'true', classification: 'success' }), 284);
  t.equal(read('response_total', { ...TARGET, overflow: 'true', classification: 'failure' }), 100);
  t.equal(read('response_latency_ms_count', { ...TARGET, overflow: 'true' }), 384);
  t.equal(read('ferrule_metrics_series_overflow_total', {}), 1, 'and it shows');
});

t.test('what is released is forgotten when it was idle, once its requests have ended', async (t) => {
  const { slab, fine, scrape } = start();
  const series = new HttpSeries(slab, TARGET, fine);
  series.requested();
  series.release();
  slab.release(fine.slot);
  slab.sweep(0);
  t.equal(slab.sweep(SERIES_IDLE_MS), 0, 'a request is under way');
  series.responded(200, 5);
  slab.sweep(SERIES_IDLE_MS);
  t.equal(slab.sweep(2 * SERIES_IDLE_MS), 4, 'requests, responses and two latencies');
  const read = await scrape();
  t.equal(read('request_total', TARGET), undefined);
  t.equal(read('response_latency_ms_count', { ...TARGET, status_code: '200' }), undefined);
  const again = slab.histogram('response_latency_ms', TARGET);
  t.equal((await scrape())('response_latency_ms_count', TARGET), 0, 'slots come back empty');
  slab.release(again.slot);
});

t.test('a histogram that changes after its release is not idle', async (t) => {
  const { slab, fine } = start();
  slab.release(fine.slot);
  slab.sweep(0);
  // Not in the first bucket and without a change of the sum.
  slab.values[fine.slot + 20]++;
  t.equal(slab.sweep(SERIES_IDLE_MS), 0);
  t.equal(slab.sweep(2 * SERIES_IDLE_MS), 1);
});

t.test('authorities are told apart whatever their case, up to a number', async (t) => {
  const { slab, fine, scrape } = start();
  const authorities = new HttpAuthorities(slab, TARGET, fine);
  const request = (text: string) => {
    const bytes = bytesOf(`Host: ${text}\r\n`);
    const series = authorities.of(bytes, 6, bytes.length - 2);
    series.requested();
    series.responded(200, 1);
  };
  for (const text of [
    'AZ',
    'az',
    'aZ',
    'Orders',
    'orders',
    'ORDERS',
    'orders:80',
    '',
    'ordert',
    '[::1]:80',
    'x'.repeat(260),
  ])
    request(text);
  const requests = async (more: object) => (await scrape())('request_total', { ...TARGET, ...more });
  t.equal(await requests({ authority: 'orders' }), 3);
  t.equal(await requests({ authority: 'az' }), 3);
  t.equal(await requests({ authority: 'orders:80' }), 1);
  t.equal(await requests({ authority: '' }), 1);
  t.equal(await requests({ authority: '[::1]:80' }), 1);
  t.equal(await requests({ overflow: 'true' }), 1, 'too long');
  for (let index = 0; index < 2 * MAX_AUTHORITIES; index++) request(`host-${index}`);
  t.equal(await requests({ authority: `host-${MAX_AUTHORITIES - 7}` }), 1);
  t.equal(await requests({ authority: `host-${MAX_AUTHORITIES - 6}` }), undefined);
  t.equal(await requests({ overflow: 'true' }), 1 + MAX_AUTHORITIES + 6);
  authorities.sweep();
  request('orders');
  request('host-1');
  authorities.sweep();
  for (let index = 0; index < MAX_AUTHORITIES; index++) request(`late-${index}`);
  t.equal(await requests({ authority: `late-${MAX_AUTHORITIES - 3}` }), 1, 'there is room again');
  t.equal(await requests({ authority: `late-${MAX_AUTHORITIES - 2}` }), undefined);
  t.equal(await requests({ authority: 'orders' }), 4);
  request('orders:80');
  t.equal(await requests({ authority: 'orders:80' }), 1, 'full again');
  authorities.sweep();
  authorities.sweep();
  request('ordert');
  t.equal(await requests({ authority: 'ordert' }), 2, 'who returns continues its counters');
  authorities.release();
  slab.release(fine.slot);
  slab.sweep(0);
  slab.sweep(SERIES_IDLE_MS);
  t.equal(await requests({ authority: 'ordert' }), undefined, 'nothing is held');
  t.equal(await requests({ overflow: 'true' }), undefined, 'nor by the overflow series');
});

t.test('a slab that is full sends histograms to the overflow series of their family', async (t) => {
  const { slab, fine } = start();
  const found = new Set<number>();
  for (let index = 0; index < 3000; index++)
    found.add(slab.histogram('response_latency_ms', { target_addr: String(index) }).slot);
  const last = slab.histogram('response_latency_ms', { target_addr: 'last' });
  t.ok(found.has(last.slot), 'shared');
  t.ok(last.slot < fine.slot);
  const before = slab.values.reduce((sum, value) => sum + value, 0);
  last.observe(60_000);
  t.equal(slab.values[last.slot + LATENCY_MS.bounds.length], 1);
  t.equal(slab.values[last.slot + LATENCY_MS.slots - 1], 60_000);
  t.equal(
    slab.values.reduce((sum, value) => sum + value, 0),
    before + 60_001,
    'nothing else changed',
  );
});

t.test('a bucket is the first whose bound is not below the value', async (t) => {
  for (const buckets of [LATENCY_MS, FINE_LATENCY_SECONDS]) {
    const { bounds } = buckets;
    const wrong: number[] = [];
    const check = (value: number) => {
      const expected = bounds.findIndex((bound) => value <= bound);
      if (buckets.find(value) !== (expected < 0 ? bounds.length : expected)) wrong.push(value);
    };
    for (const value of [0, -1, -Infinity, Infinity, Number.MIN_VALUE, Number.MAX_VALUE, 2 ** 40])
      check(value);
    for (const bound of bounds) for (const by of [-2e-16, 0, 3e-16, -0.01, 0.01]) check(bound * (1 + by));
    for (let value = bounds[0] / 2; value < 2 * bounds[bounds.length - 1]; value *= 1.0007) check(value);
    t.strictSame(wrong, []);
  }
});

t.test('quantiles of the fine histogram are good to a few percent', async (t) => {
  const { slab, fine } = start();
  const bounds = [0, ...FINE_LATENCY_SECONDS.bounds];
  const count = 20_000;
  // Exponential around 3 ms, by its inverse: a queue's latencies, without chance.
  const latencies = Array.from({ length: count }, (_, n) => -0.003 * Math.log(1 - (n + 0.5) / count));
  for (const latency of latencies) fine.observe(latency);
  for (const quantile of [0.5, 0.9, 0.99, 0.999]) {
    let below = 0;
    let bucket = 0;
    // As histogram_quantile does: linear inside the bucket.
    while (below + slab.values[fine.slot + bucket] < quantile * count)
      below += slab.values[fine.slot + bucket++];
    const share = (quantile * count - below) / slab.values[fine.slot + bucket];
    const estimate = bounds[bucket] + share * (bounds[bucket + 1] - bounds[bucket]);
    const exact = latencies[Math.round(quantile * count) - 1];
    t.ok(Math.abs(estimate / exact - 1) < 0.03, `p${quantile * 100}: ${estimate} for ${exact}`);
  }
});

t.test('connections and replays of a destination', async (t) => {
  const { slab, scrape } = start();
  const pool = new HttpPoolSeries(slab, TARGET);
  for (let connection = 0; connection < 3; connection++) pool.opened();
  for (let connection = 0; connection < 2; connection++) pool.idled();
  pool.reused();
  pool.replayed('closed_idle');
  pool.replayed('closed_idle');
  const read = await scrape();
  t.equal(read('ferrule_http_pool_connections', { ...TARGET, state: 'active' }), 2);
  t.equal(read('ferrule_http_pool_connections', { ...TARGET, state: 'idle' }), 1);
  t.equal(read('ferrule_http_pool_opened_total', TARGET), 3);
  t.equal(read('ferrule_http_pool_reused_total', TARGET), 1);
  t.equal(read('ferrule_http_replays_total', { ...TARGET, reason: 'closed_idle' }), 2);
  pool.release();
  slab.sweep(0);
  t.equal(slab.sweep(SERIES_IDLE_MS), 0, 'connections use it');
  for (const wasIdle of [true, false, false]) pool.closed(wasIdle);
  slab.sweep(SERIES_IDLE_MS);
  t.equal(slab.sweep(2 * SERIES_IDLE_MS), 5, 'all gauges are back at zero');
});

t.test('detection and requests that could not be served', async (t) => {
  const { slab, scrape } = start();
  const metrics = new HttpWorkerMetrics(slab);
  metrics.detected('outbound', 'http/1', 0.0002);
  metrics.detected('outbound', 'http/1', 0.05);
  metrics.detected('outbound', 'not_http', 10);
  metrics.failed('inbound', 'failfast');
  metrics.failed('inbound', 'failfast');
  metrics.failed('outbound', 'i/o');
  const read = await scrape();
  const name = 'outbound_tcp_detect_http_duration_seconds';
  t.strictSame(
    ['0.001', '0.1', '+Inf'].map((le) => read(`${name}_bucket`, { le })),
    [1, 2, 3],
  );
  t.equal(read('outbound_tcp_detect_http_results_total', { result: 'http/1' }), 2);
  t.equal(read('outbound_tcp_detect_http_results_total', { result: 'not_http' }), 1);
  t.equal(read('inbound_http_errors_total', { error: 'failfast' }), 2);
  t.equal(read('outbound_http_errors_total', { error: 'i/o' }), 1);
});
