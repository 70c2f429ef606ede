/** A run as one SVG: a bar per peer and case, with the range of its rounds. */

import type { Report } from './report.ts';
import { type CaseSummary, digits, type Row } from './summary.ts';

/** In pixels. Names end where bars begin, values follow the longest bar. */
const LAYOUT = { width: 760, left: 170, bar: 440, row: 22, head: 34, gap: 18 } as const;
/** Readable on white, in print and with either kind of colour blindness: the subject differs in brightness too. */
const COLOUR = {
  subject: '#0b5fa5',
  rival: '#a9b4c0',
  control: '#dde2e8',
  text: '#1b1f24',
  failed: '#b3261e',
} as const;

/** The chart of all cases that have values. */
export function toSvg(report: Report): string {
  let y = LAYOUT.gap;
  const parts: string[] = [];
  for (const { name, cases } of report.scenarios) {
    for (const { summary } of cases) {
      parts.push(caseChart(name, summary, y));
      y += LAYOUT.head + barRows(summary).length * LAYOUT.row + LAYOUT.gap;
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${LAYOUT.width}" height="${y}" ` +
      `viewBox="0 0 ${LAYOUT.width} ${y}" font-family="sans-serif" font-size="12" fill="${COLOUR.text}">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

/** Peers with something to show: a control that costs nothing has no bar. */
function barRows({ rows }: CaseSummary): Row[] {
  return rows.filter(({ value, failure }) => value !== undefined || failure !== undefined);
}

function caseChart(scenario: string, summary: CaseSummary, top: number): string {
  const { case: one, verdict } = summary;
  const rows = barRows(summary);
  const greatest = Math.max(...rows.map(({ value }) => value?.max ?? 0), Number.MIN_VALUE);
  const title = `${scenario} ${one.name}: ${one.metric}, ${one.unit}`;
  return [
    `<text x="12" y="${top + 12}" font-weight="bold">${escapeXml(title)}</text>`,
    `<text x="12" y="${top + 27}" font-size="11">${escapeXml(`${verdict.status}: ${verdict.text}`)}</text>`,
    ...rows.map((row, index) => bar(row, greatest, top + LAYOUT.head + index * LAYOUT.row)),
  ].join('\n');
}

function bar({ peer, role, value }: Row, greatest: number, top: number): string {
  const middle = top + LAYOUT.row / 2;
  const label = `<text x="${LAYOUT.left - 8}" y="${middle + 4}" text-anchor="end">${escapeXml(peer)}</text>`;
  if (value === undefined) {
    return `${label}<text x="${LAYOUT.left}" y="${middle + 4}" fill="${COLOUR.failed}">failed</text>`;
  }
  const at = (amount: number) => Number((LAYOUT.left + (amount / greatest) * LAYOUT.bar).toFixed(1));
  const width = Number((at(value.median) - LAYOUT.left).toFixed(1));
  return [
    label,
    `<rect x="${LAYOUT.left}" y="${top + 3}" width="${width}" height="${LAYOUT.row - 6}" fill="${COLOUR[role]}"/>`,
    `<path d="M${at(value.min)} ${middle}H${at(value.max)}" stroke="${COLOUR.text}"/>`,
    `<text x="${at(value.max) + 8}" y="${middle + 4}">${digits(value.median)}</text>`,
  ].join('');
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
