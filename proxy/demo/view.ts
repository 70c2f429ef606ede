/** The live view on standard error: a table that is redrawn on a terminal, a line now and then elsewhere. */

import type { WriteStream } from 'node:tty';
import type { Golden, ServiceRow } from './golden.ts';

/** Between two lines where there is no terminal: a log that is read later wants few. */
const LINE_INTERVAL_MS = 5_000;

const HEADINGS = [
  'SERVICE',
  'ADDRESS',
  'REQ/S',
  'SUCCESS',
  'P50',
  'P99',
  'CONNS',
  'BYTES/S',
  'BY ENDPOINT',
  'BY STATUS',
];

/** Prints progress and figures. */
export class View {
  private readonly stream: WriteStream;
  /** Lines of the table that is on the screen now. */
  private table: readonly string[] = [];
  private lastLineMs = Number.NEGATIVE_INFINITY;

  constructor(stream: WriteStream) {
    this.stream = stream;
  }

  /** One line of progress, above the table. */
  say(line: string): void {
    this.stream.write(`${this.erase()}${line}\n${this.draw()}`);
  }

  /** New figures; `elapsedMs` since the traffic began. */
  show(golden: Golden, elapsedMs: number): void {
    if (this.stream.isTTY) {
      const erase = this.erase();
      // A line that wraps would count as two when the table is erased. Some terminals say they have no columns.
      const width = this.stream.columns || Number.POSITIVE_INFINITY;
      this.table = ['', ...tableOf(golden, elapsedMs)].map((line) => line.slice(0, width));
      this.stream.write(`${erase}${this.draw()}`);
    } else if (elapsedMs - this.lastLineMs >= LINE_INTERVAL_MS) {
      this.lastLineMs = elapsedMs;
      this.stream.write(`${lineOf(golden, elapsedMs)}\n`);
    }
  }

  /** Leaves the last table where it is. */
  close(): void {
    this.table = [];
  }

  /** Up to the first line of the table, and everything below away. */
  private erase(): string {
    return this.table.length === 0 ? '' : `\x1b[${this.table.length}A\x1b[J`;
  }

  private draw(): string {
    return this.table.map((line) => `${line}\n`).join('');
  }
}

function tableOf(golden: Golden, elapsedMs: number): string[] {
  const rows = [HEADINGS, ...golden.services.map(cellsOf)];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  // Names to the left, figures to the right.
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
      .join('  '),
  );
  const sidecars = golden.sidecars.map(
    ({ identity, cpu, anonymousBytes, connections, errors }) =>
      `sidecar of the ${identity.pod} pod: ${percent(cpu)} CPU, ${scaled(anonymousBytes)}B, ` +
      `${connections} connections, ${errors} refused or failed`,
  );
  return [...lines, '', ...sidecars, `${Math.round(elapsedMs / 1000)} s, ${identityOf(golden)}`];
}

function cellsOf(row: ServiceRow): string[] {
  return [
    row.name,
    row.address,
    row.requestsPerSecond.toFixed(0),
    percent(row.success),
    milliseconds(row.p50Ms),
    milliseconds(row.p99Ms),
    String(row.connections),
    scaled(row.bytesPerSecond).trim(),
    row.endpoints.join(' : '),
    Object.entries(row.statuses ?? {})
      .flatMap(statusesOf)
      .join(', '),
  ];
}

function statusesOf([kind, counts]: readonly [string, Readonly<Record<string, number>>]): string[] {
  return Object.entries(counts).map(([status, count]) => `${kind} ${status}: ${count}`);
}

function lineOf(golden: Golden, elapsedMs: number): string {
  const parts = golden.services.map(
    ({ name, requestsPerSecond, success, p50Ms, p99Ms }) =>
      `${name} ${requestsPerSecond.toFixed(0)}/s ${percent(success)} ` +
      `${milliseconds(p50Ms)}/${milliseconds(p99Ms)}`,
  );
  const time = `${Math.round(elapsedMs / 1000)} s`;
  return `${time} (requests, success, p50/p99): ${parts.join(', ')}; ${identityOf(golden)}`;
}

/** Two figures where the sidecars do not agree. */
function identityOf({ mtlsShare, sidecars }: Golden): string {
  const distinct = (figures: readonly unknown[]) => [...new Set(figures)].join('/');
  const rotations = distinct(sidecars.map(({ identity }) => identity.rotations));
  const ends = distinct(sidecars.map(({ identity }) => timeOfDay(identity.certificateEndsMs)));
  return (
    `mutual TLS on ${percent(mtlsShare)} of the connections, ` +
    `certificates replaced ${rotations} times, valid until ${ends}`
  );
}

/** Rounded down, so that 100 % means all. */
function percent(share: number): string {
  return `${Math.floor(share * 1000) / 10} %`;
}

/** By the clock on the wall, so that every new certificate is seen to move it. */
function timeOfDay(ms: number): string {
  return new Date(ms).toTimeString().slice(0, 8);
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;
}

function scaled(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k`;
  return `${value.toFixed(0)} `;
}
