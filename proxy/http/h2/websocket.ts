/**
 * WebSocket handshakes between HTTP/1 (RFC 6455) and HTTP/2 (RFC 8441). HTTP/2 has neither key nor accept: towards HTTP/1 the proxy makes
 * a key and checks what comes back, towards HTTP/2 it answers the client's key itself.
 */
import { createHash, randomBytes } from 'node:crypto';
import { latin1 } from '../bytes.ts';
import type { FieldIndex } from '../fields.ts';

/** Sec-WebSocket-Key, in lower case. */
export const WEBSOCKET_KEY = latin1('sec-websocket-key');
/** Sec-WebSocket-Accept, in lower case. */
export const WEBSOCKET_ACCEPT = latin1('sec-websocket-accept');

/** 16 bytes in Base64 (RFC 6455 section 4.1). */
const KEY_LENGTH = 24;

/** What a server proves with that it knows the protocol (RFC 6455 section 1.3). */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** A key for a handshake of the proxy's own. */
export function makeWebSocketKey(): Uint8Array {
  return latin1(randomBytes(16).toString('base64'));
}

/** What a server answers to `key` (RFC 6455 section 4.2.2): 28 bytes. */
export function webSocketAccept(key: Uint8Array): Uint8Array {
  return latin1(createHash('sha1').update(key).update(GUID, 'latin1').digest('base64'));
}

/** A copy of the key of an HTTP/1 request; undefined when it has none of the right length: answer 400. */
export function webSocketKeyOf(head: FieldIndex): Uint8Array | undefined {
  const field = head.find(WEBSOCKET_KEY);
  if (field < 0) return undefined;
  const [start, end] = head.fields.subarray(4 * field + 2, 4 * field + 4);
  return end - start === KEY_LENGTH ? Uint8Array.prototype.slice.call(head.bytes, start, end) : undefined;
}

/** Whether an HTTP/1 response proves that its server took `key` for a WebSocket's; if not, it must not become one. */
export function isAccepted(head: FieldIndex, key: Uint8Array | undefined): boolean {
  const field = head.find(WEBSOCKET_ACCEPT);
  return (
    key !== undefined && field >= 0 && head.value(field) === String.fromCharCode(...webSocketAccept(key))
  );
}
