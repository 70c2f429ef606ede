/**
 * The service of the gRPC interoperability tests (grpc.testing.TestService, messages.proto) without generated code: messages are
 * bytes to both stacks under test, written and read here.
 */

const SERVICE = '/grpc.testing.TestService';

/** Paths of the methods; those of `Witness` are ours. */
export const METHODS = {
  emptyCall: `${SERVICE}/EmptyCall`,
  unaryCall: `${SERVICE}/UnaryCall`,
  streamingInput: `${SERVICE}/StreamingInputCall`,
  streamingOutput: `${SERVICE}/StreamingOutputCall`,
  fullDuplex: `${SERVICE}/FullDuplexCall`,
  /** Of the service, which its server does not have. */
  unimplemented: `${SERVICE}/UnimplementedCall`,
  unimplementedService: '/grpc.testing.UnimplementedService/UnimplementedCall',
  /** How many calls with the same `ECHOED.initial` ended before the server had finished them. */
  cancellations: '/ferrule.testing.Witness/Cancellations',
  /** Milliseconds until the deadline of this very call, as the server knows it; 0 without one. */
  deadline: '/ferrule.testing.Witness/Deadline',
} as const;

/** Metadata that the server sends back, at the start and at the end of its answer. */
export const ECHOED = {
  initial: 'x-grpc-test-echo-initial',
  trailing: 'x-grpc-test-echo-trailing-bin',
} as const;

/** What is asked of the server: UnaryCall, StreamingOutputCall, FullDuplexCall. */
export interface AskedAnswer {
  /** Bytes of the payload of each message of the answer. */
  readonly sizes: readonly number[];
  readonly payload?: Buffer;
  /** The status to end with. */
  readonly status?: { readonly code: number; readonly message: string };
}

/** A varint, or bytes; protocol buffers write neither 0 nor nothing. */
type Field = number | Buffer;

/** Of each period the payload repeats itself; with a step that is odd, all values of a byte come in it. */
const PERIOD = 256;
const STEP = 7;

/** The payload of `size` bytes, which differs from that of other sizes from the first byte. */
export function payloadOf(size: number): Buffer {
  const period = Buffer.from(Array.from({ length: PERIOD }, (_, index) => (index * STEP + size) % PERIOD));
  return Buffer.alloc(size, period);
}

/** SimpleRequest. */
export function simpleRequest({ sizes, payload, status }: AskedAnswer): Buffer {
  return message([2, sizes[0] ?? 0], [3, payloadField(payload)], [7, statusField(status)]);
}

/** StreamingOutputCallRequest. */
export function streamingRequest({ sizes, payload, status }: AskedAnswer): Buffer {
  const parameters = sizes.map((size): [number, Buffer] => [2, message([1, size])]);
  return message(...parameters, [3, payloadField(payload)], [7, statusField(status)]);
}

/** @param isStream whether it is a StreamingOutputCallRequest, not a SimpleRequest */
export function readRequest(bytes: Buffer, isStream: boolean): AskedAnswer {
  const { 2: sizes = [], 3: payloads = [], 7: statuses = [] } = fieldsOf(bytes);
  const status = statuses.map((field) => fieldsOf(field as Buffer))[0];
  return {
    sizes: isStream ? sizes.map((field) => numberIn(field as Buffer)) : (sizes as number[]),
    payload: payloadIn(payloads),
    ...(status && { status: { code: status[1][0] as number, message: String(status[2]?.[0] ?? '') } }),
  };
}

/** SimpleResponse, StreamingInputCallRequest and StreamingOutputCallResponse: a payload and nothing else. */
export function payloadMessage(payload: Buffer): Buffer {
  return message([1, payloadField(payload)]);
}

/** The payload of one of those. */
export function readPayload(bytes: Buffer): Buffer {
  return payloadIn(fieldsOf(bytes)[1] ?? []);
}

/** StreamingInputCallResponse, and the answers of `Witness`: one number from 0 to 2^31 - 1. */
export function numberMessage(value: number): Buffer {
  return message([1, value]);
}

/** The number of one of those. */
export function numberIn(bytes: Buffer): number {
  return (fieldsOf(bytes)[1]?.[0] as number | undefined) ?? 0;
}

function payloadField(payload: Buffer = Buffer.alloc(0)): Buffer {
  return message([2, payload]);
}

function payloadIn(fields: readonly Field[]): Buffer {
  return fields.length === 0
    ? Buffer.alloc(0)
    : ((fieldsOf(fields[0] as Buffer)[2]?.[0] as Buffer) ?? Buffer.alloc(0));
}

function statusField(status: AskedAnswer['status']): Buffer {
  return status === undefined ? Buffer.alloc(0) : message([1, status.code], [2, Buffer.from(status.message)]);
}

/** Wire types of protocol buffers. */
const VARINT = 0;
const LENGTH_DELIMITED = 2;

function message(...fields: readonly (readonly [number, Field])[]): Buffer {
  const parts = fields.flatMap(([number, value]) => {
    if (typeof value === 'number') return value === 0 ? [] : [varint(number * 8 + VARINT), varint(value)];
    return value.length === 0 ? [] : [varint(number * 8 + LENGTH_DELIMITED), varint(value.length), value];
  });
  return Buffer.concat(parts);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
}

/** All values of each field, by its number. @throws RangeError for what ends in the middle of a field */
function fieldsOf(bytes: Buffer): Record<number, Field[]> {
  const fields: Record<number, Field[]> = {};
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes.readUInt8(at++);
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  };
  while (at < bytes.length) {
    const key = next();
    const number = key >>> 3;
    const size = next();
    const isVarint = (key & 7) === VARINT;
    if (!isVarint && at + size > bytes.length)
      throw new RangeError(`a field of ${size} bytes at ${at} of ${bytes.length}`);
    fields[number] ??= [];
    fields[number].push(isVarint ? size : bytes.subarray(at, at + size));
    if (!isVarint) at += size;
  }
  return fields;
}
