/**
 * The metrics slab: one SharedArrayBuffer of 64-bit floats per worker, written by that worker alone (its TypeScript and
 * its socket engine run on the same thread), read by main on scrape. A slot is one number of one series.
 */
import type { Labels } from '../model/target.ts';

/** Slots the socket engine writes its own figures to, in this order; see `ENGINE_GAUGES`. */
export const ENGINE_SLOTS = 32;

/**
 * Slots per worker. 16,384 numbers are 128 KB of address space, touched page by page as series appear; a sidecar of a few
 * hundred destinations uses a few thousand.
 */
export const SLAB_SLOTS = 16_384;

/** Index of a number in the slab. */
export type Slot = number;

/** Tells main what a slot means. Sent once, when the series first appears. */
export interface SeriesDefinition {
  readonly slot: Slot;
  readonly family: string;
  readonly labels: Labels;
}

/** The writing side, one per worker. */
export class MetricsSlab {
  readonly values: Float64Array;
  private readonly define: (definition: SeriesDefinition) => void;
  private readonly slots = new Map<string, Slot>();
  private readonly free: Slot[] = [];
  private next = ENGINE_SLOTS;

  /** `define` is called for each new series, before its slot is handed out. */
  constructor(buffer: SharedArrayBuffer, define: (definition: SeriesDefinition) => void) {
    this.values = new Float64Array(buffer);
    this.define = define;
  }
}
