/** Recognises a TLS ClientHello and reads whom it is for (RFC 8446 section 4.1.2, RFC 6066 section 3), at any split. */

/** What bytes so far turned out to be. */
export type ClientHello =
  /** All of it fits a ClientHello; the rest is to come. */
  | { readonly kind: 'more' }
  | { readonly kind: 'not-tls' }
  /** `serverName` is in lower case; undefined when the client asks for nobody. */
  | { readonly kind: 'hello'; readonly serverName: string | undefined }
  | { readonly kind: 'malformed'; readonly why: string };

/**
 * The longest ClientHello read, in bytes. With two post-quantum key shares it is 2.5 KB; 64 KB leaves room for the sizes of
 * a decade and bounds what a stranger makes us keep.
 */
const MAX_HELLO_BYTES = 64 * 1024;

const RECORD_HEADER_BYTES = 5;
const MESSAGE_HEADER_BYTES = 4;
const RECORD_HANDSHAKE = 22;
const MESSAGE_CLIENT_HELLO = 1;
const EXTENSION_SERVER_NAME = 0;
const NAME_TYPE_HOST = 0;
/** RFC 8446 section 5.1: a record of the handshake carries 2^14 bytes at most. */
const MAX_RECORD_BYTES = 1 << 14;
/**
 * Records of a ClientHello: enough for today's largest byte by byte, and few enough that walking them again for every piece
 * that comes (some 10 us) is no way to keep a worker busy.
 */
const MAX_RECORDS = 4096;

const MORE: ClientHello = { kind: 'more' };
const NOT_TLS: ClientHello = { kind: 'not-tls' };

/** Reads a ClientHello from the start of `bytes`; what is behind it does not matter. */
export function readClientHello(bytes: Uint8Array): ClientHello {
  // Record type and version: a byte that does not fit settles it, so that plaintext never waits.
  if (bytes.length > 0 && bytes[0] !== RECORD_HANDSHAKE) return NOT_TLS;
  if (bytes.length > 1 && bytes[1] !== 3) return NOT_TLS;
  if (bytes.length > 2 && bytes[2] > 4) return NOT_TLS;
  if (bytes.length > RECORD_HEADER_BYTES && bytes[RECORD_HEADER_BYTES] !== MESSAGE_CLIENT_HELLO) {
    return malformed('the first message is no ClientHello');
  }
  const message = gather(bytes);
  return message instanceof Uint8Array ? parse(message) : message;
}

/** The handshake message without its header, out of as many records as it takes. */
function gather(bytes: Uint8Array): Uint8Array | ClientHello {
  let have = 0;
  let header = 0;
  let wanted = MESSAGE_HEADER_BYTES;
  // Nothing is copied before all of it is there: this runs again for every piece that comes.
  for (let at = 0, records = 1; ; records++) {
    if (bytes.length - at < RECORD_HEADER_BYTES) return MORE;
    if (bytes[at] !== RECORD_HANDSHAKE || bytes[at + 1] !== 3)
      return malformed('another record interrupts it');
    if (records > MAX_RECORDS) return malformed(`it is spread over more than ${MAX_RECORDS} records`);
    const length = (bytes[at + 3] << 8) | bytes[at + 4];
    if (length === 0 || length > MAX_RECORD_BYTES) return malformed(`a record of ${length} bytes`);
    at += RECORD_HEADER_BYTES;
    const end = Math.min(at + length, bytes.length);
    for (let i = at; i < end && have + i - at < MESSAGE_HEADER_BYTES; i++) header = (header << 8) | bytes[i];
    have += end - at;
    if (have >= MESSAGE_HEADER_BYTES) {
      const size = header & 0xffffff;
      if (size > MAX_HELLO_BYTES) return malformed(`it is ${size} bytes long`);
      wanted = MESSAGE_HEADER_BYTES + size;
      if (have >= wanted)
        return records === 1 ? bytes.subarray(at + MESSAGE_HEADER_BYTES, at + wanted) : join(bytes, wanted);
    }
    if (end < at + length) return MORE;
    at = end;
  }
}

/** The first `wanted` bytes of the records' contents, without the header of the message. */
function join(bytes: Uint8Array, wanted: number): Uint8Array {
  const message = new Uint8Array(wanted);
  for (let at = 0, have = 0; have < wanted; ) {
    const length = (bytes[at + 3] << 8) | bytes[at + 4];
    at += RECORD_HEADER_BYTES;
    message.set(bytes.subarray(at, at + Math.min(length, wanted - have)), have);
    have += length;
    at += length;
  }
  return message.subarray(MESSAGE_HEADER_BYTES);
}

function parse(message: Uint8Array): ClientHello {
  const reader = new Reader(message);
  reader.skip(2 + 32); // legacy_version, random
  reader.skip(reader.number(1)); // legacy_session_id
  reader.skip(reader.number(2)); // cipher_suites
  reader.skip(reader.number(1)); // legacy_compression_methods
  // Before TLS 1.3 there may be no extensions.
  if (reader.left === 0 && !reader.overrun) return { kind: 'hello', serverName: undefined };
  const length = reader.number(2);
  if (reader.overrun || length !== reader.left) return malformed('its fields do not fit its length');
  let serverName: string | undefined;
  while (reader.left > 0) {
    const type = reader.number(2);
    const size = reader.number(2);
    const extension = reader.take(size);
    if (reader.overrun) return malformed('its extensions do not fit its length');
    if (type !== EXTENSION_SERVER_NAME) continue;
    if (serverName !== undefined) return malformed('it has two server names');
    serverName = readServerName(extension);
    if (serverName === undefined) return malformed('its server name is malformed');
  }
  return { kind: 'hello', serverName };
}

/** The one host name of the extension; undefined when it is anything else. */
function readServerName(extension: Uint8Array): string | undefined {
  const reader = new Reader(extension);
  if (reader.number(2) !== reader.left || reader.number(1) !== NAME_TYPE_HOST) return undefined;
  const name = reader.take(reader.number(2));
  if (reader.overrun || reader.left > 0 || name.length === 0) return undefined;
  // Printable ASCII: what the field is defined to hold, and nothing that ends a string early elsewhere.
  if (name.some((byte) => byte <= 0x20 || byte >= 0x7f)) return undefined;
  return Buffer.from(name).toString('latin1').toLowerCase();
}

function malformed(why: string): ClientHello {
  return { kind: 'malformed', why };
}

/** Reads numbers and stretches; past the end it gives zeros and says so. */
class Reader {
  overrun = false;
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  skip(length: number): void {
    if (length > this.left) this.overrun = true;
    this.at = Math.min(this.at + length, this.bytes.length);
  }

  take(length: number): Uint8Array {
    const start = this.at;
    this.skip(length);
    return this.bytes.subarray(start, this.at);
  }

  number(size: 1 | 2): number {
    const piece = this.take(size);
    if (piece.length < size) return 0;
    return size === 1 ? piece[0] : (piece[0] << 8) | piece[1];
  }
}
