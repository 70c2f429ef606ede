/**
 * Which protocol a client speaks, by its first bytes. HTTP/1 is a complete line whose last word is a version of HTTP (RFC 9112
 * section 3), however it is split; HTTP/2 its preface (RFC 9113 section 3.4). Every other complete line, and everything that
 * cannot become one of them, is opaque.
 *
 * Wider than what the codec takes: empty lines before it, other versions and tabs are for the codec to refuse. Passed on
 * as opaque they could reach a server that takes them for a request, with fields in it that only we may set.
 */
import { FRAME, FRAME_HEADER_BYTES, PREFACE, readUint31 } from '../http/h2/frames.ts';
import type { Protocol } from '../model/connection.ts';

/** What the first bytes are; `more` while they may become HTTP. */
export type Opened = Protocol | 'more';

/** Longer ones are not methods: the longest registered one has 17 letters (UPDATEREDIRECTREF). */
const MAX_METHOD = 32;

/** A request line may be as long as a whole head; see MAX_HEAD_BYTES. */
const MAX_LINE = 65_536;

const VERSION = Buffer.from('HTTP/', 'latin1');

const LF = 0x0a;
const CR = 0x0d;
const TAB = 0x09;
const SPACE = 0x20;

/**
 * Reads the first bytes of a connection, all that there are so far.
 * @param seen how many of them were there when it last said `more`: they are not read again
 */
export function readProtocol(bytes: Uint8Array, seen: number): Opened {
  if (startsLike(bytes, PREFACE)) return bytes.length < PREFACE.length ? 'more' : 'http2';
  const start = startOfLine(bytes);
  const methodEnd = endOfMethod(bytes, start);
  if (methodEnd < 0) return 'opaque';
  if (methodEnd === bytes.length) return bytes.length < MAX_LINE ? 'more' : 'http1';
  // Of what may have been the preface nothing was read but that.
  const read = seen < PREFACE.length ? 0 : seen;
  for (let at = Math.max(methodEnd + 1, read); at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === LF) return endsInVersion(bytes, at) ? 'http1' : 'opaque';
    // No text at all. The codec is stricter, and answers what gets as far as it.
    if (byte < SPACE && byte !== CR && byte !== TAB) return 'opaque';
  }
  // Too long for a head: the codec says so. Opaque, it would reach the server unread.
  return bytes.length < MAX_LINE ? 'more' : 'http1';
}

/** What one setting takes (RFC 9113 section 6.5.1). */
const SETTING_BYTES = 6;

/**
 * Whether these first bytes are those of an HTTP/2 server, a SETTINGS frame: they say nothing of what its client speaks, since such a
 * server speaks first whoever connects (RFC 9113 section 3.4).
 */
export function opensAsHttp2Server(bytes: Uint8Array): boolean {
  if (bytes.length < FRAME_HEADER_BYTES || bytes[0] !== 0) return false;
  if (bytes[3] !== FRAME.settings || bytes[4] !== 0 || readUint31(bytes, 5) !== 0) return false;
  return ((bytes[1] << 8) | bytes[2]) % SETTING_BYTES === 0;
}

/** Behind empty lines, which a server should ignore (RFC 9112 section 2.2). */
function startOfLine(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length && (bytes[at] === CR || bytes[at] === LF)) at++;
  return at;
}

/** Where the blank behind the method is, or the end while all of it may be a method; below 0 when there is none. */
function endOfMethod(bytes: Uint8Array, start: number): number {
  const end = Math.min(bytes.length, start + MAX_METHOD + 1);
  for (let at = start; at < end; at++) {
    const byte = bytes[at];
    if (byte === SPACE || byte === TAB) return at > start ? at : -1;
    if (!isMethodByte(byte)) return -1;
  }
  return bytes.length - start > MAX_METHOD ? -1 : bytes.length;
}

/** Letters, `-` and `_`: a token may be more, but no method is, and other protocols begin with it. */
function isMethodByte(byte: number): boolean {
  const letter = byte | 0x20;
  return (letter >= 0x61 && letter <= 0x7a) || byte === 0x2d || byte === 0x5f;
}

/** Whether the last word of the line that `lineFeed` ends begins like a version. */
function endsInVersion(bytes: Uint8Array, lineFeed: number): boolean {
  let end = lineFeed;
  while (end > 0 && isBlank(bytes[end - 1])) end--;
  let word = end;
  while (word > 0 && !isBlank(bytes[word - 1])) word--;
  return end - word >= VERSION.length && startsLike(bytes.subarray(word, end), VERSION);
}

function isBlank(byte: number): boolean {
  return byte === SPACE || byte === TAB || byte === CR;
}

function startsLike(bytes: Uint8Array, pattern: Uint8Array): boolean {
  const length = Math.min(bytes.length, pattern.length);
  for (let at = 0; at < length; at++) if (bytes[at] !== pattern[at]) return false;
  return length > 0;
}
