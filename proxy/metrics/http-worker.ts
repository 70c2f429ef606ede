/** What one worker counts of HTTP apart from destinations: protocols it detected, requests it could not serve. */
import type { Direction } from '../model/connection.ts';
import type { Histogram } from './histogram.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/** What the first bytes were, in linkerd2-proxy's words (`linkerd/http/detect/src/metrics.rs`). */
export type HttpDetection = 'http/1' | 'h2' | 'not_http' | 'read_timeout' | 'error';

/**
 * Why a request could not be served; the `error` label. The first row in linkerd2-proxy's words, spaces included
 * (`linkerd/app/{inbound,outbound}/src/metrics/error.rs`); the second is what it does not tell apart.
 */
export type HttpErrorReason =
  | ('failfast' | 'loadshed' | 'identity required' | 'i/o' | 'response timeout' | 'unexpected')
  | ('bad_request' | 'bad_response' | 'connect' | 'head_timeout');

/** Counters of one worker; each is resolved when it is first needed. */
export class HttpWorkerMetrics {
  private readonly slab: MetricsSlab;
  private readonly durations = new Map<Direction, Histogram>();
  private readonly results = {
    inbound: new Map<HttpDetection, Slot>(),
    outbound: new Map<HttpDetection, Slot>(),
  };
  private readonly errors = {
    inbound: new Map<HttpErrorReason, Slot>(),
    outbound: new Map<HttpErrorReason, Slot>(),
  };

  /** By all labels: few of them occur. */
  private readonly failures = new Map<string, Slot>();
  private waiting: Slot | undefined;

  constructor(slab: MetricsSlab) {
    this.slab = slab;
  }

  /** It is known what a connection speaks, after `seconds` from its acceptance. */
  detected(direction: Direction, result: HttpDetection, seconds: number): void {
    let slot = this.results[direction].get(result);
    if (slot === undefined) {
      slot = this.slab.counter(`${direction}_tcp_detect_http_results_total`, { result });
      this.results[direction].set(result, slot);
    }
    this.slab.add(slot, 1);
    let duration = this.durations.get(direction);
    if (duration === undefined) {
      duration = this.slab.histogram(`${direction}_tcp_detect_http_duration_seconds`, {});
      this.durations.set(direction, duration);
    }
    duration.observe(seconds);
  }

  /** An HTTP/2 connection was given up. `peer`: a client is `src`, an endpoint `dst`; `error`: the name of an HTTP/2 error code. */
  connectionFailed(direction: Direction, peer: 'src' | 'dst', error: string, by: 'us' | 'peer'): void {
    const labels = { direction, peer, error, by };
    const key = `${direction} ${peer} ${error} ${by}`;
    let slot = this.failures.get(key);
    if (slot === undefined) {
      slot = this.slab.counter('ferrule_http2_connection_errors_total', labels);
      this.failures.set(key, slot);
    }
    this.slab.add(slot, 1);
  }

  /** So many more requests wait for an endpoint, or fewer. */
  waitingChanged(by: number): void {
    this.waiting ??= this.slab.gauge('ferrule_http_waiting_requests', {});
    this.slab.add(this.waiting, by);
  }

  /** A request could not be served. */
  failed(direction: Direction, error: HttpErrorReason): void {
    let slot = this.errors[direction].get(error);
    if (slot === undefined) {
      slot = this.slab.counter(`${direction}_http_errors_total`, { error });
      this.errors[direction].set(error, slot);
    }
    this.slab.add(slot, 1);
  }
}
