/**
 * Bytes as HTTP/1 classes them (RFC 9110 section 5.6.2, RFC 9112), in tables: one load per byte, whatever the byte. All scans
 * of the codec are built on these. Numbers of single bytes are in BYTE.
 */

/** The bytes that the grammar names. */
export const BYTE = {
  tab: 0x09,
  lf: 0x0a,
  cr: 0x0d,
  space: 0x20,
  hash: 0x23,
  percent: 0x25,
  asterisk: 0x2a,
  comma: 0x2c,
  dot: 0x2e,
  slash: 0x2f,
  zero: 0x30,
  nine: 0x39,
  colon: 0x3a,
  semicolon: 0x3b,
  question: 0x3f,
  openBracket: 0x5b,
  backslash: 0x5c,
  closeBracket: 0x5d,
} as const;

/** 1 for bytes of a token: field names, methods, connection options (RFC 9110 section 5.6.2). */
export const TOKEN = table(`!#$%&'*+-.^_\`|~${alphanumeric()}`);

/** 1 for bytes of a field value: VCHAR, SP, HTAB and obs-text (RFC 9110 section 5.5). No CR, LF, NUL, DEL or other control. */
export const VALUE = table(`\t ${range(0x21, 0x7e)}${range(0x80, 0xff)}`);

/**
 * 1 for bytes of a request target: everything visible but `#`, which would begin a fragment (RFC 9112 section 3.2 has none; Istio
 * CVE-2021-39156), and obs-text, which browsers and curl send in queries; path.ts refuses it in paths.
 */
export const TARGET = table(`${range(0x21, 0x22)}${range(0x24, 0x7e)}${range(0x80, 0xff)}`);

/**
 * 1 for bytes of a host name or an IPv4 address. Narrower than reg-name (RFC 3986 section 3.2.2): percent-encoding and
 * sub-delimiters are in no name that resolves or that a policy can mean, and `a,b` is what two folded Host fields look like.
 */
export const HOST = table(`-._~${alphanumeric()}`);

/** 1 for bytes of an IPv6 address between brackets. No zone (Envoy CVE-2026-26310). */
export const IPV6 = table('0123456789abcdefABCDEF:.');

/** The value of a hexadecimal digit, 0xff for other bytes. */
export const HEX = new Uint8Array(256).fill(0xff);
for (const digit of '0123456789abcdefABCDEF') HEX[digit.charCodeAt(0)] = Number.parseInt(digit, 16);

/** Upper-case hexadecimal digits. */
export const HEX_DIGITS = latin1('0123456789ABCDEF');

/** Letters A to Z as a to z; other bytes as they are. */
export const LOWER = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte,
);

/** As LOWER, with `_` and `.` as `-`: the letters by which CGI-like applications know a field (Traefik CVE-2026-88011). */
export const ALIAS = LOWER.map((byte) => (byte === 0x5f || byte === BYTE.dot ? 0x2d : byte));

/** The bytes of an ASCII or Latin-1 text; a plain Uint8Array, so that code which reads both stays monomorphic. */
export function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Whether `bytes[start, end)` is `word` after each byte went through `fold` (LOWER, ALIAS); `word` is folded already. */
export function equalsFolded(
  bytes: Uint8Array,
  start: number,
  end: number,
  word: Uint8Array,
  fold: Uint8Array,
): boolean {
  if (end - start !== word.length) return false;
  for (let i = 0; i < word.length; i++) {
    if (fold[bytes[start + i]] !== word[i]) return false;
  }
  return true;
}

/** Whether two ranges of one buffer are equal but for the case of letters. */
export function sameFolded(
  bytes: Uint8Array,
  start: number,
  end: number,
  otherStart: number,
  otherEnd: number,
): boolean {
  if (end - start !== otherEnd - otherStart) return false;
  for (let i = start, j = otherStart; i < end; i++, j++) {
    if (LOWER[bytes[i]] !== LOWER[bytes[j]]) return false;
  }
  return true;
}

/** Whether a byte is optional whitespace (RFC 9110 section 5.6.3). */
export function isBlank(byte: number): boolean {
  return byte === BYTE.space || byte === BYTE.tab;
}

function table(members: string): Uint8Array {
  const found = new Uint8Array(256);
  for (const member of members) found[member.charCodeAt(0)] = 1;
  return found;
}

function range(first: number, last: number): string {
  return String.fromCharCode(...Array.from({ length: last - first + 1 }, (_, i) => first + i));
}

function alphanumeric(): string {
  return `${range(0x30, 0x39)}${range(0x41, 0x5a)}${range(0x61, 0x7a)}`;
}
