/** Recorded decisions for the eyes of somebody who has five seconds. */
import type {
  AttemptOutcome,
  ExplainedAttempt,
  ExplainedCandidate,
  ExplainedChoice,
  Explanation,
} from '../model/explanation.ts';
import type { PickReason } from '../model/pick.ts';
import { wrap } from './command.ts';

/** Where the second column begins. */
const INDENT = 11;

/** Width of texts behind the first column, in characters: together with it 100, as in the help texts. */
const TEXT_WIDTH = 88;

/** Longest request and longest note in the table of many, in characters; the rest is to be had by id. */
const REQUEST_WIDTH = 40;
const NOTE_WIDTH = 60;

/** Why an endpoint was taken, completing "chosen: …". */
const REASONS: Readonly<Record<PickReason, string>> = {
  none: 'there was nothing to compare',
  only: 'there was no other to choose from',
  turn: 'it was its turn (round-robin)',
  drawn: 'two were drawn by weight and were alike: the first drawn is taken',
  'in-flight': 'of two drawn it has fewer requests in flight for its weight',
  load: 'of two drawn it has less load, and their times differ by more than twice',
  failed: 'the other one failed a moment ago',
  new: 'the other one is new, and takes less than its share for its first 10 s',
  zone: 'the best one drawn in our own zone is slow, new or failed a moment ago',
  rest: 'the least loaded of those not tried yet; what failed a moment ago comes last',
};

const PROTOCOLS = { 'http/1': 'HTTP/1', h2: 'HTTP/2' } as const;

const ATTEMPTS: Readonly<Record<AttemptOutcome, string>> = {
  'under way': 'under way',
  answered: 'answered',
  'not reached': 'not reached',
  lost: 'lost',
  'not understood': 'its answer could not be understood',
};

/** The whole account of one request; ends with a line feed. */
export function renderExplanation(explanation: Explanation): string {
  const { startedAt, direction, client, clientIdentity, target, detection } = explanation;
  const { deadlineMs, error, message } = explanation;
  const stranger = direction === 'inbound' ? ', without an identity' : '';
  return finished([
    `${explanation.id}  ${requestOf(explanation)}: ${endingOf(explanation)}`,
    '',
    ...(message === undefined ? [] : paragraph('why', message)),
    ...(error === undefined ? [] : [row('counted', `in ${direction}_http_errors_total{error="${error}"}`)]),
    row('client', `${client}${clientIdentity === undefined ? stranger : `, ${clientIdentity}`}`),
    row('target', `${target || 'unknown'} (${direction})`),
    row('began', `${startedAt.replace('T', ' ').replace('Z', ' UTC')}`),
    row('protocol', protocolOf(detection)),
    ...(deadlineMs === undefined ? [] : [row('deadline', `${ms(deadlineMs)} after it began (grpc-timeout)`)]),
    '',
    ...attemptsOf(explanation),
    '',
    ...timelineOf(explanation),
  ]);
}

/** A table of requests, one a line, in the order given; ends with a line feed. */
export function renderLatest(explanations: readonly Explanation[]): string {
  if (explanations.length === 0) return 'no HTTP request has come yet\n';
  const rows = explanations.map((explanation) => {
    const { id, startedAt, direction, endedAfterMs, attempts } = explanation;
    const [time] = /\d\d:\d\d:\d\d\.\d+/.exec(startedAt) ?? [startedAt];
    return [
      id,
      time,
      direction,
      clipped(requestOf(explanation), REQUEST_WIDTH),
      statusOf(explanation),
      endedAfterMs === undefined ? '' : figure(endedAfterMs),
      attempts.at(-1)?.endpoint ?? '',
      clipped(noteOf(explanation), NOTE_WIDTH),
    ];
  });
  const head = ['ID', 'TIME (UTC)', 'DIRECTION', 'REQUEST', 'STATUS', 'MS', 'ENDPOINT', 'NOTE'];
  return finished(aligned([head, ...rows], new Set([5])));
}

function protocolOf({ protocol, afterMs }: Explanation['detection']): string {
  const name = PROTOCOLS[protocol];
  return afterMs < 0 ? name : `${name}, found ${ms(afterMs)} after the connection was accepted`;
}

function requestOf({ request }: Explanation): string {
  const { method, authority, path } = request;
  return method === '' ? 'not readable as a request' : `${method} ${authority}${path}`;
}

function endingOf({ outcome, status: httpStatus, grpcStatus, endedAfterMs }: Explanation): string {
  const status = grpcStatus === undefined ? httpStatus : `${httpStatus}, gRPC ${grpcStatus}`;
  const after = endedAfterMs === undefined ? '' : ` after ${ms(endedAfterMs)}`;
  switch (outcome) {
    case 'under way':
      return status === undefined ? 'under way' : `under way, ${status} so far`;
    case 'answered':
      return `answered ${status}${after}`;
    case 'refused':
      return status === undefined ? `refused${after}` : `the proxy itself answered ${status}${after}`;
    case 'broken off':
      return `broken off in the middle of its response (${status})${after}`;
    case 'client left':
      return `the client left${after}${status === undefined ? '' : `, in the middle of its response (${status})`}`;
  }
}

function statusOf({ outcome, status: httpStatus, grpcStatus }: Explanation): string {
  const status = grpcStatus ?? httpStatus;
  if (outcome === 'answered') return String(status);
  return status === undefined ? outcome : `${status} ${outcome}`;
}

function noteOf({ message, attempts, attemptsLeftOut }: Explanation): string {
  const tries = attempts.length + attemptsLeftOut;
  return message ?? (tries > 1 ? `${tries} attempts` : '');
}

function attemptsOf({ attempts, attemptsLeftOut }: Explanation): string[] {
  if (attempts.length === 0) return [row('attempts', 'none: it was given to no endpoint')];
  return attempts.flatMap((attempt, index) => {
    const last = index === attempts.length - 1;
    const number = index + 1 + (last ? attemptsLeftOut : 0);
    const leftOut =
      last && attemptsLeftOut > 0 ? [row('', `(${attemptsLeftOut} more, not kept, came between)`)] : [];
    return [...leftOut, ...attemptOf(attempt, number)];
  });
}

function attemptOf(attempt: ExplainedAttempt, number: number): string[] {
  const { endpoint, identity, choice } = attempt;
  return [
    ...paragraph(`attempt ${number}`, `${endpoint} (${connectionOf(attempt)}): ${resultOf(attempt)}`),
    ...(identity === undefined ? [] : [row('', `had to prove to be ${identity}`)]),
    ...(choice === undefined ? [] : choiceOf(choice, endpoint)),
  ];
}

function resultOf({ endpoint, outcome, detail }: ExplainedAttempt): string {
  if (detail === undefined) return ATTEMPTS[outcome];
  // It names the endpoint where it stands alone, in the log.
  const reason = detail.startsWith(`${endpoint}: `) ? detail.slice(endpoint.length + 2) : detail;
  return outcome === 'lost' ? reason : `${ATTEMPTS[outcome]}: ${reason}`;
}

function connectionOf({ protocol, connection, served }: ExplainedAttempt): string {
  const name = PROTOCOLS[protocol];
  if (connection === 'new') return `${name}, new connection`;
  return `${name}, kept connection, ${served} ${served === 1 ? 'request' : 'requests'} before`;
}

function choiceOf({ reason, compared, elsewhere }: ExplainedChoice, chosen: string): string[] {
  const candidates = elsewhere === undefined ? compared : [...compared, elsewhere];
  const rows = candidates.map((candidate) => [
    candidate.address === chosen ? '→' : ' ',
    candidate.address,
    String(candidate.inFlight),
    candidate.ewmaMs === undefined ? '-' : figure(candidate.ewmaMs),
    figure(candidate.load),
    remarkOf(candidate, candidate === elsewhere),
  ]);
  const head = [' ', 'compared', 'in flight', 'EWMA ms', 'load', ''];
  const table = candidates.length === 0 ? [] : aligned([head, ...rows], new Set([2, 3, 4]));
  return [row('', `chosen: ${REASONS[reason]}`), ...table.map((line) => row('', line))];
}

function remarkOf({ ewmaMs, measured }: ExplainedCandidate, elsewhere: boolean): string {
  const remarks = [
    ...(elsewhere ? ['of another zone'] : []),
    ...(ewmaMs !== undefined && !measured ? ['time assumed: none was measured yet'] : []),
  ];
  return remarks.join('; ');
}

function timelineOf(explanation: Explanation): string[] {
  const { request, attempts, attemptsLeftOut, sentAfterMs, answeredAfterMs, endedAfterMs } = explanation;
  const events: (readonly [number | undefined, string])[] = [
    [
      0,
      request.method === '' ? 'it was clear that this is no request' : 'the head of the request was complete',
    ],
    ...attempts.map(({ afterMs, endpoint }, index) => {
      const number = index + 1 + (index === attempts.length - 1 ? attemptsLeftOut : 0);
      return [afterMs, `attempt ${number}, ${endpoint}`] as const;
    }),
    [sentAfterMs, attempts.length > 1 ? 'sent, for the last time' : 'sent'],
    [answeredAfterMs, 'the head of the response came'],
    [endedAfterMs, 'the end'],
  ];
  const reached = events.flatMap(([at, what]) => (at === undefined ? [] : [{ at, what }]));
  const width = Math.max(...reached.map(({ at }) => at.toFixed(2).length));
  return reached
    .sort((a, b) => a.at - b.at)
    .map(({ at, what }, index) =>
      row(index === 0 ? 'timeline' : '', `${at.toFixed(2).padStart(width)} ms  ${what}`),
    );
}

function row(label: string, text: string): string {
  return `${label.padEnd(INDENT)} ${text}`;
}

function paragraph(label: string, text: string): string[] {
  return wrap(harmless(text), TEXT_WIDTH).map((line, index) => row(index === 0 ? label : '', line));
}

/** Columns as wide as their widest cell, two spaces apart. */
function aligned(rows: readonly (readonly string[])[], right: ReadonlySet<number>): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((cells) => cells[column].length)));
  return rows.map((cells) =>
    cells
      .map((cell, column) =>
        right.has(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column]),
      )
      .join('  '),
  );
}

function clipped(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

function ms(value: number): string {
  return `${figure(value)} ms`;
}

/** Three digits that count are enough to compare. */
function figure(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

function finished(lines: readonly string[]): string {
  return `${lines.map((line) => harmless(line.trimEnd())).join('\n')}\n`;
}

/** Paths, names and reasons come from outside: none of them gets to talk to the terminal. */
function harmless(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
