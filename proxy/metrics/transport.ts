/** The tcp_* series of connections that share their labels: resolved once, then only added to. */
import { errnoName } from '../core/errno.ts';
import type { Labels } from '../model/target.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/** Series of one side of a target: `src` for who connected to us, `dst` for whom we dialled. */
export class TransportSeries {
  /** Slots the engine counts bytes into. */
  readonly readSlot: Slot;
  readonly writeSlot: Slot;
  private readonly slab: MetricsSlab;
  private readonly labels: Labels;
  private readonly openTotal: Slot;
  private readonly openNow: Slot;
  private readonly closeTotal = new Map<number, Slot>();
  private users = 1;

  /** Holds its slots until `release` was called as often as `retain`, plus once. */
  constructor(slab: MetricsSlab, labels: Labels) {
    this.slab = slab;
    this.labels = labels;
    this.openTotal = slab.counter('tcp_open_total', labels);
    this.openNow = slab.gauge('tcp_open_connections', labels);
    this.readSlot = slab.counter('tcp_read_bytes_total', labels);
    this.writeSlot = slab.counter('tcp_write_bytes_total', labels);
  }

  /** A connection opened; it uses the series until `closed`. */
  opened(): void {
    this.users++;
    this.slab.add(this.openTotal, 1);
    this.slab.add(this.openNow, 1);
  }

  /** A connection ended; `errno` is 0 for an orderly end. */
  closed(errno: number): void {
    this.slab.add(this.openNow, -1);
    let slot = this.closeTotal.get(errno);
    if (slot === undefined) {
      slot = this.slab.counter('tcp_close_total', { ...this.labels, errno: errnoName(errno) });
      this.closeTotal.set(errno, slot);
    }
    this.slab.add(slot, 1);
    this.release();
  }

  /** The owner (a target, an endpoint) goes; connections still open keep the series. */
  release(): void {
    if (--this.users > 0) return;
    for (const slot of [this.openTotal, this.openNow, this.readSlot, this.writeSlot, ...this.closeTotal.values()]) {
      this.slab.release(slot);
    }
  }
}
