/** Connections to one HTTP destination. */
import type { Labels } from '../model/target.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/** Why a request was sent once more: what its connection did, or that the endpoint's proxy could not reach its application. */
export type ReplayReason = 'closed_idle' | 'closed_before_response' | 'unreached';

/** Series of one endpoint, or of the application's port. */
export class HttpPoolSeries {
  private readonly slab: MetricsSlab;
  private readonly labels: Labels;
  private readonly active: Slot;
  private readonly idle: Slot;
  private readonly opens: Slot;
  private readonly reuses: Slot;
  private readonly replays = new Map<ReplayReason, Slot>();
  private users = 1;

  /**
   * The caller is its first user; see `release`.
   * @param labels `direction` and `target_addr`
   */
  constructor(slab: MetricsSlab, labels: Labels) {
    this.slab = slab;
    this.labels = labels;
    this.active = slab.gauge('ferrule_http_pool_connections', { ...labels, state: 'active' });
    this.idle = slab.gauge('ferrule_http_pool_connections', { ...labels, state: 'idle' });
    this.opens = slab.counter('ferrule_http_pool_opened_total', labels);
    this.reuses = slab.counter('ferrule_http_pool_reused_total', labels);
  }

  /** A connection was opened for a request; it uses the series until `closed`. */
  opened(): void {
    this.users++;
    this.slab.add(this.opens, 1);
    this.slab.add(this.active, 1);
  }

  /** A request joined others on a connection. */
  shared(): void {
    this.slab.add(this.reuses, 1);
  }

  /** A request took an idle connection. */
  reused(): void {
    this.slab.add(this.reuses, 1);
    this.slab.add(this.idle, -1);
    this.slab.add(this.active, 1);
  }

  /** A connection has no request any more. */
  idled(): void {
    this.slab.add(this.active, -1);
    this.slab.add(this.idle, 1);
  }

  /** A connection ended, as an idle one or with a request. */
  closed(wasIdle: boolean): void {
    this.slab.add(wasIdle ? this.idle : this.active, -1);
    this.release();
  }

  /** A request is sent once more. */
  replayed(reason: ReplayReason): void {
    let slot = this.replays.get(reason);
    if (slot === undefined) {
      slot = this.slab.counter('ferrule_http_replays_total', { ...this.labels, reason });
      this.replays.set(reason, slot);
    }
    this.slab.add(slot, 1);
  }

  /** A user goes: the endpoint, or a connection. The last one lets the slots go. */
  release(): void {
    if (--this.users > 0) return;
    const always = [this.active, this.idle, this.opens, this.reuses];
    for (const slot of [...always, ...this.replays.values()]) this.slab.release(slot);
  }
}
