/** Connections the proxy refuses or gives up: one metric and one log line each, with the reason and what to do. */
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
  | 'connect';

/**
 * Log lines per reason and second. Refusals can be provoked from outside: the metric counts all of them, the log must
 * not become the bottleneck or fill a disk.
 */
const LINES_PER_SECOND = 10;

interface Budget {
  second: number;
  lines: number;
  suppressed: number;
}

/** Counts and logs refusals of one worker. */
export class Refusals {
  private readonly slab: MetricsSlab;
  private readonly slots = new Map<string, Slot>();
  private readonly budgets = new Map<RefusalReason, Budget>();

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
    const budget = this.budgetOf(reason);
    if (budget.lines >= LINES_PER_SECOND) {
      budget.suppressed++;
      return;
    }
    budget.lines++;
    const suppressed = budget.suppressed > 0 ? budget.suppressed : undefined;
    budget.suppressed = 0;
    log.warn(message, { direction, reason, ...fields(), suppressed });
  }

  private budgetOf(reason: RefusalReason): Budget {
    const second = Math.floor(performance.now() / 1000);
    let budget = this.budgets.get(reason);
    if (budget === undefined) {
      budget = { second, lines: 0, suppressed: 0 };
      this.budgets.set(reason, budget);
    } else if (budget.second !== second) {
      budget.second = second;
      budget.lines = 0;
    }
    return budget;
  }
}
