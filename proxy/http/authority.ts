/** Hosts with an optional port: the Host field and the authority of request targets (RFC 9110 section 7.2, RFC 3986 section 3.2). */
import { BYTE, HOST, IPV6 } from './bytes.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { zero: ZERO, nine: NINE, colon: COLON, openBracket: OPEN, closeBracket: CLOSE } = BYTE;
const hosts = HOST;

/**
 * Whether `bytes[start, end)` is a host name, an IPv4 address or a bracketed IPv6 address, and a port of 1 to 5 digits up to
 * 65535, which may be absent unless it is required. No user information, no empty port: two spellings of one host would be two
 * hosts for a policy.
 */
export function isAuthority(bytes: Uint8Array, start: number, end: number, portRequired: boolean): boolean {
  let at = start;
  if (bytes[start] === OPEN && start < end) {
    at++;
    while (at < end && IPV6[bytes[at]] !== 0) at++;
    // The shortest address is `::`.
    if (at - start < 3 || at === end || bytes[at] !== CLOSE) return false;
    at++;
  } else {
    while (at < end && hosts[bytes[at]] !== 0) at++;
    if (at === start) return false;
  }
  if (at === end) return !portRequired;
  return bytes[at] === COLON && isPort(bytes, at + 1, end);
}

function isPort(bytes: Uint8Array, start: number, end: number): boolean {
  if (start === end || end - start > 5) return false;
  let port = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at];
    if (byte < ZERO || byte > NINE) return false;
    port = port * 10 + byte - ZERO;
  }
  return port <= 65_535;
}
