/**
 * Paths in one canonical form, made once: policy, route, upstream and log all see it, so that no spelling of a path passes a rule
 * that its meaning breaks (Istio CVE-2021-31920 and CVE-2021-39155/-39156, Envoy CVE-2026-73511 and its kin, Consul CVE-2024-10006).
 *
 * - Percent-encoding is normalised (RFC 3986 section 6.2.2): unreserved bytes decoded, hexadecimal digits upper-case.
 * - Dot segments are removed (section 5.2.4), after that; a path that leads above its root is refused.
 * - Runs of slashes become one. Servers and frameworks disagree about `//`, so that leaving them lets `//admin` pass a rule about
 *   `/admin`; refusing them would break the many clients that join a base ending in `/` with a path beginning with it.
 * - Refused is what decodes to another structure in some servers and not in others: encoded slashes, backslashes and NUL, raw
 *   backslashes, dot segments with parameters (`..;`, which Java servers resolve), and bytes that must be encoded.
 *
 * Other parameters (`/admin;x`) stay, since session ids are sent so: whoever matches paths compares segments up to their `;`.
 * The query is left as it is: it has no structure of its own in HTTP.
 */
import { BYTE, HEX, HEX_DIGITS } from './bytes.ts';
import { PROBLEM } from './problems.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const {
  hash: HASH,
  percent: PERCENT,
  dot: DOT,
  slash: SLASH,
  semicolon: SEMICOLON,
  question: QUESTION,
  backslash: BACKSLASH,
} = BYTE;

const hex = HEX;

/** 1 for bytes that can be in a canonical path wherever they stand: all visible ASCII but those below. */
const plain = new Uint8Array(256).fill(1, 0x21, 0x7f);
for (const byte of [HASH, PERCENT, SLASH, QUESTION, BACKSLASH]) plain[byte] = 0;

/** 1 for unreserved bytes (RFC 3986 section 2.3), whose encoding means the same as they do. */
const unreserved = new Uint8Array(256);
for (const letter of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~') {
  unreserved[letter.charCodeAt(0)] = 1;
}

/**
 * The canonical form of path and query `bytes[start, end)`, as a head gives them (pathStart, pathEnd).
 * @returns 0 when it is canonical as it is, which costs one scan; else the new bytes; or a negated PROBLEM: answer 400
 */
export function canonicalPath(bytes: Uint8Array, start: number, end: number): Uint8Array | number {
  let at = start;
  while (at < end && bytes[at] === SLASH) {
    const segment = at + 1;
    at = segment;
    while (at < end && plain[bytes[at]] !== 0) at++;
    const emptyInside = at === segment && at < end && bytes[at] === SLASH;
    // Segments that begin with a dot are rare, and may be dot segments.
    if (emptyInside || (at > segment && bytes[segment] === DOT)) return rewrite(bytes, start, end);
  }
  const canonical = start < end && at > start && (at === end || bytes[at] === QUESTION);
  return canonical ? 0 : rewrite(bytes, start, end);
}

/** The whole judgement, for what the scan does not let pass. */
function rewrite(bytes: Uint8Array, start: number, end: number): Uint8Array | number {
  let pathEnd = start;
  while (pathEnd < end && bytes[pathEnd] !== QUESTION) pathEnd++;
  // One more than there is, for the slash of an absolute target without a path.
  const out = new Uint8Array(end - start + 1);
  let to = 0;
  out[to++] = SLASH;
  for (let at = start; at < pathEnd; ) {
    if (bytes[at] === SLASH) {
      if (out[to - 1] !== SLASH) out[to++] = SLASH;
      at++;
      continue;
    }
    const segment = to;
    for (; at < pathEnd && bytes[at] !== SLASH; at = nextByte(bytes, at)) {
      const length = putByte(bytes, at, pathEnd, out, to);
      if (length < 0) return length;
      to += length;
    }
    to = endSegment(out, segment, to);
    if (to < 0) return to;
  }
  const query = bytes.subarray(pathEnd, end);
  out.set(query, to);
  const length = to + query.length;
  return isSame(out, length, bytes, start, end) ? 0 : out.subarray(0, length);
}

function nextByte(bytes: Uint8Array, at: number): number {
  return bytes[at] === PERCENT ? at + 3 : at + 1;
}

/** Writes the normal form of the byte or escape at `at`. Returns its length, or a negated PROBLEM. */
function putByte(bytes: Uint8Array, at: number, end: number, out: Uint8Array, to: number): number {
  const byte = bytes[at];
  if (byte === BACKSLASH) return -PROBLEM.pathBackslash;
  if (byte !== PERCENT) {
    out[to] = byte;
    return plain[byte] === 0 ? -PROBLEM.pathByte : 1;
  }
  if (at + 2 >= end) return -PROBLEM.pathPercent;
  const high = hex[bytes[at + 1]];
  const low = hex[bytes[at + 2]];
  if (high === 0xff || low === 0xff) return -PROBLEM.pathPercent;
  const decoded = high * 16 + low;
  if (decoded === 0) return -PROBLEM.pathEncodedNul;
  if (decoded === SLASH || decoded === BACKSLASH) return -PROBLEM.pathEncodedSlash;
  if (unreserved[decoded] !== 0) {
    out[to] = decoded;
    return 1;
  }
  out[to] = PERCENT;
  out[to + 1] = HEX_DIGITS[high];
  out[to + 2] = HEX_DIGITS[low];
  return 3;
}

/** Resolves the segment just written when it is a dot segment. Returns where writing goes on, or a negated PROBLEM. */
function endSegment(out: Uint8Array, segment: number, to: number): number {
  let dots = 0;
  while (segment + dots < to && out[segment + dots] === DOT) dots++;
  if (dots !== 1 && dots !== 2) return to;
  const rest = segment + dots;
  if (rest < to) {
    const encodedSemicolon = out[rest] === PERCENT && out[rest + 1] === 0x33 && out[rest + 2] === 0x42;
    return out[rest] === SEMICOLON || encodedSemicolon ? -PROBLEM.pathDotParameter : to;
  }
  if (dots === 1) return segment;
  // `out[segment - 1]` is the slash before this segment.
  let parent = segment - 1;
  if (parent === 0) return -PROBLEM.pathAboveRoot;
  while (out[parent - 1] !== SLASH) parent--;
  return parent;
}

function isSame(out: Uint8Array, length: number, bytes: Uint8Array, start: number, end: number): boolean {
  if (length !== end - start) return false;
  for (let i = 0; i < length; i++) if (out[i] !== bytes[start + i]) return false;
  return true;
}
