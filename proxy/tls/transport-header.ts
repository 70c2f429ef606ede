/**
 * The transport header of the Linkerd data plane: what a client says inside mutual TLS to the port of a proxy, so that the
 * proxy knows which port of the application is meant. A preface, a length (u32, big-endian) and a protobuf message:
 *
 * ```
 * message Header { int32 port = 1; string name = 2; SessionProtocol session_protocol = 3; }
 * message SessionProtocol { oneof kind { Http1 http_1 = 1; Http2 http_2 = 2; } }
 * ```
 */

/** The application protocol (ALPN) that announces a transport header. */
export const TRANSPORT_ALPN = 'transport.l5d.io/v1';

/** What a header says. */
export interface TransportHeader {
  /** Of the application, 1 to 65535. */
  readonly port: number;
  /** A destination behind a gateway; absent for the application itself. */
  readonly name?: string;
  /** What is spoken behind the header; absent for opaque bytes. */
  readonly sessionProtocol?: 'http/1' | 'http/2';
}

/** What bytes so far turned out to be. */
export type TransportHeaderRead =
  | { readonly kind: 'more' }
  /** `length`: bytes of the header; the application's begin behind them. */
  | { readonly kind: 'header'; readonly header: TransportHeader; readonly length: number }
  | { readonly kind: 'malformed'; readonly why: string };

const PREFACE = Buffer.from(`${TRANSPORT_ALPN}\r\n\r\n`, 'latin1');

/** The longest message in bytes: Linkerd's limit. */
const MAX_MESSAGE_BYTES = 64 * 1024;

/** Field numbers of Header and of SessionProtocol. */
const FIELD = { port: 1, name: 2, sessionProtocol: 3 } as const;
const PROTOCOL = { http1: 1, http2: 2 } as const;

/** Wire types of protobuf. */
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** The bytes of a header. */
export function encodeTransportHeader(header: TransportHeader): Uint8Array {
  const message = [tag(FIELD.port, WIRE.varint), ...varint(header.port)];
  if (header.name !== undefined) {
    const name = Buffer.from(header.name, 'utf8');
    message.push(tag(FIELD.name, WIRE.bytes), ...varint(name.length), ...name);
  }
  if (header.sessionProtocol !== undefined) {
    const kind = header.sessionProtocol === 'http/1' ? PROTOCOL.http1 : PROTOCOL.http2;
    message.push(tag(FIELD.sessionProtocol, WIRE.bytes), 2, tag(kind, WIRE.bytes), 0);
  }
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  return Buffer.concat([PREFACE, length, Uint8Array.from(message)]);
}

/** Reads a header from the start of `bytes`. */
export function readTransportHeader(bytes: Uint8Array): TransportHeaderRead {
  const compared = Math.min(bytes.length, PREFACE.length);
  if (PREFACE.compare(bytes, 0, compared, 0, compared) !== 0) return malformed('it does not begin like one');
  const start = PREFACE.length + 4;
  if (bytes.length < start) return { kind: 'more' };
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = view.getUint32(PREFACE.length);
  if (length > MAX_MESSAGE_BYTES) return malformed(`it is ${length} bytes long`);
  if (bytes.length < start + length) return { kind: 'more' };
  const header = readMessage(bytes.subarray(start, start + length));
  return typeof header === 'string' ? malformed(header) : { kind: 'header', header, length: start + length };
}

function readMessage(message: Uint8Array): TransportHeader | string {
  const fields = readFields(message);
  if (fields === undefined) return 'its message cannot be read';
  let port = 0;
  let name: string | undefined;
  let sessionProtocol: TransportHeader['sessionProtocol'];
  for (const { number, value } of fields) {
    if (number === FIELD.port) {
      if (typeof value !== 'number') return 'its port is no number';
      port = value;
    } else if (number === FIELD.name) {
      if (!(value instanceof Uint8Array)) return 'its name is no text';
      name = utf8(value);
      if (name === undefined) return 'its name is no UTF-8';
    } else if (number === FIELD.sessionProtocol) {
      const kinds = value instanceof Uint8Array ? readFields(value) : undefined;
      if (kinds === undefined) return 'its session protocol cannot be read';
      for (const kind of kinds) {
        if (kind.number > PROTOCOL.http2) continue;
        // The kinds are messages, empty today; what is in them may be unknown and must be readable.
        const readable = kind.value instanceof Uint8Array && readFields(kind.value) !== undefined;
        if (!readable) return 'its session protocol cannot be read';
        if (kind.number === PROTOCOL.http1) sessionProtocol = 'http/1';
        if (kind.number === PROTOCOL.http2) sessionProtocol = 'http/2';
      }
    }
  }
  if (port < 1 || port > 65_535) return `its port is ${port}`;
  return {
    port,
    ...(name === undefined ? {} : { name }),
    ...(sessionProtocol === undefined ? {} : { sessionProtocol }),
  };
}

interface Field {
  readonly number: number;
  /** Varints as numbers, what has a length as its bytes; undefined for fixed sizes, which no field we know has. */
  readonly value: number | Uint8Array | undefined;
}

/** The fields of a message in order, unknown ones included; undefined when it is malformed. */
function readFields(message: Uint8Array): Field[] | undefined {
  const fields: Field[] = [];
  for (let at = 0; at < message.length; ) {
    const key = readVarint(message, at);
    if (key === undefined || key.value > 0xffffffff || key.value < 8) return undefined;
    at = key.next;
    const number = Math.floor(key.value / 8);
    const wire = key.value % 8;
    if (wire === WIRE.varint) {
      const read = readVarint(message, at);
      if (read === undefined) return undefined;
      fields.push({ number, value: read.value });
      at = read.next;
      continue;
    }
    let length = wire === WIRE.fixed64 ? 8 : 4;
    if (wire === WIRE.bytes) {
      const read = readVarint(message, at);
      if (read === undefined) return undefined;
      length = read.value;
      at = read.next;
    } else if (wire !== WIRE.fixed64 && wire !== WIRE.fixed32) {
      return undefined;
    }
    if (length > message.length - at) return undefined;
    fields.push({ number, value: wire === WIRE.bytes ? message.subarray(at, at + length) : undefined });
    at += length;
  }
  return fields;
}

/** A varint of at most ten bytes. Values past 2^53 lose digits; every one that is used is far below. */
function readVarint(bytes: Uint8Array, from: number): { value: number; next: number } | undefined {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[from + i];
    // Ten bytes hold 70 bits, and a varint has 64.
    if (byte === undefined || (i === 9 && byte > 1)) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, next: from + i + 1 };
  }
  return undefined;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

function tag(field: number, wire: number): number {
  return (field << 3) | wire;
}

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // Not UTF-8 is all that decode() throws for, and the caller says so.
    return undefined;
  }
}

function malformed(why: string): TransportHeaderRead {
  return { kind: 'malformed', why };
}
