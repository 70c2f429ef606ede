/**
 * The fields that speak about this hop and about framing (RFC 9110 section 7.6.1, RFC 9112 sections 6 and 9), judged strictly:
 * where recipients have read one message in two ways, it is refused.
 *
 * Proxy-Authenticate and Proxy-Authorization stay: they are for the proxy that the application chose, which is behind a
 * transparent one (RFC 9110 section 11.7 lets a proxy relay them, and 7.6.1 does not list them). So does Trailer: trailers are forwarded.
 */
import { BYTE, equalsFolded, isBlank, LOWER, latin1, sameFolded, TOKEN } from './bytes.ts';
import { FRAMING, type Head, PROTOCOL } from './head.ts';
import { FIELD, fieldId } from './names.ts';
import { MAX_CONNECTION_OPTIONS, PROBLEM } from './problems.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const {
  other: OTHER,
  host: HOST,
  connection: CONNECTION,
  contentLength: CONTENT_LENGTH,
  transferEncoding: TRANSFER_ENCODING,
  upgrade: UPGRADE_FIELD,
  expect: EXPECT,
  te: TE,
  keepAlive: KEEP_ALIVE_FIELD,
  proxyConnection: PROXY_CONNECTION,
  mesh: MESH,
  framingAlias: FRAMING_ALIAS,
} = FIELD;
const { comma: COMMA, zero: ZERO, nine: NINE } = BYTE;
const { none: NO_FRAMING, length: LENGTH, chunked: CHUNKED_FRAMING } = FRAMING;
const tokens = TOKEN;
const lower = LOWER;

const CHUNKED = latin1('chunked');
const CLOSE = latin1('close');
const KEEP_ALIVE = latin1('keep-alive');
const UPGRADE = latin1('upgrade');
const TRAILERS = latin1('trailers');
const CONTINUE = latin1('100-continue');
const TIMEOUT = latin1('timeout=');
const WEBSOCKET = latin1('websocket');
const H2C = latin1('h2c');

/** 1 for the FIELD numbers of fields that end at this hop, or that write.ts writes anew. */
const ENDS_HERE = new Uint8Array(256);
for (const id of [
  CONNECTION,
  CONTENT_LENGTH,
  TRANSFER_ENCODING,
  UPGRADE_FIELD,
  TE,
  KEEP_ALIVE_FIELD,
  PROXY_CONNECTION,
])
  ENDS_HERE[id] = 1;

/**
 * Reads all fields that this codec acts on but Host, and marks those that are not forwarded. Needs `minor` and the fields.
 * @returns 0 or a negated PROBLEM
 */
export function readHopFields(head: Head): number {
  const { ids, dropped, count } = head;
  let lists = 0;
  for (let i = 0; i < count; i++) {
    const id = ids[i];
    if (id === OTHER) continue;
    dropped[i] = id === MESH && !head.keepMesh ? 1 : ENDS_HERE[id];
    if (id === CONNECTION) {
      if (!isKeepAliveAlone(head, i)) lists++;
      continue;
    }
    const problem = readField(head, i, id);
    if (problem !== 0) return problem;
  }
  if (head.framing === CHUNKED_FRAMING && head.minor === 0) return -PROBLEM.transferEncodingInHttp10;
  const problem = lists === 0 ? 0 : readConnection(head);
  if (head.minor === 0) {
    // An HTTP/1.0 peer speaks neither (RFC 9110 sections 7.8 and 10.1.1).
    head.upgrade = head.expectContinue = false;
    if (!head.keepAlive) head.close = true;
  } else if (head.upgradeStart === head.upgradeEnd) {
    head.upgrade = false;
  }
  return problem;
}

/** The Connection field that most clients send says nothing else, and needs no list to be read. */
function isKeepAliveAlone(head: Head, i: number): boolean {
  const { bytes, fields } = head;
  if (!equalsFolded(bytes, fields[4 * i + 2], fields[4 * i + 3], KEEP_ALIVE, lower)) return false;
  head.keepAlive = true;
  return true;
}

function readField(head: Head, i: number, id: number): number {
  const { bytes, fields } = head;
  const start = fields[4 * i + 2];
  const end = fields[4 * i + 3];
  switch (id) {
    case CONTENT_LENGTH:
      return readContentLength(head, start, end);
    case TRANSFER_ENCODING:
      return readTransferEncoding(head, start, end);
    case FRAMING_ALIAS:
      return -PROBLEM.framingAlias;
    case UPGRADE_FIELD:
      readUpgrade(head, start, end);
      return 0;
    case EXPECT:
      if (equalsFolded(bytes, start, end, CONTINUE, lower)) head.expectContinue = true;
      return 0;
    case TE:
      readTe(head, start, end);
      return 0;
    case KEEP_ALIVE_FIELD:
      readKeepAlive(head, start, end);
      return 0;
    default:
      return 0;
  }
}

/** Digits only, once: neither `+5`, `5, 5` nor two equal lines (HAProxy CVE-2023-40225 and many before it). */
function readContentLength(head: Head, start: number, end: number): number {
  if (head.contentLength >= 0) return -PROBLEM.contentLengthRepeated;
  if (head.framing === CHUNKED_FRAMING) return -PROBLEM.lengthAndChunked;
  if (start === end) return -PROBLEM.contentLength;
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = head.bytes[at];
    if (byte < ZERO || byte > NINE) return -PROBLEM.contentLength;
    length = length * 10 + byte - ZERO;
    if (length > Number.MAX_SAFE_INTEGER) return -PROBLEM.contentLength;
  }
  head.contentLength = length;
  head.framing = LENGTH;
  return 0;
}

/** `chunked` alone: no other coding is understood here, and no two recipients agree on odd spellings. */
function readTransferEncoding(head: Head, start: number, end: number): number {
  if (head.framing === LENGTH) return -PROBLEM.lengthAndChunked;
  const alone = head.framing === NO_FRAMING && equalsFolded(head.bytes, start, end, CHUNKED, lower);
  if (!alone) return -PROBLEM.transferEncoding;
  head.framing = CHUNKED_FRAMING;
  return 0;
}

function readUpgrade(head: Head, start: number, end: number): void {
  const several = head.upgradeStart !== head.upgradeEnd;
  if (several || start === end) {
    if (several) head.protocol = PROTOCOL.other;
    return;
  }
  head.upgradeStart = start;
  head.upgradeEnd = end;
  if (equalsFolded(head.bytes, start, end, WEBSOCKET, lower)) head.protocol = PROTOCOL.websocket;
  else if (equalsFolded(head.bytes, start, end, H2C, lower)) head.protocol = PROTOCOL.h2c;
  else head.protocol = PROTOCOL.other;
}

/** Looks for the member `trailers`; transfer codings it may also name are not for us to ask for. */
function readTe(head: Head, start: number, end: number): void {
  const { bytes } = head;
  for (let at = start; at < end; ) {
    const stop = memberEnd(bytes, at, end);
    if (equalsFolded(bytes, at, trimEnd(bytes, at, stop), TRAILERS, lower)) head.teTrailers = true;
    at = memberStart(bytes, stop, end);
  }
}

/** `timeout=5, max=100`: seconds, at most an hour is believed. */
function readKeepAlive(head: Head, start: number, end: number): void {
  const { bytes } = head;
  for (let at = start; at < end; ) {
    const stop = memberEnd(bytes, at, end);
    const digits = at + TIMEOUT.length;
    if (digits < stop && equalsFolded(bytes, at, digits, TIMEOUT, lower)) {
      let seconds = 0;
      for (let i = digits; i < stop && bytes[i] >= ZERO && bytes[i] <= NINE; i++) {
        seconds = Math.min(seconds * 10 + bytes[i] - ZERO, 3600);
      }
      head.keepAliveTimeoutMs = seconds * 1000;
    }
    at = memberStart(bytes, stop, end);
  }
}

/** Acts on every option of every Connection field. */
function readConnection(head: Head): number {
  const { bytes, fields, ids, count } = head;
  let options = 0;
  for (let i = 0; i < count; i++) {
    if (ids[i] !== CONNECTION) continue;
    const end = fields[4 * i + 3];
    for (let at = fields[4 * i + 2]; at < end; ) {
      const stop = memberEnd(bytes, at, end);
      const optionEnd = trimEnd(bytes, at, stop);
      if (++options > MAX_CONNECTION_OPTIONS) return -PROBLEM.tooManyConnectionOptions;
      const problem = optionEnd === at ? 0 : readOption(head, at, optionEnd);
      if (problem !== 0) return problem;
      at = memberStart(bytes, stop, end);
    }
  }
  return 0;
}

/**
 * Options are case-insensitive (Traefik CVE-2026-29054), and every other field they name is dropped. Naming Host or
 * Content-Length is refused: there is no honest sender, and proxies that obeyed lost their framing. Transfer-Encoding may be named,
 * as some large caches do: it is written anew whatever they say. Mesh fields cannot be removed so.
 */
function readOption(head: Head, start: number, end: number): number {
  const { bytes, fields, ids, dropped } = head;
  for (let at = start; at < end; at++) if (tokens[bytes[at]] === 0) return -PROBLEM.connection;
  if (equalsFolded(bytes, start, end, CLOSE, lower)) {
    head.close = true;
    return 0;
  }
  if (equalsFolded(bytes, start, end, KEEP_ALIVE, lower)) {
    head.keepAlive = true;
    return 0;
  }
  if (equalsFolded(bytes, start, end, UPGRADE, lower)) {
    head.upgrade = true;
    return 0;
  }
  const named = fieldId(bytes, start, end);
  if (named === HOST || named === CONTENT_LENGTH) return -PROBLEM.connectionNamesFraming;
  if (named === MESH) return 0;
  // Whoever is behind us does not see it, and would never say 100.
  if (named === EXPECT) head.expectContinue = false;
  for (let i = 0; i < head.count; i++) {
    if (ids[i] === named && sameFolded(bytes, start, end, fields[4 * i], fields[4 * i + 1])) dropped[i] = 1;
  }
  return 0;
}

/** The end of the list member that begins at `at`: a comma or the end. */
function memberEnd(bytes: Uint8Array, at: number, end: number): number {
  let stop = at;
  while (stop < end && bytes[stop] !== COMMA) stop++;
  return stop;
}

/** Where the member behind the comma at `stop` begins, or the end. */
function memberStart(bytes: Uint8Array, stop: number, end: number): number {
  let at = stop + 1;
  while (at < end && isBlank(bytes[at])) at++;
  return at;
}

function trimEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = end;
  while (at > start && isBlank(bytes[at - 1])) at--;
  return at;
}
