/** What the kernel says that processes cost. A proxy is a process group: all that its first process started. */

import { readdirSync, readFileSync } from 'node:fs';
import type { MemoryKb } from './model.ts';

/** USER_HZ: the unit of times in /proc, 100 on every architecture Node runs on (proc(5)). */
const TICKS_PER_SECOND = 100;

/** From the end of the command's name in /proc/PID/stat (proc(5)), which may itself hold blanks and brackets. */
const STAT = { pgrp: 2, utime: 11, stime: 12, cutime: 13, cstime: 14 } as const;

/** The interesting part of /proc/PID/stat. */
export interface ProcessStat {
  readonly group: number;
  /** User and system time of the process, its threads that ended, and children it has waited for; in seconds. */
  readonly cpuSeconds: number;
}

/** Parses the text of /proc/PID/stat. */
export function parseStat(text: string): ProcessStat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = [STAT.utime, STAT.stime, STAT.cutime, STAT.cstime]
    .map((index) => Number(fields[index]))
    .reduce((sum, value) => sum + value, 0);
  return { group: Number(fields[STAT.pgrp]), cpuSeconds: ticks / TICKS_PER_SECOND };
}

/** CPU time of the process group so far, in seconds; the resolution is 10 ms per process. */
export function groupCpuSeconds(group: number): number {
  return groupProcesses(group).reduce((sum, { stat }) => sum + stat.cpuSeconds, 0);
}

/** Memory of the process group now. */
export function groupMemory(group: number): MemoryKb {
  let [rss, pss, anonymous] = [0, 0, 0];
  for (const { pid } of groupProcesses(group)) {
    const status = readProc(`/proc/${pid}/status`);
    const rollup = readProc(`/proc/${pid}/smaps_rollup`);
    if (status === undefined || rollup === undefined) continue;
    rss += kilobytes(status, 'VmRSS');
    anonymous += kilobytes(status, 'RssAnon') + kilobytes(status, 'RssShmem');
    pss += kilobytes(rollup, 'Pss');
  }
  return { rss, pss, anonymous };
}

/** The value of a line `Name:   123 kB`; 0 where there is none (a process that is about to end has no memory). */
export function kilobytes(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
}

function groupProcesses(group: number): { readonly pid: number; readonly stat: ProcessStat }[] {
  const found = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const text = readProc(`/proc/${name}/stat`);
    if (text === undefined) continue;
    const stat = parseStat(text);
    if (stat.group === group) found.push({ pid: Number(name), stat });
  }
  return found;
}

/** The text of a file of /proc; undefined when its process ended meanwhile. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
