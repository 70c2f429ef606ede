/** What request and status lines have in common: the version, and what an unfinished head comes to. */
import { BYTE, latin1 } from './bytes.ts';
import { MORE } from './fields.ts';
import type { Head } from './head.ts';
import { MAX_HEAD_BYTES, PROBLEM } from './problems.ts';

/** Length of a version in bytes. */
export const VERSION_BYTES = 8;

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { zero: ZERO, nine: NINE, lf: LF } = BYTE;
const VERSION = VERSION_BYTES;
/** `HTTP` and `/1.1` as little-endian words: what nearly every message says. */
const HTTP = 0x50545448;
const SLASH_1_1 = 0x312e312f;
const PREFIX = latin1('HTTP/1.');
const MAJOR_AT = 5;
const MINOR_AT = 7;

/**
 * Reads the version at `at` of `bytes`, of which `view` is a view, which is case-sensitive (RFC 9112 section 2.3).
 * @returns 10 or 11; MORE; or a negated PROBLEM, unsupportedVersion for other versions of HTTP
 */
export function readVersion(bytes: Uint8Array, view: DataView, at: number, limit: number): number {
  if (
    at + VERSION <= limit &&
    view.getInt32(at, true) === HTTP &&
    view.getInt32(at + 4, true) === SLASH_1_1
  ) {
    return 11;
  }
  const available = Math.min(limit - at, VERSION);
  let supported = true;
  for (let i = 0; i < available; i++) {
    const byte = bytes[at + i];
    if (byte === PREFIX[i]) continue;
    const isNumber = (i === MAJOR_AT || i === MINOR_AT) && byte >= ZERO && byte <= NINE;
    if (!isNumber) return -PROBLEM.version;
    if (i === MAJOR_AT || byte > ZERO + 1) supported = false;
  }
  if (available < VERSION) return MORE;
  return supported ? 10 + bytes[at + MINOR_AT] - ZERO : -PROBLEM.unsupportedVersion;
}

/**
 * Whether a head that was not whole is worth reading again: the bytes new since `known` end a line, or make it too large.
 * Without this a peer that sends byte by byte has its head read once per byte; with it, once per line, and lines are limited.
 */
export function isWorthReading(bytes: Uint8Array, from: number, known: number, to: number): boolean {
  if (to - from >= MAX_HEAD_BYTES) return true;
  for (let at = known; at < to; at++) if (bytes[at] === LF) return true;
  return false;
}

/** What an unfinished head comes to: MORE, or too large. */
export function giveUp(head: Head, to: number): number {
  head.seenBytes = to - head.start;
  return head.seenBytes < MAX_HEAD_BYTES ? MORE : -PROBLEM.headTooLarge;
}
