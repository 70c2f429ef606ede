/**
 * The metrics slab: one SharedArrayBuffer of 64-bit floats per worker, written by that worker alone (its TypeScript and
 * its socket engine run on the same thread), read by main on scrape. A slot is one number of one series. An aligned 64-bit
 * store is a single instruction on the machines Node 24 runs on, so main never reads half a number.
 *
 * ```
 * 0          ENGINE_SLOTS                FIRST_SERIES_SLOT                    SLAB_SLOTS
 * | engine's | one overflow series per | series, handed out one by one, ...  |
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
import { type CounterName, FAMILIES, type FamilyName, familyIndex, type GaugeName } from './families.ts';

/** Slots the socket engine writes its own figures to, in the order of `ENGINE_FIGURES`. */
export const ENGINE_SLOTS = 32;

/** The first slot that is handed out to a series; those below belong to the engine and to the overflow series. */
export const FIRST_SERIES_SLOT = ENGINE_SLOTS + FAMILIES.length;

/**
 * Slots per worker. 16,384 numbers are 128 KB of address space, touched page by page as series appear; a sidecar of a few
 * hundred destinations uses a few thousand.
 */
export const SLAB_SLOTS = 16_384;

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
  readonly gauge: boolean;
  /** Users that keep the slot number; while there is one the series stays. */
  holders: number;
  /** The number at the last sweep. */
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
  private readonly overflowed = new Set<Slot>();
  private readonly quarantine = new Set<Slot>();
  private readonly free: Slot[] = [];
  private next = FIRST_SERIES_SLOT;

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
    this.define = define;
    this.undefine = undefine;
    this.overflowSlot('ferrule_metrics_series_overflow_total', {});
  }

  /**
   * The slot of a counter, held once by the caller until `release`. Resolve it when a target or endpoint appears, never per
   * connection. Past the cap, and for labels that cannot be carried, it is the overflow series of the family.
   */
  counter(family: CounterName, labels: Labels): Slot {
    return this.resolve(family, labels, false);
  }

  /** The slot of a gauge; otherwise as `counter`. Change it by `add(slot, 1)` and `add(slot, -1)`. */
  gauge(family: GaugeName, labels: Labels): Slot {
    return this.resolve(family, labels, true);
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
      const value = this.values[series.slot];
      if (series.idleSinceMs === IN_USE || value !== series.seen) {
        series.idleSinceMs = nowMs;
        series.seen = value;
      } else if (nowMs - series.idleSinceMs >= SERIES_IDLE_MS && !(series.gauge && value !== 0)) {
        this.drop(series);
        dropped++;
      }
    }
    return dropped;
  }

  /** Main's answer to `undefine`: it holds no definition of the slot any more. */
  forgotten(slot: Slot): void {
    if (!this.quarantine.delete(slot)) throw new Error(`slot ${slot} was not waiting to be forgotten`);
    this.values[slot] = 0;
    this.free.push(slot);
  }

  private resolve(family: FamilyName, labels: Labels, gauge: boolean): Slot {
    const key = seriesKey(family, labels);
    const known = this.byKey.get(key);
    if (known !== undefined) {
      known.holders++;
      known.idleSinceMs = IN_USE;
      return known.slot;
    }
    if (familyIndex(family) === undefined) throw new Error(`no metric family ${family}`);
    const slot = carriable(key, labels) ? this.takeSlot() : undefined;
    if (slot === undefined) {
      this.values[overflowIndex('ferrule_metrics_series_overflow_total')]++;
      return this.overflowSlot(family, { overflow: 'true' });
    }
    const series: Series = { slot, key, gauge, holders: 1, seen: 0, idleSinceMs: IN_USE };
    this.byKey.set(key, series);
    this.bySlot[slot] = series;
    this.define({ slot, family, labels });
    return slot;
  }

  /** The slot that is set aside for a family, made known to main on first use. */
  private overflowSlot(family: FamilyName, labels: Labels): Slot {
    const slot = overflowIndex(family);
    if (!this.overflowed.has(slot)) {
      this.overflowed.add(slot);
      this.define({ slot, family, labels });
    }
    return slot;
  }

  private takeSlot(): Slot | undefined {
    const recycled = this.free.pop();
    if (recycled !== undefined) return recycled;
    return this.next < this.values.length ? this.next++ : undefined;
  }

  private drop(series: Series): void {
    this.byKey.delete(series.key);
    this.bySlot[series.slot] = undefined;
    this.quarantine.add(series.slot);
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

function overflowIndex(family: FamilyName): Slot {
  return ENGINE_SLOTS + familyIndex(family)!;
}
