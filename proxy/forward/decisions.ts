/** The records of decisions of one worker: bounded, always on, and used again. */
import { Spares } from '../core/spares.ts';
import type { H2Head } from '../http/h2/head.ts';
import type { Head } from '../http/head.ts';
import type { ProxyConnection } from '../model/connection.ts';
import { Decision } from '../model/decision.ts';

/**
 * Ended as usual: what is asked about is asked within moments, and these show what is usual. They are used again in a circle, which
 * must stay in the processor's cache: four times as many cost every request 0.15 µs.
 */
const RECENT = 256;

/** Ended otherwise, or only after another attempt: kept for longer, since people come to ask after an alert. */
const NOTABLE = 1_024;

/** Records of requests under way are allocated as needed and used again, this many of them: more at once is a peak. */
const SPARE = 1_024;

/** The newest ones that ended, up to a number. */
class Ring {
  private readonly entries: (Decision | undefined)[];
  private next = 0;

  constructor(size: number) {
    this.entries = new Array<Decision | undefined>(size).fill(undefined);
  }

  /** @returns what had to go for it */
  add(decision: Decision): Decision | undefined {
    const displaced = this.entries[this.next];
    this.entries[this.next] = decision;
    this.next = (this.next + 1) % this.entries.length;
    return displaced;
  }

  all(): Decision[] {
    return this.entries.filter((entry) => entry !== undefined);
  }
}

/** Decisions of one worker. */
export class Decisions {
  private readonly worker: number;
  private readonly recent = new Ring(RECENT);
  private readonly notable = new Ring(NOTABLE);
  private readonly spares = new Spares<Decision>(SPARE);
  private sequence = 0;

  /** @param worker its number, the first half of ids */
  constructor(worker: number) {
    this.worker = worker;
  }

  /** A request begins; see `Decision.begin`. `end` must follow. */
  begin(connection: ProxyConnection, head: Head | H2Head | undefined, nowMs: number): Decision {
    const decision = this.spares.take() ?? new Decision();
    decision.begin(++this.sequence, connection, head, nowMs);
    return decision;
  }

  /** It is over; whoever has it lets go of it. */
  end(decision: Decision): void {
    const displaced = (decision.notable ? this.notable : this.recent).add(decision);
    if (displaced !== undefined) this.spares.give(displaced);
  }

  /** What people ask for it by. */
  idOf({ sequence }: Decision): string {
    return `${this.worker}-${sequence}`;
  }

  /** Those under way, and those that ended and are still known. */
  newestFirst(underWay: readonly Decision[]): readonly Decision[] {
    const all = [...underWay, ...this.recent.all(), ...this.notable.all()];
    return all.sort((one, other) => other.sequence - one.sequence);
  }
}
