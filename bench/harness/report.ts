/** A run on paper: Markdown for people, JSON for programs. */

import type { Effort, PeerResult } from './rounds.ts';
import { type CaseSummary, digits, type Row } from './summary.ts';

/** One scenario of a run. */
export interface ScenarioReport {
  readonly name: string;
  readonly description: string;
  /** Set: it did not run at all, and why. */
  readonly skipped: string | undefined;
  readonly cases: readonly CaseReport[];
}

/** One case with every measurement it rests on. */
export interface CaseReport {
  readonly summary: CaseSummary;
  readonly results: readonly PeerResult[];
}

/** Everything about a run. */
export interface Report {
  /** ISO 8601. */
  readonly startedAt: string;
  readonly effort: Effort;
  /** Machine, programs and libraries with their versions. */
  readonly versions: readonly string[];
  /** Peers that are not on this machine. */
  readonly missing: readonly { readonly peer: string; readonly reason: string }[];
  readonly scenarios: readonly ScenarioReport[];
}

/** Whether any peer failed or any scenario could not run. */
export function hasFailure(report: Report): boolean {
  return report.scenarios.some(
    ({ skipped, cases }) =>
      skipped !== undefined ||
      cases.some(({ summary }) => summary.rows.some(({ failure }) => failure !== undefined)),
  );
}

/** The whole run as JSON, raw measurements included. */
export function toJson(report: Report): string {
  return `${JSON.stringify(report, undefined, 2)}\n`;
}

/** The whole run as Markdown. */
export function toMarkdown(report: Report): string {
  const { effort, missing } = report;
  const lines = [
    '# Benchmark',
    '',
    `${report.startedAt}, ${effort.rounds} interleaved rounds of ${effort.seconds} s. Medians over the rounds, least and ` +
      'greatest in brackets; ratios are paired by round. CPU is all of the proxy as the kernel counts it. Lower is better.',
    '',
    ...report.versions.map((version) => `- ${version}`),
    ...missing.map(({ peer, reason }) => `- without ${peer}: ${reason}`),
    '',
    ...report.scenarios.flatMap(scenarioLines),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

function scenarioLines(scenario: ScenarioReport): string[] {
  const head = [`## ${scenario.name}`, '', `${scenario.description}.`, ''];
  if (scenario.skipped !== undefined) return [...head, `Did not run: ${scenario.skipped}`, ''];
  return [...head, ...scenario.cases.flatMap(({ summary }) => caseLines(summary))];
}

function caseLines(summary: CaseSummary): string[] {
  const { case: one, rows, best, verdict } = summary;
  const columns = [
    'peer',
    `${one.metric}, ${one.unit}`,
    'ferrule ÷ peer',
    ...(one.throughputUnit === undefined ? [] : [one.throughputUnit]),
    'p50 / p99 / p99.9 ms',
    'RSS / PSS / anonymous MB',
  ];
  const cells = rows.map((row) => rowCells(row, row.peer === best, one.throughputUnit !== undefined));
  return [
    `### ${one.name}: ${one.description}`,
    '',
    ...table(columns, cells),
    '',
    ...rows.filter(({ failure }) => failure !== undefined).map(failureLine),
    `**${verdict.status}**: ${verdict.text}`,
    '',
  ];
}

function failureLine({ peer, failure }: Row): string {
  return `${peer} failed in ${failure?.replaceAll(/\s+/g, ' ')}\n`;
}

function rowCells(row: Row, isBest: boolean, hasThroughput: boolean): string[] {
  const { value, subjectRatio: ratio, throughput, latencyMs, memoryKb } = row;
  const range = (parts: readonly (number | undefined)[]) =>
    parts.map((part) => (part === undefined ? '–' : digits(part))).join(' / ');
  const megabytes = (kb: number) => (kb * 1024) / 1e6;
  return [
    isBest ? `${row.peer} (best)` : row.peer,
    row.failure !== undefined ? 'FAILED' : spreadCell(value, digits),
    spreadCell(ratio, (number) => number.toFixed(2)),
    ...(hasThroughput ? [throughput === undefined ? '–' : digits(throughput)] : []),
    latencyMs === undefined ? '–' : range([latencyMs.p50, latencyMs.p99, latencyMs.p999]),
    memoryKb === undefined ? '–' : range([memoryKb.rss, memoryKb.pss, memoryKb.anonymous].map(megabytes)),
  ];
}

function spreadCell(
  spread: { readonly median: number; readonly min: number; readonly max: number } | undefined,
  format: (value: number) => string,
): string {
  if (spread === undefined) return '–';
  return `${format(spread.median)} (${format(spread.min)}–${format(spread.max)})`;
}

/** A Markdown table whose columns line up, for those who read it in a terminal. */
function table(columns: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...rows.map((row) => row[index].length)),
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, index) => cell.padEnd(widths[index])).join(' | ')} |`;
  return [line(columns), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)];
}
