/**
 * gRPC's own words in HTTP/2 messages: what is a call, when it is due, how it ended. Sources: PROTOCOL-HTTP2.md, statuscodes.md and
 * http-grpc-status-mapping.md of the gRPC project.
 */
import { BYTE, latin1 } from './bytes.ts';
import { type Field, type FieldList, H2_FIELD } from './h2/field.ts';
import { fieldOf } from './h2/interning.ts';

/** Status codes. */
export const GRPC = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

/** By code, as clients print them. */
export const GRPC_NAMES: readonly string[] = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { contentType: CONTENT_TYPE, grpcTimeout: GRPC_TIMEOUT, grpcStatus: GRPC_STATUS } = H2_FIELD;
const { zero: ZERO, nine: NINE, semicolon: SEMICOLON } = BYTE;
const PLUS = 0x2b;
const MEDIA_TYPE = latin1('application/grpc');

/** Most digits of a timeout, and the largest number they say. */
const MAX_TIMEOUT_DIGITS = 8;
const MAX_TIMEOUT = 99_999_999;

/** The units a timeout is written in, finest first, in milliseconds. Nanoseconds are read only: no clock here has them. */
const WRITTEN_UNITS: readonly (readonly [unit: string, ms: number])[] = [
  ['u', 0.001],
  ['m', 1],
  ['S', 1000],
  ['M', 60_000],
  ['H', 3_600_000],
];

/** Milliseconds by the byte of a unit; 0 for bytes that are none. */
const UNIT_MS = new Float64Array(256);
for (const [unit, ms] of [['n', 0.000_001] as const, ...WRITTEN_UNITS]) UNIT_MS[unit.charCodeAt(0)] = ms;

/**
 * Whether a request or response is gRPC: its content type is `application/grpc`, alone or followed by `+` and a message format or by
 * parameters. In lower case only, as every implementation sends it; `application/grpc-web` is another protocol.
 */
export function isGrpc(list: FieldList): boolean {
  const field = firstOf(list, CONTENT_TYPE);
  if (field === undefined) return false;
  const { value } = field;
  if (value.length < MEDIA_TYPE.length) return false;
  for (let i = 0; i < MEDIA_TYPE.length; i++) if (value[i] !== MEDIA_TYPE[i]) return false;
  if (value.length === MEDIA_TYPE.length) return true;
  const next = value[MEDIA_TYPE.length];
  return next === PLUS || next === SEMICOLON;
}

/** When a call is due, in milliseconds from when it was sent, 0 to 3.6e14; -1 when its request says nothing that can be read. */
export function grpcTimeoutMs(list: FieldList): number {
  const field = firstOf(list, GRPC_TIMEOUT);
  return field === undefined ? -1 : readTimeout(field.value);
}

/**
 * Says in a request how much of its deadline is left, in place of what it said; nothing where it said nothing.
 * @param ms 0 and more
 */
export function renewGrpcTimeout(list: FieldList, ms: number): void {
  const { items, count } = list;
  for (let i = 0; i < count; i++) {
    if (items[i].id !== GRPC_TIMEOUT) continue;
    const left = fieldOf('grpc-timeout', timeoutText(ms));
    list.size += left.size - items[i].size;
    items[i] = left;
  }
}

/** Milliseconds of a `grpc-timeout` value: one to eight digits and a unit. -1: it is none. */
export function readTimeout(value: Uint8Array): number {
  const digits = value.length - 1;
  if (digits < 1 || digits > MAX_TIMEOUT_DIGITS || UNIT_MS[value[digits]] === 0) return -1;
  let count = 0;
  for (let i = 0; i < digits; i++) {
    if (value[i] < ZERO || value[i] > NINE) return -1;
    count = count * 10 + value[i] - ZERO;
  }
  return count * UNIT_MS[value[digits]];
}

/**
 * A `grpc-timeout` value for what is left of a deadline: in the finest unit that has room for it, rounded up and at least 1, since
 * it must be positive. What is longer than 99,999,999 hours becomes that.
 * @param ms 0 and more
 */
export function timeoutText(ms: number): string {
  for (const [unit, unitMs] of WRITTEN_UNITS) {
    const count = Math.max(1, Math.ceil(ms / unitMs));
    if (count <= MAX_TIMEOUT) return `${count}${unit}`;
  }
  return `${MAX_TIMEOUT}H`;
}

/**
 * How a call ended by its trailers, or by a response that is only trailers: a code of GRPC; `unknown` for values that are no code,
 * as clients take them; -1 when nothing is said.
 */
export function grpcStatus(list: FieldList): number {
  const field = firstOf(list, GRPC_STATUS);
  if (field === undefined) return -1;
  const { value } = field;
  if (value.length === 0 || value.length > 2) return GRPC.unknown;
  let code = 0;
  for (let i = 0; i < value.length; i++) {
    if (value[i] < ZERO || value[i] > NINE) return GRPC.unknown;
    code = code * 10 + value[i] - ZERO;
  }
  return code <= GRPC.unauthenticated ? code : GRPC.unknown;
}

/** The code that clients give to a response without `grpc-status`, by its HTTP status. */
export function codeOfHttpStatus(status: number): number {
  switch (status) {
    case 400:
    case 431:
      return GRPC.internal;
    case 401:
      return GRPC.unauthenticated;
    case 403:
      return GRPC.permissionDenied;
    case 404:
      return GRPC.unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return GRPC.unavailable;
    default:
      return GRPC.unknown;
  }
}

/** By HTTP/2 error code (RFC 9113 section 7), for those that do not mean INTERNAL. */
const CODES_OF_RESETS: ReadonlyMap<number, number> = new Map([
  [0x7, GRPC.unavailable],
  [0x8, GRPC.cancelled],
  [0xb, GRPC.resourceExhausted],
  [0xc, GRPC.permissionDenied],
]);

/** The code that clients give to a call whose stream was reset, by the error code of the RST_STREAM frame. */
export function codeOfReset(errorCode: number): number {
  return CODES_OF_RESETS.get(errorCode) ?? GRPC.internal;
}

/** A text as `grpc-message` has it: UTF-8, percent-encoded but for visible ASCII and the space; a percent sign is encoded too. */
export function percentEncoded(text: string): string {
  return text.replaceAll(/[^\x20-\x24\x26-\x7e]+/g, (odd) =>
    Array.from(
      Buffer.from(odd, 'utf8'),
      (byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    ).join(''),
  );
}

function firstOf({ items, count }: FieldList, id: number): Field | undefined {
  for (let i = 0; i < count; i++) if (items[i].id === id) return items[i];
  return undefined;
}
