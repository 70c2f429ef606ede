/** HTTP/2 by hand: frames as bytes, right or wrong, and a peer that says what it expects. */
import { FieldList } from '../../proxy/http/h2/field.ts';
import {
  errorName,
  FLAG,
  FRAME,
  PREFACE,
  readUint31,
  readUint32,
  writeFrameHeader,
  writeSetting,
  writeUint32,
} from '../../proxy/http/h2/frames.ts';
import { HpackDecoder } from '../../proxy/http/h2/hpack-decoder.ts';

/** A field of a message. */
export type PlainField = readonly [name: string, value: string];

/** A frame that has come. */
export interface PlainFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Uint8Array;
}

const { endStream: END_STREAM, endHeaders: END_HEADERS, ack: ACK } = FLAG;

/** The least that a request has. */
export const GET: readonly PlainField[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'web.test'],
  [':path', '/'],
];

/** A request with content. */
export const POST: readonly PlainField[] = [[':method', 'POST'], ...GET.slice(1)];

/** `fields` with another value for one of them, or without it. */
export function changed(fields: readonly PlainField[], name: string, value?: string): PlainField[] {
  return fields.flatMap(([other, own]): PlainField[] => {
    if (other !== name) return [[other, own]];
    return value === undefined ? [] : [[name, value]];
  });
}

/** Latin-1 text as bytes. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** All the parts, one behind the other. */
export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Any frame. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array | string = '',
): Uint8Array {
  const content = typeof payload === 'string' ? bytesOf(payload) : payload;
  const bytes = new Uint8Array(9 + content.length);
  bytes.set(content, writeFrameHeader(bytes, 0, content.length, type, flags, stream));
  return bytes;
}

/** A header block: literals that are not indexed, without Huffman coding (RFC 7541 section 6.2.2). */
export function block(fields: readonly PlainField[]): Uint8Array {
  return join(...fields.map(([name, value]) => join(Uint8Array.of(0), string(name), string(value))));
}

function string(text: string): Uint8Array {
  const length: number[] = [];
  let rest = text.length;
  if (rest < 127) length.push(rest);
  else {
    length.push(127);
    for (rest -= 127; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return join(Uint8Array.from(length), bytesOf(text));
}

/** A HEADERS frame with a whole block. */
export function headers(stream: number, fields: readonly PlainField[] | Uint8Array, end = true): Uint8Array {
  const payload = fields instanceof Uint8Array ? fields : block(fields);
  return frame(FRAME.headers, END_HEADERS | (end ? END_STREAM : 0), stream, payload);
}

/** A HEADERS frame whose block goes on. */
export function headersBegin(stream: number, fields: readonly PlainField[], end = true): Uint8Array {
  return frame(FRAME.headers, end ? END_STREAM : 0, stream, block(fields));
}

/** A CONTINUATION frame. */
export function continuation(
  stream: number,
  fields: readonly PlainField[] | Uint8Array,
  last: boolean,
): Uint8Array {
  const payload = fields instanceof Uint8Array ? fields : block(fields);
  return frame(FRAME.continuation, last ? END_HEADERS : 0, stream, payload);
}

/** A DATA frame. */
export function data(stream: number, content: Uint8Array | string, end = false): Uint8Array {
  return frame(FRAME.data, end ? END_STREAM : 0, stream, content);
}

/** A SETTINGS frame. */
export function settings(...pairs: readonly (readonly [setting: number, value: number])[]): Uint8Array {
  const payload = new Uint8Array(6 * pairs.length);
  for (const [i, [setting, value]] of pairs.entries()) writeSetting(payload, 6 * i, setting, value);
  return frame(FRAME.settings, 0, 0, payload);
}

/** Its acknowledgement. */
export function settingsAck(): Uint8Array {
  return frame(FRAME.settings, ACK, 0);
}

/** A PING frame of 8 letters. */
export function ping(letters = 'pingping', ack = false): Uint8Array {
  return frame(FRAME.ping, ack ? ACK : 0, 0, letters);
}

/** A WINDOW_UPDATE frame. */
export function windowUpdate(stream: number, increment: number): Uint8Array {
  return frame(FRAME.windowUpdate, 0, stream, uint32(increment));
}

/** A RST_STREAM frame. */
export function rstStream(stream: number, code: number): Uint8Array {
  return frame(FRAME.rstStream, 0, stream, uint32(code));
}

/** A GOAWAY frame. */
export function goAway(lastStream: number, code: number, debug = ''): Uint8Array {
  return frame(FRAME.goAway, 0, 0, join(uint32(lastStream), uint32(code), bytesOf(debug)));
}

/** A PRIORITY frame. */
export function priority(stream: number, dependsOn: number, weight = 16, exclusive = false): Uint8Array {
  return frame(FRAME.priority, 0, stream, priorityFields(dependsOn, weight, exclusive));
}

/** The priority fields of a PRIORITY or HEADERS frame. @param weight 1 to 256 */
export function priorityFields(dependsOn: number, weight = 16, exclusive = false): Uint8Array {
  return join(uint32(exclusive ? dependsOn + 2 ** 31 : dependsOn), Uint8Array.of(weight - 1));
}

/** 32 bits as bytes. */
export function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeUint32(bytes, 0, value);
  return bytes;
}

/** The preface of a client and its SETTINGS. */
export function clientStart(...pairs: readonly (readonly [setting: number, value: number])[]): Uint8Array {
  return join(PREFACE, settings(...pairs));
}

/** Bytes to frames, in any pieces. */
export class FrameSplitter {
  private rest: Uint8Array = new Uint8Array(0);

  /** The frames that are whole with these bytes. */
  push(bytes: Uint8Array): PlainFrame[] {
    this.rest = join(this.rest, bytes);
    const frames: PlainFrame[] = [];
    for (;;) {
      const { rest } = this;
      const length = rest.length < 9 ? 0 : (rest[0] << 16) | (rest[1] << 8) | rest[2];
      if (rest.length < 9 + length) return frames;
      const payload = rest.slice(9, 9 + length);
      frames.push({ type: rest[3], flags: rest[4], stream: readUint31(rest, 5), payload });
      this.rest = rest.slice(9 + length);
    }
  }
}

/** A frame in words, for messages of tests: `GOAWAY 0 PROTOCOL_ERROR`. */
export function describeFrame({ type, flags, stream, payload }: PlainFrame): string {
  const name = Object.entries(FRAME).find(([, number]) => number === type)?.[0] ?? `type ${type}`;
  let what = `${payload.length} bytes`;
  if (type === FRAME.rstStream) what = errorName(readUint32(payload, 0));
  if (type === FRAME.goAway) {
    const debug = Buffer.from(payload.subarray(8)).toString('latin1');
    what = `${readUint31(payload, 0)} ${errorName(readUint32(payload, 4))} "${debug}"`;
  }
  return `${name} stream ${stream} flags ${flags}: ${what}`;
}

/** A connection to a server that speaks HTTP/2, whatever is in between. */
export interface H2Connection {
  write(bytes: Uint8Array): void;
  /** What comes next: a frame; `closed` when the connection has ended; `quiet` when nothing comes for as long as that may take. */
  next(): Promise<PlainFrame | 'closed' | 'quiet'>;
}

/** A client that knows what should come, and throws when it does not. */
export class H2Tester {
  private readonly connection: H2Connection;
  private readonly decoder = new HpackDecoder();
  /** SETTINGS of the server. */
  readonly settings = new Map<number, number>();

  constructor(connection: H2Connection) {
    this.connection = connection;
  }

  /** Sends bytes as they are. */
  send(...parts: readonly Uint8Array[]): void {
    this.connection.write(join(...parts));
  }

  /** Preface and SETTINGS both ways; all is acknowledged. */
  async handshake(...pairs: readonly (readonly [setting: number, value: number])[]): Promise<void> {
    this.send(clientStart(...pairs));
    const first = await this.expect('SETTINGS of the server', ({ type, flags }) => {
      return type === FRAME.settings && (flags & ACK) === 0;
    });
    for (let at = 0; at < first.payload.length; at += 6) {
      this.settings.set((first.payload[at] << 8) | first.payload[at + 1], readUint32(first.payload, at + 2));
    }
    this.send(settingsAck());
    await this.settingsAcknowledged();
  }

  /** Reads up to the frame that is wanted, and throws when it does not come. */
  async expect(what: string, isIt: (frame: PlainFrame) => boolean): Promise<PlainFrame> {
    const seen: string[] = [];
    for (;;) {
      const next = await this.connection.next();
      if (typeof next === 'string') {
        throw new Error(`expected ${what}, but ${next} after ${seen.join(', ') || 'nothing'}`);
      }
      if (isIt(next)) return next;
      seen.push(describeFrame(next));
    }
  }

  /** A GOAWAY with one of the codes, and the end of the connection. */
  async connectionError(...codes: readonly number[]): Promise<void> {
    await this.expect(`GOAWAY ${codes.map(errorName).join(' or ')}`, (frame) => isGoAway(frame, codes));
    await this.closed();
  }

  /** A RST_STREAM of that stream with one of the codes; or a GOAWAY, since every stream error may be one of the connection. */
  async streamError(stream: number, ...codes: readonly number[]): Promise<void> {
    await this.expect(`RST_STREAM ${codes.map(errorName).join(' or ')}`, (frame) => {
      const isReset = frame.type === FRAME.rstStream && frame.stream === stream;
      return (isReset && codes.includes(readUint32(frame.payload, 0))) || isGoAway(frame, codes);
    });
  }

  /** The connection ends, whatever is said before. */
  async closed(): Promise<void> {
    for (;;) {
      const next = await this.connection.next();
      if (next === 'closed') return;
      if (next === 'quiet') throw new Error('the connection stays open');
    }
  }

  /** The end of a stream, orderly or not. */
  async streamClosed(stream: number): Promise<void> {
    await this.expect(`the end of stream ${stream}`, (frame) => {
      const mayEnd = frame.type === FRAME.data || frame.type === FRAME.headers;
      const isEnd = (mayEnd && (frame.flags & END_STREAM) !== 0) || frame.type === FRAME.rstStream;
      return isEnd && frame.stream === stream;
    });
  }

  /** The head of a response. Returns its fields. */
  async head(stream: number): Promise<PlainField[]> {
    const { payload } = await this.expect(`HEADERS of stream ${stream}`, (frame) => {
      return frame.type === FRAME.headers && frame.stream === stream;
    });
    return this.decode(payload);
  }

  /** A DATA frame. */
  data(stream: number): Promise<PlainFrame> {
    return this.expect(`DATA of stream ${stream}`, (frame) => {
      return frame.type === FRAME.data && frame.stream === stream;
    });
  }

  /** The acknowledgement of SETTINGS. */
  async settingsAcknowledged(): Promise<void> {
    await this.expect('the acknowledgement of SETTINGS', ({ type, flags }) => {
      return type === FRAME.settings && (flags & ACK) !== 0;
    });
  }

  /** A ping is answered: the connection is alive, and everything before it has been looked at. */
  async alive(letters = 'pingping'): Promise<void> {
    this.send(ping(letters));
    await this.expect('the answer to PING', ({ type, flags, payload }) => {
      const text = Buffer.from(payload).toString('latin1');
      return type === FRAME.ping && (flags & ACK) !== 0 && text === letters;
    });
  }

  private decode(payload: Uint8Array): PlainField[] {
    const list = new FieldList();
    const problem = this.decoder.decode(payload, 0, payload.length, list);
    if (problem !== 0) throw new Error(`a header block that cannot be decoded: ${problem}`);
    return plainFields(list);
  }
}

/** The fields of a list as text. */
export function plainFields(list: FieldList): PlainField[] {
  return list.items.slice(0, list.count).map(({ name, value }): PlainField => {
    return [Buffer.from(name).toString('latin1'), Buffer.from(value).toString('latin1')];
  });
}

function isGoAway(frame: PlainFrame, codes: readonly number[]): boolean {
  return frame.type === FRAME.goAway && codes.includes(readUint32(frame.payload, 4));
}
