/** Puts the record of a decision into words and figures; only when somebody asks. */
import { GRPC_NAMES } from '../http/grpc.ts';
import { METHOD } from '../http/names.ts';
import type { Attempt, Decision } from '../model/decision.ts';
import type { ExplainedAttempt, ExplainedCandidate, Explanation } from '../model/explanation.ts';
import type { Candidate } from '../model/pick.ts';

const METHOD_NAMES = new Map<number, string>(
  Object.entries(METHOD).map(([name, number]) => [number, name === 'other' ? name : name.toUpperCase()]),
);

/** @param id see `Decisions.idOf` */
export function explain(decision: Decision, id: string): Explanation {
  const { startedMs, deadlineMs, identity, status, grpcStatus, error, message, tries } = decision;
  const attempts = decision.kept();
  const after = (ms: number): number | undefined => (ms < 0 ? undefined : rounded(ms - startedMs));
  return {
    id,
    startedAt: new Date(performance.timeOrigin + startedMs).toISOString(),
    direction: decision.direction,
    client: String(decision.client),
    clientIdentity: identity?.text,
    target: decision.target,
    detection: { protocol: decision.isHttp2 ? 'h2' : 'http/1', afterMs: rounded(decision.detectedAfterMs) },
    request: {
      method: METHOD_NAMES.get(decision.method) ?? '',
      path: latin1(decision.path, decision.pathStart, decision.pathEnd),
      authority: latin1(decision.authority, 0, decision.authorityLength),
    },
    deadlineMs: deadlineMs < 0 ? undefined : deadlineMs,
    outcome: decision.outcome,
    status: status === 0 ? undefined : status,
    grpcStatus: GRPC_NAMES[grpcStatus],
    error,
    message: message === '' ? undefined : message,
    attempts: attempts.map((attempt) => explainAttempt(attempt, startedMs)),
    attemptsLeftOut: tries - attempts.length,
    sentAfterMs: after(decision.sentMs),
    answeredAfterMs: after(decision.answeredMs),
    endedAfterMs: after(decision.endedMs),
  };
}

function explainAttempt(attempt: Attempt, sinceMs: number): ExplainedAttempt {
  const { endpoint, isHttp2, served, outcome, detail } = attempt;
  const { reason, first, second, elsewhere } = attempt;
  const compared = [first, second].flatMap((candidate) => explainCandidate(candidate) ?? []);
  return {
    endpoint: String(endpoint?.address),
    identity: endpoint?.tls?.identity,
    afterMs: rounded(attempt.startedMs - sinceMs),
    protocol: isHttp2 ? 'h2' : 'http/1',
    connection: served < 0 ? 'new' : 'kept',
    served: served < 0 ? undefined : served,
    outcome,
    detail: detail === '' ? undefined : detail,
    choice: reason === 'none' ? undefined : { reason, compared, elsewhere: explainCandidate(elsewhere) },
  };
}

function explainCandidate(candidate: Candidate): ExplainedCandidate | undefined {
  const { endpoint, inFlight, timeMs, measured, load } = candidate;
  if (endpoint === undefined) return undefined;
  return {
    address: String(endpoint.address),
    inFlight,
    ewmaMs: Number.isNaN(timeMs) ? undefined : rounded(timeMs),
    measured,
    load: rounded(load),
  };
}

function latin1(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.subarray(from, to)).toString('latin1');
}

/** To a microsecond: clocks give no more. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
