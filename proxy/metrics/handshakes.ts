/** TLS handshakes of one worker, in both roles: how many, how long, and why they failed. */
import { alertName } from '../core/tls-alert.ts';
import type { Direction } from '../model/connection.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/** Counts handshakes. Slots are resolved when a combination of labels first appears: there are a few dozen. */
export class Handshakes {
  private readonly slab: MetricsSlab;
  private readonly totals = new Map<string, Slot>();
  private readonly alerts = new Map<string, Slot>();
  private readonly seconds = new Map<Direction, Slot>();

  constructor(slab: MetricsSlab) {
    this.slab = slab;
  }

  /** One that ended in a usable peer, after `micros` microseconds. */
  succeeded(direction: Direction, group: string, micros: number): void {
    this.count(direction, { result: 'ok', group });
    let slot = this.seconds.get(direction);
    if (slot === undefined) {
      slot = this.slab.counter('ferrule_tls_handshake_seconds_total', { direction });
      this.seconds.set(direction, slot);
    }
    this.slab.add(slot, micros / 1e6);
  }

  /** One that did not. */
  failed(direction: Direction, error: string): void {
    this.count(direction, { result: 'failed', error });
  }

  /** A TLS connection ended by an alert: the peer's, or ours. */
  alerted(direction: Direction, peer: 'src' | 'dst', sender: 'peer' | 'us', alert: number): void {
    const labels = { direction, peer, sender, alert: alertName(alert) };
    const key = Object.values(labels).join(' ');
    let slot = this.alerts.get(key);
    if (slot === undefined) {
      slot = this.slab.counter('ferrule_tls_alerts_total', labels);
      this.alerts.set(key, slot);
    }
    this.slab.add(slot, 1);
  }

  private count(direction: Direction, labels: Record<string, string>): void {
    const key = `${direction} ${labels.result} ${labels.error ?? labels.group}`;
    let slot = this.totals.get(key);
    if (slot === undefined) {
      slot = this.slab.counter('ferrule_tls_handshakes_total', { direction, ...labels });
      this.totals.set(key, slot);
    }
    this.slab.add(slot, 1);
  }
}
