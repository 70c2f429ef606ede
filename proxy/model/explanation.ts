/** A recorded decision as people and programs read it: plain data, from a worker to the admin page `/explain`. */
import type { PickReason } from './pick.ts';

/** Most requests told at once, of all workers together: a screen or two, which is what somebody looks through. */
export const LATEST = 50;

/** How an attempt ended. */
export type AttemptOutcome = 'under way' | 'answered' | 'not reached' | 'lost' | 'not understood';

/** How a request ended: `refused` by an answer of the proxy itself, `broken off` in the middle of its response. */
export type DecisionOutcome = 'under way' | 'answered' | 'refused' | 'broken off' | 'client left';

/** An endpoint as the balancer compared it. */
export interface ExplainedCandidate {
  readonly address: string;
  /** Requests in flight, this one not counted. */
  readonly inFlight: number;
  /** Peak EWMA of its times to the first byte of a response; absent when no times were looked at. */
  readonly ewmaMs?: number | undefined;
  /** That time was measured; it is only assumed otherwise, and nothing was decided by it. */
  readonly measured: boolean;
  /** What was compared: (in flight / weight + 1), times `ewmaMs` where that is there. */
  readonly load: number;
}

/** Why an endpoint was chosen. */
export interface ExplainedChoice {
  readonly reason: PickReason;
  /** One or two, in the order drawn. */
  readonly compared: readonly ExplainedCandidate[];
  /** The one drawn from other zones. */
  readonly elsewhere?: ExplainedCandidate | undefined;
}

/** One endpoint the request was given to. */
export interface ExplainedAttempt {
  readonly endpoint: string;
  /** Whom it had to prove to be; absent for one without mutual TLS. */
  readonly identity?: string | undefined;
  /** Since the request began. */
  readonly afterMs: number;
  /** What it was spoken to in, whatever the client speaks. */
  readonly protocol: 'http/1' | 'h2';
  readonly connection: 'new' | 'kept';
  /** Exchanges a kept connection had carried before. */
  readonly served?: number | undefined;
  readonly outcome: AttemptOutcome;
  /** Why it failed. */
  readonly detail?: string | undefined;
  /** Why this endpoint; absent where there is nothing to choose from (inbound). */
  readonly choice?: ExplainedChoice | undefined;
}

/** One request. What is not there yet, or never came, is absent. */
export interface Explanation {
  /** Also in `l5d-proxy-decision` of answers the proxy makes itself, and in the access log. */
  readonly id: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly direction: 'inbound' | 'outbound';
  readonly client: string;
  readonly clientIdentity?: string | undefined;
  /** Where the client wanted to go: an address, or the service of a listener. */
  readonly target: string;
  /** What its connection was found to speak, and how long that took from its acceptance. */
  readonly detection: { readonly protocol: 'http/1' | 'h2'; readonly afterMs: number };
  readonly request: {
    /** `other` for methods RFC 9110 does not name; empty when the request could not be read. */
    readonly method: string;
    /** Its beginning, without the query. */
    readonly path: string;
    readonly authority: string;
  };
  /** How long a gRPC call may take, by what its client says (`grpc-timeout`). */
  readonly deadlineMs?: number | undefined;
  readonly outcome: DecisionOutcome;
  readonly status?: number | undefined;
  /** Name of the code that a gRPC call ended with. */
  readonly grpcStatus?: string | undefined;
  /** What spoke where the proxy answered itself, as in the label `error` of `*_http_errors_total`. */
  readonly error?: string | undefined;
  /** With which rule, timer or limit, and its value; what `l5d-proxy-error` says. */
  readonly message?: string | undefined;
  readonly attempts: readonly ExplainedAttempt[];
  /** Made between the last two attempts listed. */
  readonly attemptsLeftOut: number;
  /** Since the request's head was complete: when it went out last, when the response's head came, when everything was over. */
  readonly sentAfterMs?: number | undefined;
  readonly answeredAfterMs?: number | undefined;
  readonly endedAfterMs?: number | undefined;
}
