/** Connections the proxy refuses or gives up: one metric and one log line each, with the reason and what to do. */
import { LineBudget } from '../core/line-budget.ts';
import { type LogFields, log } from '../core/log.ts';
import type { Direction } from '../model/connection.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/** Why. The `error` label of `inbound_tcp_errors_total` and `outbound_tcp_errors_total`. */
export type RefusalReason =
  | 'loop'
  | 'own_port'
  | 'not_redirected'
  | 'not_this_host'
  | 'foreign_client'
  | 'policy'
  | 'service_conflict'
  | 'discovery_timeout'
  | 'unknown_destination'
  | 'too_many_waiting'
  | 'no_endpoints'
  | 'identity_required'
  | 'mtls_unavailable'
  | 'upstream_tls'
  | 'tls_hello'
  | 'tls_handshake'
  | 'tls_identity'
  | 'transport_header'
  | 'connect';

/** Counts and logs refusals of one worker. */
export class Refusals {
  private readonly slab: MetricsSlab;
  private readonly slots = new Map<string, Slot>();
  private readonly lines = new LineBudget();

  constructor(slab: MetricsSlab) {
    this.slab = slab;
  }

  /** Records one refusal. `fields` is called only when the line is written. */
  record(direction: Direction, reason: RefusalReason, message: string, fields: () => LogFields): void {
    const key = `${direction} ${reason}`;
    let slot = this.slots.get(key);
    if (slot === undefined) {
      slot = this.slab.counter(`${direction}_tcp_errors_total`, { error: reason });
      this.slots.set(key, slot);
    }
    this.slab.add(slot, 1);
    const line = this.lines.take(reason);
    if (line !== undefined) log.warn(message, { direction, reason, ...fields(), ...line });
  }
}
