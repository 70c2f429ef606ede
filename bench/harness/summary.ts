/** From measurements to rows and a verdict. */

import type { Case, LatencyMs, Measurement, MemoryKb, Peer, Target } from './model.ts';
import type { PeerResult } from './rounds.ts';
import { median, pairedRatios, type Spread, spread } from './statistics.ts';

/** One peer in one case. */
export interface Row {
  readonly peer: string;
  readonly role: Peer['role'];
  /** Set: the peer answered wrongly or broke, and there are no numbers. */
  readonly failure: string | undefined;
  readonly value: Spread | undefined;
  /** The subject's value over this peer's, paired by round. */
  readonly subjectRatio: Spread | undefined;
  /** Medians over the rounds. */
  readonly throughput: number | undefined;
  readonly latencyMs: LatencyMs | undefined;
  readonly memoryKb: MemoryKb | undefined;
}

/** Whether the subject reached what it has to. */
export interface Verdict {
  readonly status: 'pass' | 'missed' | 'failed' | 'not judged';
  /** One line for people. */
  readonly text: string;
}

/** A case with all its rows. */
export interface CaseSummary {
  readonly case: Case;
  readonly rows: readonly Row[];
  /** The rival with the lowest median in this run; undefined when none has one. */
  readonly best: string | undefined;
  readonly verdict: Verdict;
}

/** Sums up the rounds of one case. */
export function summarise(one: Case, results: readonly PeerResult[]): CaseSummary {
  const subject = results.find(({ role }) => role === 'subject');
  const rows = results.map((result) => summariseRow(result, subject));
  const best = bestRival(rows);
  return { case: one, rows, best: best?.peer, verdict: judge(one, rows, best) };
}

/** The rival that has to be beaten: the lowest median of those that answered rightly in every round. */
export function bestRival(rows: readonly Row[]): Row | undefined {
  return rows
    .filter(({ role, value }) => role === 'rival' && value !== undefined)
    .toSorted((a, b) => a.value!.median - b.value!.median)[0];
}

function summariseRow(result: PeerResult, subject: PeerResult | undefined): Row {
  const { peer, role, failure, measurements } = result;
  const values = failure === undefined ? valuesOf(measurements) : undefined;
  const subjectValues = subject?.failure === undefined ? valuesOf(subject?.measurements ?? []) : undefined;
  const comparable = role === 'rival' && values !== undefined && subjectValues !== undefined;
  const ratios = comparable ? pairedRatios(subjectValues, values) : undefined;
  const known = failure === undefined ? measurements : [];
  return {
    peer,
    role,
    failure,
    value: values === undefined ? undefined : spread(values),
    subjectRatio: ratios === undefined ? undefined : spread(ratios),
    throughput: medianOf(known, ({ throughput }) => throughput),
    latencyMs: mediansOf(known, ({ latencyMs }) => latencyMs, ['p50', 'p99', 'p999']),
    memoryKb: mediansOf(known, ({ memoryKb }) => memoryKb, ['rss', 'pss', 'anonymous']),
  };
}

/** The values of all rounds; undefined when there are none. */
function valuesOf(measurements: readonly Measurement[]): number[] | undefined {
  const values = measurements.map(({ value }) => value).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : values;
}

function medianOf(
  measurements: readonly Measurement[],
  pick: (measurement: Measurement) => number | undefined,
): number | undefined {
  const values = measurements.map(pick).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : median(values);
}

function mediansOf<K extends string>(
  measurements: readonly Measurement[],
  pick: (measurement: Measurement) => Readonly<Record<K, number>> | undefined,
  keys: readonly K[],
): Readonly<Record<K, number>> | undefined {
  const records = measurements.map(pick).filter((record) => record !== undefined);
  if (records.length === 0) return undefined;
  const entries = keys.map((key) => [key, median(records.map((record) => record[key]))]);
  return Object.fromEntries(entries);
}

function judge(one: Case, rows: readonly Row[], best: Row | undefined): Verdict {
  const subject = rows.find(({ role }) => role === 'subject');
  if (subject === undefined) return { status: 'not judged', text: 'ferrule did not take part' };
  if (subject.failure !== undefined)
    return { status: 'failed', text: `ferrule failed in ${subject.failure}` };
  const broken = rows.filter(({ role, failure }) => role === 'rival' && failure !== undefined);
  const without = broken.length === 0 ? '' : `; without ${broken.map(({ peer }) => peer).join(', ')}: failed`;
  const verdict =
    one.target === undefined ? compared(subject, best) : judgeTarget(one, one.target, subject, best);
  return { ...verdict, text: verdict.text + without };
}

function judgeTarget(one: Case, target: Target, subject: Row, best: Row | undefined): Verdict {
  if (target.kind === 'absolute') {
    const { median: value, min, max } = subject.value!;
    const status = value <= target.atMost ? 'pass' : 'missed';
    const found = `${digits(value)} ${one.unit} (${digits(min)}–${digits(max)})`;
    return { status, text: `${found}, target at most ${target.atMost} ${one.unit}` };
  }
  const { status, text } = compared(subject, best);
  if (target.kind === 'spread') {
    if (best === undefined) return { status, text };
    const most = best.value!.max;
    const isWithin = subject.value!.median <= most;
    return {
      status: isWithin ? 'pass' : 'missed',
      text: `${text}, target at most its greatest, ${digits(most)} ${one.unit}`,
    };
  }
  if (best?.subjectRatio === undefined) return { status, text };
  const reached = best.subjectRatio.median <= target.atMost;
  return { status: reached ? 'pass' : 'missed', text: `${text}, target at most ${target.atMost}` };
}

function compared(subject: Row, best: Row | undefined): Verdict {
  if (best === undefined) return { status: 'not judged', text: 'nothing to compare with' };
  if (best.subjectRatio === undefined) {
    const text = `${digits(subject.value!.median)} against ${digits(best.value!.median)} of ${best.peer}: no ratio`;
    return { status: 'not judged', text };
  }
  const { median: ratio, min, max } = best.subjectRatio;
  return {
    status: 'not judged',
    text: `${ratio.toFixed(2)} of ${best.peer} (${min.toFixed(2)}–${max.toFixed(2)})`,
  };
}

/** A number with three significant digits, without exponent: `0.545`, `12.3`, `56,700`. */
export function digits(value: number): string {
  if (value === 0) return '0';
  return value.toLocaleString('en-US', { maximumSignificantDigits: 3, minimumSignificantDigits: 3 });
}
