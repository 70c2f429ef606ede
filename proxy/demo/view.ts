/** The live view on standard error: a table that is redrawn on a terminal, a line now and then elsewhere. */

import type { WriteStream } from 'node:tty';
import type { Golden, ServiceRow } from './golden.ts';

/** Between two lines where there is no terminal: a log that is read later wants few. */
const LINE_INTERVAL_MS = 5_000;

const HEADINGS = ['SERVICE', 'ADDRESS', 'REQ/S', 'SUCCESS', 'P50', 'P99', 'CONNS', 'BYTES/S', 'BY ENDPOINT'];

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
    ({ pod, cpu, anonymousBytes, connections, errors }) =>
      `sidecar of the ${pod} pod: ${percent(cpu)} CPU, ${scaled(anonymousBytes)}B, ` +
      `${connections} connections, ${errors} refused or failed`,
  );
  const time = `${Math.round(elapsedMs / 1000)} s, mutual TLS on ${percent(golden.mtlsShare)} of the connections`;
  return [...lines, '', ...sidecars, time];
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
  ];
}

function lineOf({ services }: Golden, elapsedMs: number): string {
  const parts = services.map(
    ({ name, requestsPerSecond, success, p50Ms, p99Ms }) =>
      `${name} ${requestsPerSecond.toFixed(0)}/s ${percent(success)} ` +
      `${milliseconds(p50Ms)}/${milliseconds(p99Ms)}`,
  );
  return `${Math.round(elapsedMs / 1000)} s (requests, success, p50/p99): ${parts.join(', ')}`;
}

/** Rounded down, so that 100 % means all. */
function percent(share: number): string {
  return `${Math.floor(share * 1000) / 10} %`;
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(2) : ms.toFixed(0)} ms`;
}

function scaled(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k`;
  return `${value.toFixed(0)} `;
}
