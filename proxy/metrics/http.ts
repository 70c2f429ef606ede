/** The series of HTTP requests that share their labels: resolved once, then only added to. */
import type { Labels } from '../model/target.ts';
import type { Histogram } from './histogram.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/**
 * Statuses of one series that are told apart; more than a server means to use. Each takes 27 slots and a server may answer with any of
 * 500, so that one that does would fill the slab. The others share series with `overflow="true"` in place of their status.
 */
const MAX_STATUSES = 16;

/** The first status that is the server's failure, as linkerd2-proxy classifies. */
const FIRST_FAILURE = 500;

/** gRPC codes that are: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS, as linkerd2-proxy classifies. */
const GRPC_FAILURES: ReadonlySet<number> = new Set([2, 4, 13, 14, 15]);

/** Whether a response says that its server failed. `grpcStatus`: -1 for what is no gRPC, or says nothing. */
export function isFailure(status: number, grpcStatus: number): boolean {
  return status >= FIRST_FAILURE || GRPC_FAILURES.has(grpcStatus);
}

/** No slot: nothing was counted yet. */
const NONE: Slot = -1;

/** The series of one status (of HTTP and gRPC together), or of all that are too many. */
interface StatusSeries {
  readonly status: number;
  readonly grpcStatus: number;
  readonly labels: Labels;
  readonly latency: Histogram;
  success: Slot;
  failure: Slot;
}

/** Requests of one direction, destination, authority and TLS state. */
export class HttpSeries {
  private readonly slab: MetricsSlab;
  private readonly labels: Labels;
  private readonly fine: Histogram;
  private readonly requests: Slot;
  private readonly statuses: StatusSeries[] = [];
  private others: StatusSeries | undefined;
  private unanswered: Slot = NONE;
  private users = 1;

  /**
   * The caller is its first user; see `release`.
   * @param fine latency of the whole target, `ferrule_response_latency_seconds`; held on its own account
   */
  constructor(slab: MetricsSlab, labels: Labels, fine: Histogram) {
    this.slab = slab;
    this.labels = labels;
    this.fine = fine;
    slab.retain(fine.slot);
    this.requests = slab.counter('request_total', labels);
  }

  /** A request arrived; it uses the series until `responded` or `abandoned`. */
  requested(): void {
    this.users++;
    this.slab.add(this.requests, 1);
  }

  /**
   * A response ended.
   * @param latencyMs from the whole head of the request to the last byte of the response
   * @param whole false when it broke off: a failure whatever its status
   * @param grpcStatus -1 for what is no gRPC, or says nothing
   */
  responded(status: number, latencyMs: number, whole = true, grpcStatus = -1): void {
    const series = this.seriesOf(status, grpcStatus);
    if (!whole || isFailure(status, grpcStatus)) {
      if (series.failure === NONE) series.failure = this.responses(series.labels, 'failure');
      this.slab.add(series.failure, 1);
    } else {
      if (series.success === NONE) series.success = this.responses(series.labels, 'success');
      this.slab.add(series.success, 1);
    }
    series.latency.observe(latencyMs);
    this.fine.observe(latencyMs / 1000);
    this.release();
  }

  /** A request ended without a status, because its client went: a failure without latency, as linkerd2-proxy has it. */
  abandoned(): void {
    if (this.unanswered === NONE) this.unanswered = this.responses(this.labels, 'failure');
    this.slab.add(this.unanswered, 1);
    this.release();
  }

  /** One more user, to be given back by `release`. */
  retain(): void {
    this.users++;
  }

  /** A user goes: an endpoint, or a request. The last one lets the slots go. */
  release(): void {
    if (--this.users > 0) return;
    const { slab } = this;
    slab.release(this.fine.slot);
    slab.release(this.requests);
    if (this.unanswered !== NONE) slab.release(this.unanswered);
    for (const series of this.others === undefined ? this.statuses : [...this.statuses, this.others]) {
      slab.release(series.latency.slot);
      if (series.success !== NONE) slab.release(series.success);
      if (series.failure !== NONE) slab.release(series.failure);
    }
  }

  /** A list is searched, since a series has one to three statuses: a table of all 600 would be 40 times its size. */
  private seriesOf(status: number, grpcStatus: number): StatusSeries {
    const { statuses } = this;
    for (let index = 0; index < statuses.length; index++) {
      const series = statuses[index];
      if (series.status === status && series.grpcStatus === grpcStatus) return series;
    }
    return this.openStatus(status, grpcStatus);
  }

  private openStatus(status: number, grpcStatus: number): StatusSeries {
    if (this.statuses.length < MAX_STATUSES) {
      const labels: Labels = { ...this.labels, status_code: String(status) };
      const series = this.open(
        status,
        grpcStatus,
        grpcStatus < 0 ? labels : { ...labels, grpc_status: String(grpcStatus) },
      );
      this.statuses.push(series);
      return series;
    }
    if (this.others === undefined) {
      this.slab.overflowed();
      this.others = this.open(0, -1, { ...this.labels, overflow: 'true' });
    }
    return this.others;
  }

  private open(status: number, grpcStatus: number, labels: Labels): StatusSeries {
    const latency = this.slab.histogram('response_latency_ms', labels);
    return { status, grpcStatus, labels, latency, success: NONE, failure: NONE };
  }

  private responses(labels: Labels, classification: 'success' | 'failure'): Slot {
    return this.slab.counter('response_total', { ...labels, classification });
  }
}
