/** How inbound connections open: who speaks first, and how long it takes to know. */
import type { MetricsSlab, Slot } from './slab.ts';

/** What the first bytes were: `server` when the application spoke first. */
export type FirstBytes = 'tls' | 'client' | 'server';

/** Counts openings of one worker. */
export class OpeningMetrics {
  private readonly slab: MetricsSlab;
  private readonly totals = new Map<FirstBytes, Slot>();
  private readonly seconds: Slot;
  private readonly races: Slot;

  constructor(slab: MetricsSlab) {
    this.slab = slab;
    this.seconds = slab.counter('ferrule_inbound_detection_seconds_total', {});
    this.races = slab.counter('ferrule_inbound_races_total', {});
  }

  /** It is known what a connection is. `sinceMs`: when its first bytes began to be waited for. */
  saw(first: FirstBytes, sinceMs: number): void {
    let slot = this.totals.get(first);
    if (slot === undefined) {
      slot = this.slab.counter('ferrule_inbound_detections_total', { first });
      this.totals.set(first, slot);
    }
    this.slab.add(slot, 1);
    this.slab.add(this.seconds, (performance.now() - sinceMs) / 1000);
  }

  /** The application was dialled because the client was silent. */
  raced(): void {
    this.slab.add(this.races, 1);
  }
}
