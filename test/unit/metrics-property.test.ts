/**
 * Random lives of workers, series and messages. The model counts per opened series, knows nothing of slots, and says for every
 * moment what a scrape must show: messages between threads are delivered late and in any interleaving.
 */
import fc from 'fast-check';
import t from 'tap';
import { LATENCY_MS } from '../../proxy/metrics/buckets.ts';
import type { Histogram } from '../../proxy/metrics/histogram.ts';
import { MetricsRegistry } from '../../proxy/metrics/registry.ts';
import {
  FIRST_SERIES_SLOT,
  MetricsSlab,
  SERIES_IDLE_MS,
  type SeriesDefinition,
  type Slot,
} from '../../proxy/metrics/slab.ts';
import { parseExposition, seriesName } from '../support/exposition.ts';

const WORKERS = 2;
/** One histogram and four numbers: fewer than there are series, so that the overflow series are reached. */
const ROOM = LATENCY_MS.slots + 4;
const OPENABLE = [
  ['tcp_open_total', 'a'],
  ['tcp_open_total', 'b'],
  ['tcp_read_bytes_total', 'a'],
  ['tcp_open_connections', 'a'],
  ['tcp_open_connections', 'b'],
  ['tcp_close_total', 'a'],
  ['response_latency_ms', 'a'],
  ['response_latency_ms', 'b'],
] as const;

/** What the scrapes of this test are compared in. */
function isOurs(series: string): boolean {
  return series.startsWith('tcp_') || series.startsWith('response_latency_ms');
}

/** One opening of a series by one worker, from its definition to its end. */
interface Life {
  readonly name: string;
  readonly definition: SeriesDefinition;
  readonly gauge: boolean;
  count: number;
  /** Of a histogram. */
  readonly observed: number[];
  /** When it was last held or changed. */
  touchedMs: number;
}

/** What main knows of a series. */
interface Known {
  readonly definition: SeriesDefinition;
  readonly gauge: boolean;
  base: number;
  readonly observed: number[];
  readonly lives: Set<Life>;
  orphanedAtMs: number | undefined;
}

/** Main, its workers and the messages between them. */
class World {
  nowMs = 0;
  readonly registry = new MetricsRegistry(() => this.nowMs);
  readonly known = new Map<string, Known>();
  readonly workers = Array.from({ length: WORKERS }, (_, number) => new Worker(this, number));

  learn(life: Life): void {
    const known = this.known.get(life.name) ?? {
      definition: life.definition,
      gauge: life.gauge,
      base: 0,
      observed: [],
      lives: new Set(),
      orphanedAtMs: undefined,
    };
    known.lives.add(life);
    known.orphanedAtMs = undefined;
    this.known.set(life.name, known);
  }

  /** A life ends: `gone` when the worker dropped it, otherwise its worker ended. */
  end(life: Life, gone: boolean): void {
    const known = this.known.get(life.name)!;
    known.lives.delete(life);
    if (!known.gauge) known.base += life.count;
    known.observed.push(...life.observed);
    if (known.lives.size > 0) return;
    if (gone) this.known.delete(life.name);
    else known.orphanedAtMs = this.nowMs;
  }

  expected(): Map<string, number> {
    const values = new Map<string, number>();
    for (const [name, { definition, base, observed, lives, orphanedAtMs }] of this.known) {
      if (orphanedAtMs !== undefined && this.nowMs - orphanedAtMs >= SERIES_IDLE_MS) {
        this.known.delete(name);
        continue;
      }
      if (definition.family === 'response_latency_ms') {
        const all = [observed, ...[...lives].map((life) => life.observed)].flat();
        for (const [line, value] of histogramLines(definition, all)) values.set(line, value);
        continue;
      }
      values.set(
        name,
        [...lives].reduce((sum, { count }) => sum + count, base),
      );
    }
    return values;
  }

  async check(): Promise<void> {
    const { samples } = parseExposition(await this.registry.render());
    const shown = [...samples].filter(([name]) => isOurs(name)).sort();
    const expected = JSON.stringify([...this.expected()].sort());
    if (JSON.stringify(shown) !== expected) throw new Error(`${JSON.stringify(shown)} is not ${expected}`);
  }
}

/** The lines of a histogram of these values, by its definition. */
function histogramLines({ family, labels }: SeriesDefinition, values: readonly number[]): [string, number][] {
  const upTo = (bound: number) => values.filter((value) => value <= bound).length;
  const line = (suffix: string, more: object) => seriesName(`${family}_${suffix}`, { ...labels, ...more });
  return [
    ...[...LATENCY_MS.bounds].map((le): [string, number] => [line('bucket', { le: String(le) }), upTo(le)]),
    [line('bucket', { le: '+Inf' }), values.length],
    [line('sum', {}), values.reduce((sum, value) => sum + value, 0)],
    [line('count', {}), values.length],
  ];
}

/** One worker: a slab and the messages under way in both directions. */
class Worker {
  readonly world: World;
  readonly number: number;
  slab!: MetricsSlab;
  toMain: (() => void)[] = [];
  toWorker: (() => void)[] = [];
  held: { slot: Slot; life: Life; histogram: Histogram | undefined }[] = [];
  private lives = new Map<Slot, Life>();
  private learned = new Set<Life>();

  constructor(world: World, number: number) {
    this.world = world;
    this.number = number;
    this.start();
  }

  start(): void {
    const { world } = this;
    const { registry } = world;
    const buffer = new SharedArrayBuffer((FIRST_SERIES_SLOT + ROOM) * 8);
    registry.attach(this.number, buffer);
    this.slab = new MetricsSlab(
      buffer,
      (definition) => {
        const name = seriesName(definition.family, definition.labels);
        const gauge = definition.family === 'tcp_open_connections';
        const life = { name, definition, gauge, count: 0, observed: [], touchedMs: 0 };
        if (isOurs(name)) this.lives.set(definition.slot, life);
        this.toMain.push(() => {
          registry.define(this.number, definition);
          if (!isOurs(name)) return;
          world.learn(life);
          this.learned.add(life);
        });
      },
      (slot) => {
        const life = this.lives.get(slot)!;
        this.lives.delete(slot);
        if (this.held.some((holder) => holder.life === life))
          throw new Error(`${life.name} dropped while held`);
        if (world.nowMs - life.touchedMs < SERIES_IDLE_MS) throw new Error(`${life.name} dropped too early`);
        this.toMain.push(() => {
          registry.undefine(this.number, slot);
          this.learned.delete(life);
          world.end(life, true);
          this.toWorker.push(() => this.slab.forgotten(slot));
        });
      },
    );
  }

  open(index: number): void {
    const [family, target_addr] = OPENABLE[index];
    let histogram: Histogram | undefined;
    let slot: Slot;
    if (family === 'response_latency_ms') {
      histogram = this.slab.histogram(family, { target_addr });
      slot = histogram.slot;
    } else if (family === 'tcp_open_connections') slot = this.slab.gauge(family, { target_addr });
    else slot = this.slab.counter(family, { target_addr });
    const life = this.lives.get(slot)!;
    life.touchedMs = this.world.nowMs;
    this.held.push({ slot, life, histogram });
  }

  /** Ends without warning, with its messages under way, and is replaced. */
  crash(): void {
    this.world.registry.detach(this.number);
    for (const life of this.learned) this.world.end(life, false);
    this.learned.clear();
    // Main evicts what is over age when a worker ends, and so must the model.
    this.world.expected();
    this.toMain = [];
    this.toWorker = [];
    this.held = [];
    this.lives.clear();
    this.start();
  }
}

const step = fc.record({
  worker: fc.nat(WORKERS - 1),
  action: fc.oneof(
    { weight: 5, arbitrary: fc.record({ open: fc.nat(OPENABLE.length - 1) }) },
    {
      weight: 6,
      arbitrary: fc.record({
        add: fc.nat(),
        by: fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.constantFrom(0, 5000, 50_000, 60_000)),
      }),
    },
    { weight: 5, arbitrary: fc.record({ release: fc.nat() }) },
    {
      weight: 4,
      arbitrary: fc.record({ sweepAfterMs: fc.constantFrom(1, SERIES_IDLE_MS / 2, SERIES_IDLE_MS) }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        deliver: fc.integer({ min: 1, max: 8 }),
        to: fc.constantFrom('main', 'worker'),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ crash: true }) },
  ),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function perform(world: World, { worker: number, action }: Step): void {
  const worker = world.workers[number];
  if ('open' in action) worker.open(action.open);
  else if ('add' in action && worker.held.length > 0) {
    const { slot, life, histogram } = worker.held[action.add % worker.held.length];
    if (histogram === undefined) {
      worker.slab.add(slot, action.by);
      life.count += action.by;
    } else {
      histogram.observe(action.by);
      life.observed.push(action.by);
    }
    life.touchedMs = world.nowMs;
  } else if ('release' in action && worker.held.length > 0) {
    const [{ slot, life }] = worker.held.splice(action.release % worker.held.length, 1);
    if (life.gauge && !worker.held.some((holder) => holder.life === life)) {
      worker.slab.add(slot, -life.count);
      life.count = 0;
    }
    worker.slab.release(slot);
    life.touchedMs = world.nowMs;
  } else if ('sweepAfterMs' in action) {
    world.nowMs += action.sweepAfterMs;
    for (const each of world.workers) each.slab.sweep(world.nowMs);
  } else if ('deliver' in action) {
    const queue = action.to === 'main' ? worker.toMain : worker.toWorker;
    for (const message of queue.splice(0, action.deliver)) message();
  } else if ('crash' in action) worker.crash();
}

t.test('a scrape shows exactly what was counted, whatever is under way', async (t) => {
  let scrapes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 40, maxLength: 200 }), async (steps) => {
      const world = new World();
      for (const [index, each] of steps.entries()) {
        perform(world, each);
        if (index % 4 !== 0) continue;
        await world.check();
        scrapes++;
      }
      for (const { toMain } of world.workers) for (const message of toMain.splice(0)) message();
      await world.check();
    }),
    { seed: 20261121, numRuns: process.env.FERRULE_SOAK === '1' ? 4000 : 400 },
  );
  t.ok(scrapes > 1000);
});
