/**
 * HTTP/1 heads as the fields of HTTP/2 (RFC 9113 section 8). What belongs to the hop is left out by what the readers of HTTP/1 marked
 * as dropped; Content-Length is said again as it was judged, and chunks need no word.
 */
import { BYTE, equalsFolded, LOWER } from '../bytes.ts';
import type { FieldIndex } from '../fields.ts';
import { FRAMING, type Head, PROTOCOL } from '../head.ts';
import { FIELD, METHOD } from '../names.ts';
import type { Field, FieldList, FieldName } from './field.ts';
import { fieldOf, internValue } from './interning.ts';
import { fieldOfLine, fieldOfValue } from './line-memory.ts';
import { originalProtocol } from './original-protocol.ts';
import { WEBSOCKET_ACCEPT, WEBSOCKET_KEY } from './websocket.ts';

/** How to send a head of HTTP/1 as one of HTTP/2. Reused: set all of it for each. */
export class FieldOptions {
  /** Requests: the host for one that names none. */
  host: Uint8Array | null = null;
  /** The receiver is a peer that is to know that this was HTTP/1: a request that goes to one, a response that one asked for. */
  original = false;
  /**
   * A WebSocket handshake (RFC 8441 section 5): the request with `Upgrade: websocket` becomes an extended CONNECT, the 101 that
   * answers one becomes 200.
   */
  webSocket = false;
}

// Imported bindings are loaded at every use, constants of this module are compiled in (see ../fields.ts).
const { host: HOST, contentLength: CONTENT_LENGTH } = FIELD;
const { slash: SLASH, zero: ZERO } = BYTE;

const AUTHORITY: FieldName = fieldOf(':authority', '').label;
const PATH: FieldName = fieldOf(':path', '/').label;
const METHOD_NAME: FieldName = fieldOf(':method', 'GET').label;
const LENGTH: FieldName = fieldOf('content-length', '').label;

/** An application's own requests are `http`, also those that sidecars exchange in TLS. */
const SCHEME_HTTP = fieldOf(':scheme', 'http');
const ASTERISK = fieldOf(':path', '*');
const PROTOCOL_WEBSOCKET = fieldOf(':protocol', 'websocket');
const TE_TRAILERS = fieldOf('te', 'trailers');

/** By METHOD number; `other` has none. */
const METHODS: Field[] = [];
for (const [name, method] of Object.entries(METHOD)) METHODS[method] = fieldOf(':method', name.toUpperCase());

/** By status, made when it first comes. */
const STATUSES = Array.from<Field | undefined>({ length: 1000 });

/** The fields of a request, in place of what `into` had. For HTTP/1 CONNECT those of HTTP/2 CONNECT (RFC 9113 section 8.5). */
export function requestFields(head: Head, options: FieldOptions, into: FieldList): void {
  into.clear();
  pushMethod(head, options, into);
  if (head.form !== 'authority') into.push(SCHEME_HTTP);
  pushAuthority(head, options, into);
  if (head.form !== 'authority') into.push(pathField(head));
  pushKept(head, options.webSocket ? WEBSOCKET_KEY : null, into, true);
  if (head.teTrailers) into.push(TE_TRAILERS);
  if (options.original) into.push(originalProtocol(head.minor, head.form === 'absolute'));
}

/** The fields of a response, interim ones too, in place of what `into` had. 101 has no place in HTTP/2 but for a WebSocket. */
export function responseFields(head: Head, options: FieldOptions, into: FieldList): void {
  into.clear();
  into.push(statusField(options.webSocket && head.status === 101 ? 200 : head.status));
  pushKept(head, options.webSocket ? WEBSOCKET_ACCEPT : null, into, false);
  if (options.original) into.push(originalProtocol(head.minor, false));
}

/** The fields of a trailer section, in place of what `into` had; there may be none. */
export function trailerFields(trailers: FieldIndex, into: FieldList): void {
  into.clear();
  const { bytes, fields, dropped, count } = trailers;
  const view = trailers.attach(bytes);
  for (let i = 0; i < count; i++) {
    if (dropped[i] !== 0) continue;
    const slot = 4 * i;
    into.push(fieldOfLine(bytes, view, fields[slot], fields[slot + 1], fields[slot + 2], fields[slot + 3]));
  }
}

/** The field `:status`; 100 to 999. */
export function statusField(status: number): Field {
  const known = STATUSES[status];
  if (known !== undefined) return known;
  const field = fieldOf(':status', String(status));
  STATUSES[status] = field;
  return field;
}

/** Whether a request asks for a WebSocket, in a way that HTTP/2 can ask for one. */
export function asksForWebSocket(head: Head): boolean {
  return head.upgrade && head.protocol === PROTOCOL.websocket && head.method === METHOD.get;
}

function pushMethod(head: Head, options: FieldOptions, into: FieldList): void {
  const { method } = head;
  if (options.webSocket) {
    into.push(METHODS[METHOD.connect]);
    into.push(PROTOCOL_WEBSOCKET);
  } else if (method !== METHOD.other) {
    into.push(METHODS[method]);
  } else {
    into.push(internValue(METHOD_NAME, head.bytes, head.start, head.methodEnd, false));
  }
}

/** A request that names no host, and for which none is known, has no `:authority` either. */
function pushAuthority(head: Head, options: FieldOptions, into: FieldList): void {
  const { bytes, authorityStart, authorityEnd } = head;
  if (authorityStart !== authorityEnd) {
    into.push(fieldOfValue(AUTHORITY, bytes, head.attach(bytes), authorityStart, authorityEnd));
  } else if (options.host !== null) {
    into.push(internValue(AUTHORITY, options.host, 0, options.host.length, false));
  }
}

function pathField(head: Head): Field {
  const { form, bytes, pathStart, pathEnd } = head;
  if (form === 'asterisk') return ASTERISK;
  if (pathStart !== pathEnd && bytes[pathStart] === SLASH) {
    return fieldOfValue(PATH, bytes, head.attach(bytes), pathStart, pathEnd);
  }
  // An absolute target without a path, perhaps with a query.
  const whole = new Uint8Array(1 + pathEnd - pathStart);
  whole[0] = SLASH;
  whole.set(bytes.subarray(pathStart, pathEnd), 1);
  return internValue(PATH, whole, 0, whole.length, false);
}

/** Pushes what is not dropped, and the length. `except`: a name in lower case that stays behind. */
function pushKept(head: Head, except: Uint8Array | null, into: FieldList, isRequest: boolean): void {
  const { bytes, fields, ids, dropped, count } = head;
  const view = head.attach(bytes);
  for (let i = 0; i < count; i++) {
    const slot = 4 * i;
    const id = ids[i];
    if (id === CONTENT_LENGTH) {
      if (head.framing === FRAMING.length) into.push(lengthField(bytes, fields[slot + 2], fields[slot + 3]));
      continue;
    }
    // `:authority` says what Host said (RFC 9113 section 8.3.1).
    if (dropped[i] !== 0 || (id === HOST && isRequest)) continue;
    if (except !== null && equalsFolded(bytes, fields[slot], fields[slot + 1], except, LOWER)) continue;
    into.push(fieldOfLine(bytes, view, fields[slot], fields[slot + 1], fields[slot + 2], fields[slot + 3]));
  }
}

/** Digits without zeros before them, which not all recipients read alike. */
function lengthField(bytes: Uint8Array, start: number, end: number): Field {
  let first = start;
  while (first < end - 1 && bytes[first] === ZERO) first++;
  return internValue(LENGTH, bytes, first, end, false);
}
