/** Frames of HTTP/2 as bytes (RFC 9113 sections 4, 6 and 7): numbers, the frame header, and the small frames. */

/** Frame types (RFC 9113 section 6); all others are ignored (section 5.5). */
export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Flags; what they mean depends on the type: `ack` and `endStream` are the same bit. */
export const FLAG = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** Error codes (RFC 9113 section 7), and one of our own that never travels. */
export const H2_ERROR = {
  noError: 0x0,
  protocolError: 0x1,
  internalError: 0x2,
  flowControlError: 0x3,
  settingsTimeout: 0x4,
  streamClosed: 0x5,
  frameSizeError: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compressionError: 0x9,
  connectError: 0xa,
  enhanceYourCalm: 0xb,
  inadequateSecurity: 0xc,
  http11Required: 0xd,
  /** The connection is gone, and nobody said why. */
  connectionLost: -1,
} as const;

/** Settings (RFC 9113 section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1). */
export const SETTING = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  enableConnectProtocol: 8,
  noRfc7540Priorities: 9,
} as const;

/** Length of a frame header. */
export const FRAME_HEADER_BYTES = 9;

/** SETTINGS_MAX_FRAME_SIZE before a peer says otherwise, and the least it may say. */
export const MIN_FRAME_SIZE = 16_384;

/** The most SETTINGS_MAX_FRAME_SIZE may be. */
export const MAX_FRAME_SIZE = 16_777_215;

/** Largest flow-control window, and largest stream identifier. */
export const MAX_31_BITS = 0x7fff_ffff;

/** Flow-control windows of a connection and its streams before anybody says otherwise (RFC 9113 section 6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;

/** What a client sends first (RFC 9113 section 3.4); its SETTINGS frame follows. */
export const PREFACE: Uint8Array = Uint8Array.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', (letter) =>
  letter.charCodeAt(0),
);

const NAMES: readonly string[] = [
  ...['NO_ERROR', 'PROTOCOL_ERROR', 'INTERNAL_ERROR', 'FLOW_CONTROL_ERROR', 'SETTINGS_TIMEOUT'],
  ...['STREAM_CLOSED', 'FRAME_SIZE_ERROR', 'REFUSED_STREAM', 'CANCEL', 'COMPRESSION_ERROR'],
  ...['CONNECT_ERROR', 'ENHANCE_YOUR_CALM', 'INADEQUATE_SECURITY', 'HTTP_1_1_REQUIRED'],
];

/** The name of an error code as in RFC 9113 section 7; unknown ones as their number. */
export function errorName(code: number): string {
  if (code === H2_ERROR.connectionLost) return 'connection lost';
  return NAMES[code] ?? `error ${code}`;
}

/** Writes a frame header. @returns the offset behind it */
export function writeFrameHeader(
  into: Uint8Array,
  at: number,
  length: number,
  type: number,
  flags: number,
  stream: number,
): number {
  into[at] = length >>> 16;
  into[at + 1] = length >>> 8;
  into[at + 2] = length;
  into[at + 3] = type;
  into[at + 4] = flags;
  return writeUint32(into, at + 5, stream);
}

/** Writes 32 bits, most significant byte first. @returns the offset behind them */
export function writeUint32(into: Uint8Array, at: number, value: number): number {
  into[at] = value >>> 24;
  into[at + 1] = value >>> 16;
  into[at + 2] = value >>> 8;
  into[at + 3] = value;
  return at + 4;
}

/** Writes one setting of a SETTINGS payload. @returns the offset behind it */
export function writeSetting(into: Uint8Array, at: number, setting: number, value: number): number {
  into[at] = setting >>> 8;
  into[at + 1] = setting;
  return writeUint32(into, at + 2, value);
}

/** Reads 31 bits, most significant byte first; the first bit is reserved and ignored. */
export function readUint31(bytes: Uint8Array, at: number): number {
  return ((bytes[at] & 0x7f) << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}

/** Reads 32 bits, most significant byte first. */
export function readUint32(bytes: Uint8Array, at: number): number {
  return readUint31(bytes, at) + (bytes[at] & 0x80) * 2 ** 24;
}
