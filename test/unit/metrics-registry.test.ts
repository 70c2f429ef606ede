import t from 'tap';
import { log } from '../../proxy/core/log.ts';
import { ENGINE_FIGURES, FAMILIES } from '../../proxy/metrics/families.ts';
import { addProcessMetrics } from '../../proxy/metrics/process.ts';
import { MetricsRegistry } from '../../proxy/metrics/registry.ts';
import { ENGINE_SLOTS, MetricsSlab, SERIES_IDLE_MS, SLAB_BYTES } from '../../proxy/metrics/slab.ts';
import { parseExposition, seriesName } from '../support/exposition.ts';

/** A worker whose messages reach main at once. */
function startWorker(registry: MetricsRegistry, worker: number): MetricsSlab {
  const buffer = new SharedArrayBuffer(SLAB_BYTES);
  registry.attach(worker, buffer);
  const slab = new MetricsSlab(
    buffer,
    (definition) => registry.define(worker, definition),
    (slot) => {
      registry.undefine(worker, slot);
      queueMicrotask(() => slab.forgotten(slot));
    },
  );
  return slab;
}

async function scrape(registry: MetricsRegistry) {
  return parseExposition(await registry.render());
}

const labels = { direction: 'outbound', target_addr: '10.0.0.1:80' };
const openTotal = seriesName('tcp_open_total', labels);
const openNow = seriesName('tcp_open_connections', labels);

t.test('one series is the sum over workers', async (t) => {
  const registry = new MetricsRegistry();
  const slabs = [startWorker(registry, 0), startWorker(registry, 1)];
  for (const slab of slabs) slab.add(slab.counter('tcp_open_total', labels), 3);
  slabs[1].add(slabs[1].gauge('tcp_open_connections', labels), 2);
  const { families, samples } = await scrape(registry);
  t.equal(samples.get(openTotal), 6);
  t.equal(samples.get(openNow), 2);
  t.equal(families.get('tcp_open_total'), 'counter');
  t.equal(families.get('tcp_open_connections'), 'gauge');
});

t.test('an ended worker leaves its counters and takes its gauges with it', async (t) => {
  const registry = new MetricsRegistry();
  const slab = startWorker(registry, 0);
  slab.add(slab.counter('tcp_open_total', labels), 5);
  slab.add(slab.gauge('tcp_open_connections', labels), 5);
  slab.values[0] = 4;
  slab.values[6] = 100;
  registry.detach(0);
  const after = (await scrape(registry)).samples;
  t.equal(after.get(openTotal), 5);
  t.equal(after.get(openNow), 0);
  t.equal(after.get('ferrule_engine_connections{worker="0"}'), 0);
  t.equal(after.get('ferrule_engine_accepted_total{worker="0"}'), 100);
  const replacement = startWorker(registry, 0);
  replacement.add(replacement.counter('tcp_open_total', labels), 1);
  replacement.values[6] = 11;
  const { samples } = await scrape(registry);
  t.equal(samples.get(openTotal), 6);
  t.equal(samples.get('ferrule_engine_accepted_total{worker="0"}'), 111);
});

t.test('series of ended workers go after the time of an idle one', async (t) => {
  let nowMs = 0;
  const registry = new MetricsRegistry(() => nowMs);
  const slab = startWorker(registry, 0);
  slab.add(slab.counter('tcp_open_total', labels), 5);
  registry.detach(0);
  nowMs = SERIES_IDLE_MS - 1;
  t.equal((await scrape(registry)).samples.get(openTotal), 5);
  nowMs = SERIES_IDLE_MS;
  t.notOk((await scrape(registry)).samples.has(openTotal));
  t.notOk((await scrape(registry)).samples.has('ferrule_engine_accepted_total{worker="0"}'));
});

t.test('a counter does not go back when one of its workers drops the series', async (t) => {
  const registry = new MetricsRegistry();
  const [first, second] = [startWorker(registry, 0), startWorker(registry, 1)];
  const slot = first.counter('tcp_open_total', labels);
  first.add(slot, 500);
  const other = second.counter('tcp_open_total', labels);
  second.add(other, 300);
  first.release(slot);
  first.sweep(0);
  t.equal(first.sweep(SERIES_IDLE_MS), 1);
  t.equal((await scrape(registry)).samples.get(openTotal), 800);
  second.release(other);
  second.sweep(0);
  t.equal(second.sweep(SERIES_IDLE_MS), 1);
  t.notOk((await scrape(registry)).samples.has(openTotal), 'gone with its last worker');
});

t.test('names from the network cannot break the exposition', async (t) => {
  const registry = new MetricsRegistry();
  const slab = startWorker(registry, 0);
  const hostile = ['a"} 1\ntcp_open_total 9', '\\', 'x\\"y', '\u{1f600}', '', ' ', '#', 'a,b="c'];
  for (const server_id of hostile) slab.add(slab.counter('tcp_open_total', { server_id }), 1);
  const { samples } = await scrape(registry);
  for (const server_id of hostile) t.equal(samples.get(seriesName('tcp_open_total', { server_id })), 1);
  const opened = [...samples.keys()].filter((name) => name.startsWith('tcp_open_total'));
  t.equal(opened.length, hostile.length);
});

t.test('messages that outlive their worker are ignored, misuse is not', async (t) => {
  const registry = new MetricsRegistry();
  registry.define(7, { slot: 100, family: 'tcp_open_total', labels });
  registry.undefine(7, 100);
  t.notOk((await scrape(registry)).samples.has(openTotal));
  registry.attach(7, new SharedArrayBuffer(SLAB_BYTES));
  t.throws(() => registry.attach(7, new SharedArrayBuffer(SLAB_BYTES)), /attached already/);
  registry.define(7, { slot: 100, family: 'tcp_open_total', labels });
  t.throws(() => registry.define(7, { slot: 100, family: 'tcp_open_total', labels: {} }), /twice/);
  t.throws(() => registry.define(7, { slot: 101, family: 'nothing', labels }), /no metric family/);
  t.throws(() => registry.detach(8), /not attached/);
  t.throws(() => registry.gauge('tcp_open_total', 'again', [], () => []), /exists already/);
});

t.test('figures of main are read at each scrape', async (t) => {
  const registry = new MetricsRegistry();
  let age = 1;
  registry.gauge('ferrule_discovery_age_seconds', 'Age of the last good answer', ['source'], () => [
    { labels: { source: 'file:./mesh.d' }, value: age++ },
  ]);
  const name = 'ferrule_discovery_age_seconds{source="file:./mesh.d"}';
  t.equal((await scrape(registry)).samples.get(name), 1);
  registry.counter('ferrule_late_total', 'Added after the first scrape', [], () => [
    { labels: {}, value: 9 },
  ]);
  const { families, samples } = await scrape(registry);
  t.equal(samples.get(name), 2);
  t.equal(samples.get('ferrule_late_total'), 9);
  t.equal(families.get('ferrule_late_total'), 'counter');
});

t.test('a collector that fails costs its own figure only', async (t) => {
  const registry = new MetricsRegistry();
  const lines: string[] = [];
  const { sink } = log;
  log.sink = (line) => lines.push(line);
  t.teardown(() => {
    log.sink = sink;
  });
  registry.gauge('ferrule_broken', 'Fails', [], () => {
    throw new Error('no such thing');
  });
  const { families, samples } = await scrape(registry);
  t.ok(families.has('ferrule_broken'));
  t.notOk(samples.has('ferrule_broken'));
  t.equal(samples.get('ferrule_metrics_series_limit'), SLAB_BYTES / 8);
  t.match(lines.join(''), /ferrule_broken.*no such thing/);
});

t.test('process metrics are true', async (t) => {
  const registry = new MetricsRegistry();
  addProcessMetrics(registry);
  const before = process.cpuUsage();
  const { samples } = await scrape(registry);
  t.ok(samples.get('process_cpu_seconds_total')! >= (before.user + before.system) / 1e6);
  t.ok(Math.abs(samples.get('process_start_time_seconds')! * 1000 - performance.timeOrigin) < 1);
  const rss = process.memoryUsage.rss();
  t.ok(Math.abs(samples.get('process_resident_memory_bytes')! / rss - 1) < 0.2);
  t.ok(samples.get('process_virtual_memory_bytes')! > rss);
  t.ok(samples.get('ferrule_process_anonymous_memory_bytes')! > 0);
  const open = samples.get('process_open_fds')!;
  t.ok(open >= 3 && open < samples.get('process_max_fds')!);
  t.equal(samples.get(`nodejs_version_info{version="${process.version}"}`), 1);
});

t.test('the table is legal and the engine has room', async (t) => {
  t.ok(ENGINE_FIGURES.length <= ENGINE_SLOTS);
  for (const { name, type } of [...FAMILIES, ...ENGINE_FIGURES]) {
    t.match(name, /^(tcp|inbound|outbound|ferrule|request|response)_[a-z0-9_]+$/);
    t.equal(name.endsWith('_total'), type === 'counter', `${name}: _total says counter`);
  }
});
