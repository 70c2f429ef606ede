/** What request and status lines have in common: the version, and what an unfinished head comes to. */
import { BYTE, latin1 } from './bytes.ts';
import { MORE } from './fields.ts';
import type { Head } from './head.ts';
import { MAX_HEAD_BYTES, PROBLEM } from './problems.ts';

/** Length of a version in bytes. */
export const VERSION_BYTES = 8;

const PREFIX = latin1('HTTP/');
const DOT_AT = 6;

/**
 * Reads the version at `at`, which is case-sensitive (RFC 9112 section 2.3).
 * @returns 10 or 11; MORE; or a negated PROBLEM, unsupportedVersion for other versions of HTTP
 */
export function readVersion(bytes: Uint8Array, at: number, limit: number): number {
  const available = Math.min(limit - at, VERSION_BYTES);
  for (let i = 0; i < available; i++) {
    const byte = bytes[at + i];
    if (i < PREFIX.length) {
      if (byte !== PREFIX[i]) return -PROBLEM.version;
    } else if (i === DOT_AT) {
      if (byte !== BYTE.dot) return -PROBLEM.version;
    } else if (byte < BYTE.zero || byte > BYTE.nine) return -PROBLEM.version;
  }
  if (available < VERSION_BYTES) return MORE;
  const minor = bytes[at + 7] - BYTE.zero;
  if (bytes[at + 5] !== BYTE.zero + 1 || minor > 1) return -PROBLEM.unsupportedVersion;
  return 10 + minor;
}

/**
 * Whether a head that was not whole is worth reading again: the bytes new since `known` end a line, or make it too large.
 * Without this a peer that sends byte by byte has its head read once per byte; with it, once per line, and lines are limited.
 */
export function isWorthReading(bytes: Uint8Array, from: number, known: number, to: number): boolean {
  if (to - from >= MAX_HEAD_BYTES) return true;
  for (let at = known; at < to; at++) if (bytes[at] === BYTE.lf) return true;
  return false;
}

/** What an unfinished head comes to: MORE, or too large. */
export function giveUp(head: Head, to: number): number {
  head.seenBytes = to - head.start;
  return head.seenBytes < MAX_HEAD_BYTES ? MORE : -PROBLEM.headTooLarge;
}
