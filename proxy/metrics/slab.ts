/**
 * The metrics slab: one SharedArrayBuffer of 64-bit floats per worker, written by that worker alone (its TypeScript and
 * its socket engine run on the same thread), read by main on scrape. A slot is one number of one series. An aligned 64-bit
 * store is a single instruction on the machines Node 24 runs on, so main never reads half a number. A histogram is one series
 * of neighbouring slots, named by the first: its buckets and its sum.
 *
 * ```
 * 0          ENGINE_SLOTS                FIRST_SERIES_SLOT                    SLAB_SLOTS
 * | engine's | one overflow series per | series, handed out lowest first,     |
 * | figures  | family of FAMILIES      | taken back by sweep()                |
 * ```
 *
 * How a slot is taken back, so that main never credits a number to the wrong series:
 * 1. `sweep` finds a series nobody holds that has not changed for SERIES_IDLE_MS. It forgets the series (a new request
 *    for it gets another slot), calls `undefine(slot)` and puts the slot in quarantine with its number untouched.
 * 2. Main drops its definition (`MetricsRegistry.undefine`) and answers.
 * 3. The worker passes the answer to `forgotten(slot)`: only now the number is zeroed and the slot is free again.
 * No step depends on time: a main thread that is late delays reuse and nothing else.
 */
import type { Labels } from '../model/target.ts';
import {
  type CounterName,
  FAMILIES,
  type FamilyName,
  familyIndex,
  type GaugeName,
  type HistogramName,
} from './families.ts';
import { type Family, slotsOf } from './family.ts';
import { Histogram } from './histogram.ts';
import { SlotRoom } from './room.ts';

/** Slots the socket engine writes its own figures to, in the order of `ENGINE_FIGURES`. */
export const ENGINE_SLOTS = 32;

/** The first slot of the overflow series of each family. */
const OVERFLOW_AT: readonly Slot[] = overflowSlots();

/** The first slot that is handed out to a series; those below belong to the engine and to the overflow series. */
export const FIRST_SERIES_SLOT = FAMILIES.reduce((end, family) => end + slotsOf(family), ENGINE_SLOTS);

/**
 * Slots per worker. 65,536 numbers are 512 KB of address space, touched page by page as series appear. An endpoint that speaks
 * HTTP takes 27 per status (the buckets of `response_latency_ms`) and some ten more, a target 84: there is room for 100
 * targets of three endpoints whose answers have three statuses (35,000), which is far above what one application talks to.
 */
export const SLAB_SLOTS = 65_536;

/** Size of a worker's buffer: `new SharedArrayBuffer(SLAB_BYTES)`. */
export const SLAB_BYTES = SLAB_SLOTS * Float64Array.BYTES_PER_ELEMENT;

/** How long a series nobody holds stays without a change: 10 minutes, as linkerd2-proxy keeps its idle metrics. */
export const SERIES_IDLE_MS = 600_000;

/**
 * Longest family and labels of one series, in characters of its key. Labels can come from the network (names in a
 * ClientHello) and from discovery; with the cap on slots this bounds the memory of all names. The longest honest one
 * (addresses, five Kubernetes names of at most 63, an identity of at most 253) stays below 1,000.
 */
export const MAX_SERIES_KEY = 2_048;

/** Index of a number in the slab. */
export type Slot = number;

/** Tells main what a slot means. Sent once, when the series first appears. */
export interface SeriesDefinition {
  readonly slot: Slot;
  readonly family: string;
  readonly labels: Labels;
}

interface Series {
  readonly slot: Slot;
  readonly key: string;
  readonly family: Family;
  /** Users that keep the slot number; while there is one the series stays. */
  holders: number;
  /** What was counted at the last sweep. */
  seen: number;
  /** When a sweep first saw it unheld and at this number, in the clock of `sweep`; IN_USE before that. */
  idleSinceMs: number;
}

/** Not a time: the series was held since the last sweep. */
const IN_USE = -1;

const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** The writing side, one per worker. */
export class MetricsSlab {
  /** The numbers. The engine writes them too: its own figures and the live counters of relays. */
  readonly values: Float64Array;
  private readonly define: (definition: SeriesDefinition) => void;
  private readonly undefine: (slot: Slot) => void;
  private readonly byKey = new Map<string, Series>();
  private readonly bySlot: (Series | undefined)[] = [];
  /** Overflow series that main knows of. */
  private readonly known = new Set<Slot>();
  /** Dropped series by slot, with the number of their slots. */
  private readonly quarantine = new Map<Slot, number>();
  private readonly room: SlotRoom;

  /**
   * @param buffer fresh and zeroed, SLAB_BYTES long (a test may use less: its length is the cap)
   * @param define called for each new series, before its slot is handed out
   * @param undefine called for each dropped series; main must answer with `forgotten`
   */
  constructor(
    buffer: SharedArrayBuffer,
    define: (definition: SeriesDefinition) => void,
    undefine: (slot: Slot) => void,
  ) {
    this.values = new Float64Array(buffer);
    if (this.values.length < FIRST_SERIES_SLOT) throw new Error(`a slab needs ${FIRST_SERIES_SLOT} slots`);
    this.room = new SlotRoom(FIRST_SERIES_SLOT, this.values.length);
    this.define = define;
    this.undefine = undefine;
    this.overflowSlot('ferrule_metrics_series_overflow_total', {});
  }

  /**
   * The slot of a counter, held once by the caller until `release`. Resolve it when a target or endpoint appears, never per
   * connection. Past the cap, and for labels that cannot be carried, it is the overflow series of the family.
   */
  counter(family: CounterName, labels: Labels): Slot {
    return this.resolve(family, labels);
  }

  /** The slot of a gauge; otherwise as `counter`. Change it by `add(slot, 1)` and `add(slot, -1)`. */
  gauge(family: GaugeName, labels: Labels): Slot {
    return this.resolve(family, labels);
  }

  /** A histogram; otherwise as `counter`. Its `slot` is what `retain` and `release` take. */
  histogram(family: HistogramName, labels: Labels): Histogram {
    const slot = this.resolve(family, labels);
    const { buckets }: Family = FAMILIES[familyIndex(family)!];
    return new Histogram(this.values, slot, buckets!);
  }

  /** The caller gave a request for a series to an overflow series of its own. */
  overflowed(): void {
    this.values[overflowSlotOf('ferrule_metrics_series_overflow_total')]++;
  }

  /** Adds `n` to the number. This is the hot path: the slot is not checked. */
  add(slot: Slot, n: number): void {
    this.values[slot] += n;
  }

  /** One more user of a slot that is already held. */
  retain(slot: Slot): void {
    if (slot < FIRST_SERIES_SLOT) return;
    this.seriesOf(slot).holders++;
  }

  /** The caller stops using the slot, and the engine no longer writes to it on the caller's behalf. */
  release(slot: Slot): void {
    if (slot < FIRST_SERIES_SLOT) return;
    this.seriesOf(slot).holders--;
  }

  /**
   * Drops series that are unheld and have not changed for SERIES_IDLE_MS; call it about once a minute with a monotonic
   * clock. A gauge that has not returned to zero stays, because dropping it would hide a leak.
   * @returns how many were dropped
   */
  sweep(nowMs: number): number {
    let dropped = 0;
    for (const series of this.byKey.values()) {
      if (series.holders > 0) continue;
      const value = this.counted(series);
      if (series.idleSinceMs === IN_USE || value !== series.seen) {
        series.idleSinceMs = nowMs;
        series.seen = value;
      } else if (
        nowMs - series.idleSinceMs >= SERIES_IDLE_MS &&
        !(series.family.type === 'gauge' && value !== 0)
      ) {
        this.drop(series);
        dropped++;
      }
    }
    return dropped;
  }

  /** Main's answer to `undefine`: it holds no definition of the slot any more. */
  forgotten(slot: Slot): void {
    const slots = this.quarantine.get(slot);
    if (slots === undefined) throw new Error(`slot ${slot} was not waiting to be forgotten`);
    this.quarantine.delete(slot);
    this.values.fill(0, slot, slot + slots);
    this.room.give(slot, slots);
  }

  private resolve(name: FamilyName, labels: Labels): Slot {
    const key = seriesKey(name, labels);
    const known = this.byKey.get(key);
    if (known !== undefined) {
      known.holders++;
      known.idleSinceMs = IN_USE;
      return known.slot;
    }
    const index = familyIndex(name);
    if (index === undefined) throw new Error(`no metric family ${name}`);
    const family = FAMILIES[index];
    const slot = carriable(key, labels) ? this.room.take(slotsOf(family)) : undefined;
    if (slot === undefined) {
      this.overflowed();
      return this.overflowSlot(name, { overflow: 'true' });
    }
    const series: Series = { slot, key, family, holders: 1, seen: 0, idleSinceMs: IN_USE };
    this.byKey.set(key, series);
    this.bySlot[slot] = series;
    this.define({ slot, family: name, labels });
    return slot;
  }

  /** The slot that is set aside for a family, made known to main on first use. */
  private overflowSlot(family: FamilyName, labels: Labels): Slot {
    const slot = overflowSlotOf(family);
    if (!this.known.has(slot)) {
      this.known.add(slot);
      this.define({ slot, family, labels });
    }
    return slot;
  }

  /** The number; of a histogram the number of values, which changes with each of them where the sum need not. */
  private counted({ slot, family }: Series): number {
    let count = this.values[slot];
    for (let bucket = 1; bucket < slotsOf(family) - 1; bucket++) count += this.values[slot + bucket];
    return count;
  }

  private drop(series: Series): void {
    this.byKey.delete(series.key);
    this.bySlot[series.slot] = undefined;
    this.quarantine.set(series.slot, slotsOf(series.family));
    this.undefine(series.slot);
  }

  private seriesOf(slot: Slot): Series {
    const series = this.bySlot[slot];
    if (series === undefined || series.holders === 0) throw new Error(`metrics slot ${slot} is not held`);
    return series;
  }
}

/**
 * The name of a series: equal for equal family and labels, whatever the order of the labels, and different otherwise. JSON
 * because no choice of label values can imitate its separators.
 */
export function seriesKey(family: string, labels: Labels): string {
  const parts = [family];
  for (const name of Object.keys(labels).sort()) parts.push(name, labels[name]);
  return JSON.stringify(parts);
}

/** Whether the exposition format can carry the labels: legal names, values that survive UTF-8 unchanged, not too long. */
function carriable(key: string, labels: Labels): boolean {
  if (key.length > MAX_SERIES_KEY) return false;
  return Object.entries(labels).every(([name, value]) => LABEL_NAME.test(name) && value.isWellFormed());
}

function overflowSlots(): Slot[] {
  let next = ENGINE_SLOTS;
  return FAMILIES.map((family) => {
    const slot = next;
    next += slotsOf(family);
    return slot;
  });
}

function overflowSlotOf(family: FamilyName): Slot {
  return OVERFLOW_AT[familyIndex(family)!];
}
