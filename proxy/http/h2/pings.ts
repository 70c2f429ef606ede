/** Payloads of our pings: what they are for (RFC 9113 section 6.7). */
import { latin1 } from '../bytes.ts';

/** Is the peer there? */
export const KEEP_ALIVE_PING: Uint8Array = latin1('ferrule1');

/** Has it heard of the GOAWAY before? Sent by servers that drain. */
export const DRAIN_PING: Uint8Array = latin1('ferrule2');

/** Whether the payload at `from` is that of one of them. */
export function isPing(bytes: Uint8Array, from: number, ping: Uint8Array): boolean {
  for (let i = 0; i < ping.length; i++) if (bytes[from + i] !== ping[i]) return false;
  return true;
}
