/**
 * Which protocol a client speaks, by its first bytes. HTTP/1 is a complete request line that ends in its version (RFC 9112
 * section 3), however it is split; HTTP/2 its preface (RFC 9113 section 3.4). Every other complete line, and everything that
 * cannot become one of them, is opaque.
 */

/** What the first bytes are; `more` while they may become HTTP. */
export type Opened = 'http1' | 'http2' | 'opaque' | 'more';

/** Longer ones are not methods: the longest registered one has 17 letters (UPDATEREDIRECTREF). */
const MAX_METHOD = 32;

/** A request line may be as long as a whole head; see MAX_HEAD_BYTES. */
const MAX_LINE = 65_536;

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

const VERSION_BYTES = ' HTTP/1.1'.length;

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;

/**
 * Reads the first bytes of a connection, all that there are so far.
 * @param seen how many of them were there when it last said `more`: they are not read again
 */
export function readProtocol(bytes: Uint8Array, seen: number): Opened {
  if (startsLike(bytes, PREFACE)) return bytes.length < PREFACE.length ? 'more' : 'http2';
  const methodEnd = endOfMethod(bytes);
  if (methodEnd < 0) return 'opaque';
  if (methodEnd === bytes.length) return 'more';
  for (let at = Math.max(methodEnd + 1, seen); at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === LF) return endsInVersion(bytes, at) ? 'http1' : 'opaque';
    // No text at all. The codec is stricter, and answers what gets as far as it.
    if (byte < SPACE && byte !== CR && byte !== 0x09) return 'opaque';
  }
  // Too long for a head: the codec says so. Opaque, it would reach the server unread.
  return bytes.length < MAX_LINE ? 'more' : 'http1';
}

/** Where the blank behind the method is, or the end while all of it may be a method; below 0 when there is none. */
function endOfMethod(bytes: Uint8Array): number {
  const end = Math.min(bytes.length, MAX_METHOD + 1);
  for (let at = 0; at < end; at++) {
    const byte = bytes[at];
    if (byte === SPACE) return at > 0 ? at : -1;
    if (!isMethodByte(byte)) return -1;
  }
  return bytes.length > MAX_METHOD ? -1 : bytes.length;
}

/** Letters, `-` and `_`: a token may be more, but no method is, and other protocols begin with it. */
function isMethodByte(byte: number): boolean {
  const letter = byte | 0x20;
  return (letter >= 0x61 && letter <= 0x7a) || byte === 0x2d || byte === 0x5f;
}

/** Whether the line that `lineFeed` ends has ` HTTP/1.0` or ` HTTP/1.1` as its last word. */
function endsInVersion(bytes: Uint8Array, lineFeed: number): boolean {
  const end = bytes[lineFeed - 1] === CR ? lineFeed - 1 : lineFeed;
  if (end < VERSION_BYTES) return false;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + end - VERSION_BYTES, VERSION_BYTES).toString(
    'latin1',
  );
  return text === ' HTTP/1.1' || text === ' HTTP/1.0';
}

function startsLike(bytes: Uint8Array, pattern: Uint8Array): boolean {
  const length = Math.min(bytes.length, pattern.length);
  for (let at = 0; at < length; at++) if (bytes[at] !== pattern[at]) return false;
  return length > 0;
}
