/**
 * Messages of HTTP/2 as HTTP/1 heads (RFC 9113 section 8). Their fields are judged already (head.ts): names are tokens, no value has a
 * byte that ends a line, and `:authority` says what Host said. What ../write.ts leaves out or writes anew for HTTP/1, this does
 * too: l5d-*, framing, Host, TE.
 */
import { BYTE, latin1 } from '../bytes.ts';
import { FRAMING } from '../head.ts';
import { FIELD, METHOD } from '../names.ts';
import { statusLine } from '../reasons.ts';
import {
  CRLF,
  connectionLines,
  HOST,
  LAST_CHUNK,
  OWN_BYTES,
  put,
  UPGRADE,
  VERSION_END,
  WriteOptions,
  writeFraming,
  writeHeadEnd,
} from '../write.ts';
import { type Field, type FieldList, H2_FIELD } from './field.ts';
import { isOriginalProtocol } from './original-protocol.ts';
import { WEBSOCKET_ACCEPT, WEBSOCKET_KEY, webSocketAccept } from './websocket.ts';

/** How to write the fields of HTTP/2 as a head. Reused: set all of it for each. */
export class LineOptions extends WriteOptions {
  /**
   * A WebSocket handshake (RFC 8441 section 5), and the key of its HTTP/1 side: the extended CONNECT becomes a GET that asks for the
   * upgrade with this key, the 2xx that answers one becomes 101 with what answers this key. `connection` must be `upgrade`.
   */
  webSocketKey: Uint8Array | null = null;
}

// Imported bindings are loaded at every use, constants of this module are compiled in (see ../fields.ts).
const { colon: COLON, space: SPACE, cr: CR, lf: LF } = BYTE;
const {
  method: METHOD_FIELD,
  authority: AUTHORITY,
  path: PATH,
  status: STATUS,
  cookie: COOKIE_FIELD,
  firstRegular: FIRST_REGULAR,
} = H2_FIELD;
const putShort = put;

const NOTHING: Uint8Array = new Uint8Array(0);
const GET = latin1('GET');
const CONNECT = latin1('CONNECT');
const COOKIE = latin1('cookie: ');
const CRUMB = latin1('; ');
const WEBSOCKET = latin1('websocket');
const KEY_LINE = latin1('Sec-WebSocket-Key: ');
const ACCEPT_LINE = latin1('Sec-WebSocket-Accept: ');

/** What becomes of a field, by its id. */
const FATE = { line: 0, dropped: 1, cookies: 2, mesh: 3 } as const;
const { line: LINE, dropped: DROPPED, cookies: COOKIES, mesh: MESH } = FATE;

/** Those that are judged, or written anew, or that HTTP/2 has instead of a start line. */
const RESPONSE_FATES = new Uint8Array(256).fill(DROPPED, METHOD_FIELD, FIRST_REGULAR);
for (const id of [
  FIELD.connection,
  FIELD.contentLength,
  FIELD.transferEncoding,
  FIELD.upgrade,
  FIELD.te,
  FIELD.keepAlive,
  FIELD.proxyConnection,
  FIELD.framingAlias,
])
  RESPONSE_FATES[id] = DROPPED;
// Those that the sender may not send are not in the list any more.
RESPONSE_FATES[FIELD.mesh] = MESH;

const REQUEST_FATES = RESPONSE_FATES.slice();
REQUEST_FATES[FIELD.host] = REQUEST_FATES[FIELD.mesh] = DROPPED;
REQUEST_FATES[COOKIE_FIELD] = COOKIES;

/** Names with a meaning for the head have none in trailers (RFC 9110 section 6.5.1): as dropForbiddenTrailers for HTTP/1. */
const TRAILER_FATES = new Uint8Array(256).fill(DROPPED, 0, FIRST_REGULAR);
TRAILER_FATES[FIELD.other] = LINE;

/** Up to this length a loop costs less than a call out of JavaScript; measured. */
const SHORT_BYTES = 16;

/** How many bytes writeRequestFields or writeResponseFields can need at most: reserve them. */
export function fieldsRoom(list: FieldList, options: LineOptions): number {
  const given = (options.path?.length ?? 0) + (options.host?.length ?? 0) + (options.extra?.length ?? 0);
  // A line has four bytes more than name and value, a size of RFC 7541 has 32 more.
  return list.size + given + OWN_BYTES;
}

/**
 * Writes a request head. Cookies come in one field, as HTTP/1 has them (RFC 9113 section 8.2.3).
 * @param into with fieldsRoom bytes behind `at`
 * @returns the offset behind it
 */
export function writeRequestFields(
  list: FieldList,
  options: LineOptions,
  into: Uint8Array,
  at: number,
): number {
  const { webSocketKey } = options;
  let to = writeStart(list, options, into, at);
  to = writeLines(list, REQUEST_FATES, webSocketKey === null ? null : WEBSOCKET_KEY, into, to);
  to = writeFraming(options, into, to);
  to = putShort(into, to, connectionLines(options.connection, hasTe(list)));
  if (webSocketKey !== null) to = writeUpgrade(KEY_LINE, webSocketKey, into, to);
  return writeHeadEnd(options, into, to);
}

/** Writes a response head, with the reason that is usual for its status; as writeRequestFields. */
export function writeResponseFields(
  list: FieldList,
  options: LineOptions,
  into: Uint8Array,
  at: number,
): number {
  const { webSocketKey } = options;
  let to = putShort(into, at, statusLine(webSocketKey === null ? statusOf(list) : 101));
  to = writeLines(list, RESPONSE_FATES, webSocketKey === null ? null : WEBSOCKET_ACCEPT, into, to);
  to = writeFraming(options, into, to);
  to = putShort(into, to, connectionLines(options.connection, false));
  if (webSocketKey !== null) to = writeUpgrade(ACCEPT_LINE, webSocketAccept(webSocketKey), into, to);
  return writeHeadEnd(options, into, to);
}

/** Writes the end of a chunked body: the last chunk, the trailers that may be there, the blank line. At most `fieldTrailersRoom` bytes. */
export function writeFieldTrailers(list: FieldList, into: Uint8Array, at: number): number {
  const { items, count } = list;
  let to = putShort(into, at, LAST_CHUNK);
  for (let i = 0; i < count; i++) if (TRAILER_FATES[items[i].id] === LINE) to = putLine(items[i], into, to);
  return putShort(into, to, CRLF);
}

/** How many bytes writeFieldTrailers can need. */
export function fieldTrailersRoom(list: FieldList): number {
  return list.size + LAST_CHUNK.length + CRLF.length;
}

/**
 * How HTTP/1 is told where the body of a request ends that came on HTTP/2: one of FRAMING.
 * @param method METHOD number; @param contentLength as announced, -1: it was not; @param end nothing comes behind the head
 */
export function requestFraming(method: number, contentLength: number, end: boolean): number {
  if (method === METHOD.connect) return FRAMING.none;
  if (contentLength >= 0) return FRAMING.length;
  return end ? FRAMING.none : FRAMING.chunked;
}

/**
 * How an HTTP/1.`minor` client is told where the body of a response ends that came on HTTP/2: one of FRAMING. `length` where none was
 * announced means 0; `none` where there is a body: it ends with the connection.
 */
export function responseFraming(
  method: number,
  status: number,
  contentLength: number,
  end: boolean,
  minor: number,
): number {
  if (status < 200 || status === 204 || (method === METHOD.connect && status < 300)) return FRAMING.none;
  if (contentLength >= 0) return FRAMING.length;
  if (method === METHOD.head || status === 304) return FRAMING.none;
  if (end) return FRAMING.length;
  return minor === 1 ? FRAMING.chunked : FRAMING.none;
}

/** The value of `:status` as a number; 0 when there is none. */
function statusOf({ items, count }: FieldList): number {
  if (count === 0 || items[0].id !== STATUS) return 0;
  const { value } = items[0];
  return value.length === 3 ? value[0] * 100 + value[1] * 10 + value[2] - 0x30 * 111 : 0;
}

/** The request line and Host. */
function writeStart(list: FieldList, options: LineOptions, into: Uint8Array, at: number): number {
  const { items, count } = list;
  let method = NOTHING;
  let authority = NOTHING;
  let path = NOTHING;
  for (let i = 0; i < count; i++) {
    const { id, value } = items[i];
    if (id === METHOD_FIELD) method = value;
    else if (id === AUTHORITY) authority = value;
    else if (id === PATH) path = value;
    else if (id < METHOD_FIELD || id >= FIRST_REGULAR) break;
  }
  if (authority.length === 0) authority = options.host ?? NOTHING;
  if (options.webSocketKey !== null) method = GET;
  // CONNECT without a protocol has no path.
  const target = path.length === 0 && isSame(method, CONNECT) ? authority : (options.path ?? path);
  let to = putShort(into, at, method);
  into[to++] = SPACE;
  to = putBytes(into, to, target);
  to = putShort(into, to, VERSION_END);
  to = putShort(into, to, HOST);
  to = putBytes(into, to, authority);
  return putShort(into, to, CRLF);
}

function writeLines(
  list: FieldList,
  fates: Uint8Array,
  except: Uint8Array | null,
  into: Uint8Array,
  at: number,
): number {
  const { items, count } = list;
  let to = at;
  let cookies = false;
  for (let i = 0; i < count; i++) {
    const field = items[i];
    const fate = fates[field.id];
    if (fate === LINE) {
      if (except === null || !isSame(field.name, except)) to = putLine(field, into, to);
    } else if (fate === COOKIES) {
      if (!cookies) to = writeCookies(list, i, into, to);
      cookies = true;
    } else if (fate === MESH && !isOriginalProtocol(field)) {
      to = putLine(field, into, to);
    }
  }
  return to;
}

/** All cookies in one field; `first` is the index of the first. Empty ones would only leave blanks, which no reader keeps. */
function writeCookies({ items, count }: FieldList, first: number, into: Uint8Array, at: number): number {
  const start = putShort(into, at, COOKIE);
  let to = start;
  for (let i = first; i < count; i++) {
    const { id, value } = items[i];
    if (id !== COOKIE_FIELD || value.length === 0) continue;
    if (to > start) to = putShort(into, to, CRUMB);
    to = putBytes(into, to, value);
  }
  return putShort(into, to, CRLF);
}

function writeUpgrade(line: Uint8Array, value: Uint8Array, into: Uint8Array, at: number): number {
  let to = putShort(into, putShort(into, at, UPGRADE), WEBSOCKET);
  to = putShort(into, putShort(into, to, CRLF), line);
  return putShort(into, putShort(into, to, value), CRLF);
}

function putLine({ name, value }: Field, into: Uint8Array, at: number): number {
  let to = putBytes(into, at, name);
  into[to++] = COLON;
  into[to++] = SPACE;
  to = putBytes(into, to, value);
  into[to++] = CR;
  into[to++] = LF;
  return to;
}

function putBytes(into: Uint8Array, at: number, bytes: Uint8Array): number {
  const { length } = bytes;
  if (length > SHORT_BYTES) into.set(bytes, at);
  else for (let i = 0; i < length; i++) into[at + i] = bytes[i];
  return at + length;
}

/** `te` can only be `trailers`. */
function hasTe({ items, count }: FieldList): boolean {
  for (let i = 0; i < count; i++) if (items[i].id === FIELD.te) return true;
  return false;
}

function isSame(bytes: Uint8Array, word: Uint8Array): boolean {
  return bytes.length === word.length && Buffer.compare(bytes, word) === 0;
}
