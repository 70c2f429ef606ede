/**
 * Heads and chunks as they are forwarded: what is kept is copied, neighbouring fields in one piece; framing, connection options
 * and Upgrade are written anew (never copied, whatever they looked like); the version is always HTTP/1.1 (RFC 9110 section 2.5).
 */
import { BYTE, HEX_DIGITS, latin1 } from './bytes.ts';
import type { FieldIndex } from './fields.ts';
import { FRAMING, type Head } from './head.ts';

/** What is said about the connection. */
export const CONNECTION = {
  none: 0,
  close: 1,
  keepAlive: 2,
  /** With the Upgrade value of the head, if it has one. */
  upgrade: 3,
} as const;

/** How to write a head. Reused: set all of it for each. */
export class WriteOptions {
  /** One of FRAMING. */
  framing: number = FRAMING.none;
  /** Bytes, for FRAMING.length: 0 to 2^53-1. */
  contentLength = 0;
  /** One of CONNECTION. */
  connection: number = CONNECTION.none;
  /** Canonical path and query instead of those of the head; null: as they are. */
  path: Uint8Array | null = null;
  /** The host for a request that names none: HTTP/1.1 demands one. */
  host: Uint8Array | null = null;
  /** Whole field lines, each with its CR LF, written last. */
  extra: Uint8Array | null = null;
}

/** The end of a request line. */
export const VERSION_END = latin1(' HTTP/1.1\r\n');
const STATUS_START = latin1('HTTP/1.1 ');
/** The end of a line. */
export const CRLF = latin1('\r\n');
const SLASH = latin1('/');
const ASTERISK = latin1('*');
/** The beginning of the line that names the host. */
export const HOST = latin1('Host: ');
const CHUNKED = latin1('Transfer-Encoding: chunked\r\n');
const CONTENT_LENGTH = latin1('Content-Length: ');
/** The beginning of the line that names the next protocol. */
export const UPGRADE = latin1('Upgrade: ');
/** What goes before the trailer section of a chunked body. */
export const LAST_CHUNK = latin1('0\r\n');

/** By CONNECTION number; then the same with `TE: trailers`, which must be named as an option (RFC 9110 section 10.1.4). */
const CONNECTIONS = ['', 'close', 'keep-alive', 'upgrade'].map((option) =>
  latin1(option === '' ? '' : `Connection: ${option}\r\n`),
);
const CONNECTIONS_TE = ['', 'close, ', 'keep-alive, ', 'upgrade, '].map((option) =>
  latin1(`Connection: ${option}TE\r\nTE: trailers\r\n`),
);

/** More than all that is written anew can take together: the longest constants, a host from the target, 16 digits. */
export const OWN_BYTES = 192;

/** How many bytes a writer can need at most for this head: reserve them. */
export function headRoom(head: Head, options: WriteOptions): number {
  const authority = head.authorityEnd - head.authorityStart;
  const upgrade = head.upgradeEnd - head.upgradeStart;
  const given = (options.path?.length ?? 0) + (options.host?.length ?? 0) + (options.extra?.length ?? 0);
  return head.end - head.start + authority + upgrade + given + OWN_BYTES;
}

/**
 * Writes a request head.
 * @param into with headRoom bytes behind `at`; may be the buffer the head is in, at another place
 * @returns the offset behind it
 */
export function writeRequestHead(head: Head, options: WriteOptions, into: Uint8Array, at: number): number {
  let to = at;
  let kept = head.start;
  if (head.form !== 'origin' || head.minor === 0 || options.path !== null) {
    to = writeRequestLine(head, options, into, to);
    kept = head.fieldsStart;
  }
  if (head.targetNamesHost || head.authorityStart === head.authorityEnd) {
    if (kept === head.start) to = copy(into, to, head.bytes, kept, head.fieldsStart);
    kept = head.fieldsStart;
    to = writeHost(head, options, into, to);
  }
  to = copyKept(head, kept, into, to);
  return writeOwnFields(head, options, head.teTrailers, into, to);
}

/** Writes a response head; as writeRequestHead. */
export function writeResponseHead(head: Head, options: WriteOptions, into: Uint8Array, at: number): number {
  let to = at;
  let kept = head.start;
  // Without a reason the space may be missing, and it is demanded.
  if (head.minor === 0 || head.reasonStart === head.reasonEnd) {
    to = put(into, to, STATUS_START);
    to = copy(into, to, head.bytes, head.start + STATUS_START.length, head.start + STATUS_START.length + 3);
    into[to++] = BYTE.space;
    to = copy(into, to, head.bytes, head.reasonStart, head.reasonEnd);
    to = put(into, to, CRLF);
    kept = head.fieldsStart;
  }
  to = copyKept(head, kept, into, to);
  return writeOwnFields(head, options, false, into, to);
}

/** Writes what goes before `size` bytes of data of a chunk (1 to 2^53-1), of which CRLF goes behind them. At most 16 bytes. */
export function writeChunkHeader(size: number, into: Uint8Array, at: number): number {
  let shift = 1;
  while (size / shift >= 16) shift *= 16;
  let to = at;
  for (; shift >= 1; shift /= 16) into[to++] = HEX_DIGITS[Math.floor(size / shift) % 16];
  return put(into, to, CRLF);
}

/** Writes the end of a chunked body: the last chunk, the trailer fields that are kept, the blank line. At most `trailersRoom` bytes. */
export function writeLastChunk(trailers: FieldIndex, into: Uint8Array, at: number): number {
  let to = put(into, at, LAST_CHUNK);
  if (trailers.count > 0) to = copyKept(trailers, trailers.fieldsStart, into, to);
  return put(into, to, CRLF);
}

/** How many bytes writeLastChunk can need. */
export function trailersRoom(trailers: FieldIndex): number {
  return trailers.end - trailers.fieldsStart + LAST_CHUNK.length + CRLF.length;
}

function writeRequestLine(head: Head, options: WriteOptions, into: Uint8Array, at: number): number {
  const { bytes, pathStart, pathEnd } = head;
  // The method with the space behind it.
  let to = copy(into, at, bytes, head.start, head.methodEnd + 1);
  if (head.form === 'asterisk') to = put(into, to, ASTERISK);
  else if (head.form === 'authority') to = copy(into, to, bytes, head.authorityStart, head.authorityEnd);
  else if (options.path !== null) to = put(into, to, options.path);
  else {
    if (pathStart === pathEnd || bytes[pathStart] !== BYTE.slash) to = put(into, to, SLASH);
    to = copy(into, to, bytes, pathStart, pathEnd);
  }
  return put(into, to, VERSION_END);
}

function writeHost(head: Head, options: WriteOptions, into: Uint8Array, at: number): number {
  let to = put(into, at, HOST);
  if (head.authorityStart !== head.authorityEnd) {
    to = copy(into, to, head.bytes, head.authorityStart, head.authorityEnd);
  } else if (options.host !== null) {
    to = put(into, to, options.host);
  }
  return put(into, to, CRLF);
}

/** Copies from `from`, which is the first field or something before it, to the blank line; leaves out what is dropped. */
function copyKept(index: FieldIndex, from: number, into: Uint8Array, at: number): number {
  const { bytes, fields, dropped, count } = index;
  let to = at;
  let run = from;
  for (let i = 0; i < count; i++) {
    if (dropped[i] === 0) continue;
    to = copy(into, to, bytes, run, fields[4 * i]);
    run = i + 1 < count ? fields[4 * (i + 1)] : index.end - CRLF.length;
  }
  return copy(into, to, bytes, run, index.end - CRLF.length);
}

function writeOwnFields(
  head: Head,
  options: WriteOptions,
  te: boolean,
  into: Uint8Array,
  at: number,
): number {
  let to = writeFraming(options, into, at);
  to = put(into, to, connectionLines(options.connection, te));
  if (options.connection === CONNECTION.upgrade && head.upgradeStart !== head.upgradeEnd) {
    to = put(into, to, UPGRADE);
    to = copy(into, to, head.bytes, head.upgradeStart, head.upgradeEnd);
    to = put(into, to, CRLF);
  }
  return writeHeadEnd(options, into, to);
}

/** Writes the field that tells where the body ends, if there is one. */
export function writeFraming(options: WriteOptions, into: Uint8Array, at: number): number {
  if (options.framing === FRAMING.chunked) return put(into, at, CHUNKED);
  if (options.framing !== FRAMING.length) return at;
  const to = writeDecimal(options.contentLength, into, put(into, at, CONTENT_LENGTH));
  return put(into, to, CRLF);
}

/** Connection, as one of CONNECTION, and `TE: trailers`: whole lines, or nothing. */
export function connectionLines(connection: number, te: boolean): Uint8Array {
  return te ? CONNECTIONS_TE[connection] : CONNECTIONS[connection];
}

/** Writes what goes last: the proxy's own lines and the blank one. */
export function writeHeadEnd(options: WriteOptions, into: Uint8Array, at: number): number {
  return put(into, options.extra === null ? at : put(into, at, options.extra), CRLF);
}

function writeDecimal(value: number, into: Uint8Array, at: number): number {
  let scale = 1;
  while (value / scale >= 10) scale *= 10;
  let to = at;
  for (; scale >= 1; scale /= 10) into[to++] = BYTE.zero + (Math.floor(value / scale) % 10);
  return to;
}

/** Writes a short piece, as our own are: a loop costs less than a call out of JavaScript. */
export function put(into: Uint8Array, at: number, piece: Uint8Array): number {
  for (let i = 0; i < piece.length; i++) into[at + i] = piece[i];
  return at + piece.length;
}

function copy(into: Uint8Array, at: number, bytes: Uint8Array, start: number, end: number): number {
  if (start >= end) return at;
  if (into === bytes) into.copyWithin(at, start, end);
  else into.set(bytes.subarray(start, end), at);
  return at + end - start;
}
