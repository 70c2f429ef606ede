/** Ports and ranges as users write them and as the multiport match takes them. */

import { parsePort } from '../proxy/core/address.ts';

/** One port (`first` equals `last`) or a range, both ends included, 1 to 65535. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** The multiport match holds 15 ports; a range takes the room of two (iptables-extensions(8), multiport). */
export const MULTIPORT_SLOTS = 15;

/** Parses `80` or `8000-8100` (also `8000:8100`, as iptables writes it); undefined when it is neither. */
export function parsePortRange(text: string): PortRange | undefined {
  const ends = text.split(/[-:]/);
  if (ends.length > 2) return undefined;
  const first = parsePort(ends[0]);
  const last = parsePort(ends[ends.length - 1]);
  if (first === undefined || last === undefined || first === 0 || first > last) return undefined;
  return { first, last };
}

/** True when `port` lies in one of `ranges`. */
export function includesPort(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some((range) => range.first <= port && port <= range.last);
}

/** Sorts and joins ranges that overlap. Neighbours stay apart: users find their own numbers again. */
export function joinOverlapping(ranges: readonly PortRange[]): PortRange[] {
  const joined: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first || a.last - b.last)) {
    const before = joined.at(-1);
    if (before !== undefined && range.first <= before.last) {
      joined[joined.length - 1] = { first: before.first, last: Math.max(before.last, range.last) };
    } else {
      joined.push(range);
    }
  }
  return joined;
}

/** Splits ranges into groups that fit one multiport match each. */
export function splitForMultiport(ranges: readonly PortRange[]): PortRange[][] {
  const groups: PortRange[][] = [];
  let free = 0;
  for (const range of ranges) {
    const slots = range.first === range.last ? 1 : 2;
    if (slots > free) {
      groups.push([]);
      free = MULTIPORT_SLOTS;
    }
    groups[groups.length - 1].push(range);
    free -= slots;
  }
  return groups;
}

/** `25,587,8000:8100`, the way iptables prints it. */
export function formatPorts(ranges: readonly PortRange[]): string {
  return ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}:${last}`)).join(',');
}
