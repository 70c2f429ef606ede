/**
 * The main thread's side of the metrics: what each slot of each worker's slab means, sums over workers on scrape, and
 * figures that main itself reports. A counter never goes back while its series exists: what an ended worker, or one that
 * dropped the series, had counted is folded into the series.
 */
import { createRequire } from 'node:module';
import type { Registry } from 'prom-client';
import { log } from '../core/log.ts';
import type { Labels } from '../model/target.ts';
import { ENGINE_FIGURES, FAMILIES } from './families.ts';
import { type Family, slotsOf } from './family.ts';
import { type HistogramSample, HistogramSums } from './histogram.ts';
import { SERIES_IDLE_MS, type SeriesDefinition, SLAB_SLOTS, type Slot, seriesKey } from './slab.ts';

/** One number of a figure that main reports. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** The Content-Type of what `render` returns. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** One series over all workers. */
interface Series {
  readonly key: string;
  readonly family: Family;
  readonly labels: Labels;
  /** What workers that no longer define the series had counted; 0 for gauges. */
  base: number;
  /** Workers that define it now. */
  definers: number;
  /** The sum at the current scrape. */
  value: number;
  /** Of a histogram, in place of `base` and `value`. */
  readonly histogram: HistogramSums | undefined;
  /** When the last worker that defined it ended. */
  orphanedAtMs: number;
}

interface Worker {
  readonly values: Float64Array;
  readonly bySlot: Map<Slot, Series>;
  /** Slots of all of them. */
  slots: number;
}

/** A family as prom-client's registry asks for it. */
interface Source {
  readonly family: Family;
  readonly collect: () => Iterable<Sample | Series>;
}

interface PromSample {
  readonly labels: Labels;
  readonly sharedLabels: Labels;
  readonly value: number;
}

/** Series of all workers and figures of main; one per process. */
export class MetricsRegistry {
  private readonly nowMs: () => number;
  private readonly workers = new Map<number, Worker>();
  private readonly byKey = new Map<string, Series>();
  private readonly byFamily = new Map<string, Set<Series>>();
  /** Series whose every worker ended, the longest ago first. */
  private readonly orphans = new Set<Series>();
  private orphanSlots = 0;
  private readonly sources = new Map<string, Source>();
  private exposition: Registry | undefined;

  /** @param nowMs a monotonic clock in milliseconds, for the eviction of series whose worker ended */
  constructor(nowMs: () => number = () => performance.now()) {
    this.nowMs = nowMs;
    const engine = ENGINE_FIGURES.map((figure) => ({ ...figure, labels: ['worker'] }));
    for (const family of [...FAMILIES, ...engine]) this.addWorkerFamily(family);
    this.gauge('ferrule_metrics_series', 'Metric series a worker holds', ['worker'], () =>
      [...this.workers].map(([worker, { slots }]) => ({ labels: { worker: String(worker) }, value: slots })),
    );
    this.gauge('ferrule_metrics_series_limit', 'Metric series a worker may hold', [], () => [
      { labels: {}, value: SLAB_SLOTS },
    ]);
  }

  /**
   * A worker starts to write into `buffer`. The number of an ended worker may be used again once `detach` was called and no
   * message of the ended one can arrive any more (its port is closed).
   */
  attach(worker: number, buffer: SharedArrayBuffer): void {
    if (this.workers.has(worker)) throw new Error(`worker ${worker} is attached already`);
    this.workers.set(worker, { values: new Float64Array(buffer), bySlot: new Map(), slots: 0 });
    const labels = { worker: String(worker) };
    for (const [slot, { name }] of ENGINE_FIGURES.entries())
      this.define(worker, { slot, family: name, labels });
  }

  /** A worker opened a series. Ignored when the worker is not attached: its last messages may outlive it. */
  define(worker: number, definition: SeriesDefinition): void {
    const owner = this.workers.get(worker);
    if (owner === undefined) return;
    if (owner.bySlot.has(definition.slot)) {
      throw new Error(`worker ${worker} defined slot ${definition.slot} twice`);
    }
    const series = this.obtain(definition);
    series.definers++;
    this.adopt(series);
    owner.bySlot.set(definition.slot, series);
    owner.slots += slotsOf(series.family);
  }

  /**
   * A worker dropped an idle series. Afterwards main answers, and the worker calls `MetricsSlab.forgotten`. Once no worker
   * has the series it disappears from the exposition. Ignored when the worker is not attached.
   */
  undefine(worker: number, slot: Slot): void {
    const owner = this.workers.get(worker);
    const series = owner?.bySlot.get(slot);
    if (owner === undefined || series === undefined) return;
    owner.bySlot.delete(slot);
    owner.slots -= slotsOf(series.family);
    fold(series, owner.values, slot);
    if (series.definers === 0) this.forget(series);
  }

  /**
   * A worker ended. Its counters stay in the sums, its gauges drop out of them. Series that no other worker has are kept for as
   * long as an idle one would be: the worker's replacement will most likely open them again.
   */
  detach(worker: number): void {
    const owner = this.workers.get(worker);
    if (owner === undefined) throw new Error(`worker ${worker} is not attached`);
    this.workers.delete(worker);
    const nowMs = this.nowMs();
    for (const [slot, series] of owner.bySlot) {
      fold(series, owner.values, slot);
      if (series.definers > 0) continue;
      series.orphanedAtMs = nowMs;
      this.orphans.add(series);
      this.orphanSlots += slotsOf(series.family);
    }
    this.evictOrphans(nowMs);
  }

  /** Adds a gauge that `collect` reads at each scrape. `labels` are the names its samples carry. */
  gauge(name: string, help: string, labels: readonly string[], collect: () => Iterable<Sample>): void {
    this.addSource({ name, type: 'gauge', help, labels }, collect);
  }

  /** Adds a counter that `collect` reads at each scrape; what it returns must never decrease. */
  counter(name: string, help: string, labels: readonly string[], collect: () => Iterable<Sample>): void {
    this.addSource({ name, type: 'counter', help, labels }, collect);
  }

  /** Every metric in Prometheus' text format 0.0.4; see `METRICS_CONTENT_TYPE`. */
  render(): Promise<string> {
    this.evictOrphans(this.nowMs());
    this.sum();
    this.exposition ??= this.createExposition();
    return this.exposition.metrics();
  }

  private addWorkerFamily(family: Family): void {
    const members = new Set<Series>();
    this.byFamily.set(family.name, members);
    this.addSource(family, () => members);
  }

  private addSource(family: Family, collect: () => Iterable<Sample>): void {
    if (this.sources.has(family.name)) throw new Error(`the metric ${family.name} exists already`);
    const source = { family, collect };
    this.sources.set(family.name, source);
    if (this.exposition !== undefined) register(this.exposition, source);
  }

  /** Only the registry of prom-client, and only at the first scrape: 0.3 MB where the whole package takes 6.5. */
  private createExposition(): Registry {
    const PromRegistry = createRequire(import.meta.url)('prom-client/lib/registry.js') as typeof Registry;
    const exposition = new PromRegistry();
    for (const source of this.sources.values()) register(exposition, source);
    return exposition;
  }

  private obtain({ family: name, labels }: SeriesDefinition): Series {
    const key = seriesKey(name, labels);
    const known = this.byKey.get(key);
    if (known !== undefined) return known;
    const family = this.sources.get(name)?.family;
    const members = this.byFamily.get(name);
    if (family === undefined || members === undefined) throw new Error(`no metric family ${name}`);
    const histogram = family.buckets === undefined ? undefined : new HistogramSums(family.buckets);
    const series: Series = {
      key,
      family,
      labels,
      base: 0,
      definers: 0,
      value: 0,
      histogram,
      orphanedAtMs: 0,
    };
    this.byKey.set(key, series);
    members.add(series);
    return series;
  }

  private sum(): void {
    for (const series of this.byKey.values()) {
      series.value = series.base;
      series.histogram?.restart();
    }
    for (const { values, bySlot } of this.workers.values()) {
      for (const [slot, series] of bySlot) {
        if (series.histogram === undefined) series.value += values[slot];
        else series.histogram.add(values, slot);
      }
    }
  }

  /** Workers that crash again and again with ever new series must not grow main: the oldest orphans go first. */
  private evictOrphans(nowMs: number): void {
    for (const series of this.orphans) {
      if (this.orphanSlots <= SLAB_SLOTS && nowMs - series.orphanedAtMs < SERIES_IDLE_MS) return;
      this.adopt(series);
      this.forget(series);
    }
  }

  /** The series is no orphan any more. */
  private adopt(series: Series): void {
    if (this.orphans.delete(series)) this.orphanSlots -= slotsOf(series.family);
  }

  private forget(series: Series): void {
    this.byKey.delete(series.key);
    this.byFamily.get(series.family.name)?.delete(series);
  }
}

/** One worker stops defining the series; what it counted stays. */
function fold(series: Series, values: Float64Array, slot: Slot): void {
  series.definers--;
  if (series.family.type === 'counter') series.base += values[slot];
  series.histogram?.fold(values, slot);
}

/**
 * Hands a family to prom-client. Not through its Gauge and Counter: they copy every number on each scrape and tell series apart by
 * a text in which one label value can imitate two labels.
 */
function register(exposition: Registry, { family, collect }: Source): void {
  const { name, type, help } = family;
  const get = () =>
    Promise.resolve({ name, type, help, values: samplesOf(name, collect), aggregator: 'sum' });
  exposition.registerMetric({ name, get } as unknown as Parameters<Registry['registerMetric']>[0]);
}

/**
 * The samples as prom-client takes them. All labels are `sharedLabels`, whose text it keeps for as long as the object lives: that
 * halves the CPU time of a scrape. One collector that fails costs its own figures, not the scrape.
 */
function samplesOf(name: string, collect: Source['collect']): (PromSample | HistogramSample)[] {
  try {
    return Array.from(collect()).flatMap((sample) => {
      const { labels, value } = sample;
      if ('histogram' in sample && sample.histogram !== undefined) {
        return [...sample.histogram.samples(name, labels)];
      }
      return { labels: {}, sharedLabels: labels, value };
    });
  } catch (error) {
    log.warn('a metric could not be read', { metric: name, error: String(error) });
    return [];
  }
}
