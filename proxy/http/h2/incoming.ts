/**
 * Frames as they come in: whether each is well-formed and in its place among the others (RFC 9113 sections 4 and 6). What they
 * mean for a stream is the session's business.
 */
import { FLAG, FRAME, H2_ERROR, readUint31, readUint32 } from './frames.ts';
import type { H2Head } from './head.ts';
import { describeHpackProblem, HpackDecoder, isCompressionError } from './hpack-decoder.ts';
import { KnownBlocks } from './known-blocks.ts';
import { FrameReader, type FrameSink, TAKE } from './reader.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { headers: HEADERS, settings: SETTINGS, continuation: CONTINUATION } = FRAME;
const { endStream: END_STREAM, endHeaders: END_HEADERS, padded: PADDED, priority: PRIORITY, ack: ACK } = FLAG;
const { protocolError: PROTOCOL_ERROR, frameSizeError: FRAME_SIZE_ERROR } = H2_ERROR;
const { stop: STOP, whole: WHOLE, skip: SKIP, content: CONTENT } = TAKE;

/**
 * Longest header block in bytes, as it is sent. Twice what it may be decoded (MAX_LIST_BYTES): heads that are a little too large are
 * answered, and only what no honest peer sends ends the connection.
 */
export const MAX_BLOCK_BYTES = 131_072;

/** Most CONTINUATION frames of a block. Honest peers fill them: a block of MAX_BLOCK_BYTES has 8. */
const MAX_CONTINUATIONS = 64;

/** Most debug data that is sent, or told of a peer's, in bytes: a line of a log. */
export const MAX_DEBUG_BYTES = 256;

/** Whether frames of a type are on a stream: 0 never, 1 always, 2 either. */
const ALWAYS = 1;
const EITHER = 2;
const ON_STREAM = Uint8Array.of(ALWAYS, ALWAYS, ALWAYS, ALWAYS, 0, ALWAYS, 0, 0, EITHER, ALWAYS);

/** Lengths that frames of a type may have. PRIORITY of another length is an error of its stream only. */
const ANY = 2 ** 24;
const LEAST_LENGTH = Int32Array.of(0, 0, 0, 4, 0, 0, 8, 8, 4, 0);
const MOST_LENGTH = Int32Array.of(ANY, ANY, ANY, 4, ANY, ANY, 8, ANY, 4, ANY);

/** What frames say, in their order. Calls end with `connectionError`. */
export interface FrameEvents {
  /** Nothing that comes behind this can be understood, or is wanted. */
  connectionError(code: number, text: string): void;
  /** It is over: frames are not wanted any more. */
  readonly isEnded: boolean;
  /**
   * A header block.
   * @param head has its fields; see `Incoming.judged`
   * @param problem 0, or the HPACK_PROBLEM of a list that is too large
   */
  fields(stream: number, end: boolean, head: H2Head, problem: number, dependsOnItself: boolean): void;
  /** A DATA frame of `length` bytes begins, padding included. */
  dataBegins(stream: number, length: number): void;
  /** A piece of its content. @param last the frame is over */
  data(bytes: Uint8Array, from: number, to: number, last: boolean, end: boolean): void;
  streamReset(stream: number, code: number): void;
  /** @param stream 0 for the connection */
  windowUpdate(stream: number, increment: number): void;
  settings(bytes: Uint8Array, from: number, to: number): void;
  settingsAck(): void;
  ping(bytes: Uint8Array, from: number, ack: boolean): void;
  goAway(lastStream: number, code: number, debug: string): void;
  /** A PRIORITY frame that says nothing, or depends on itself, or is too long or short. */
  priority(stream: number, wrongLength: boolean, dependsOnItself: boolean): void;
  /** A frame that is ignored. */
  ignored(): void;
}

/** The frames of one connection. */
export class Incoming implements FrameSink {
  private readonly reader: FrameReader;
  private readonly events: FrameEvents;
  private readonly decoder = new HpackDecoder();
  private readonly known = new KnownBlocks();
  private readonly head: H2Head;
  private readonly maxFrameBytes: number;
  /** The first frame must be SETTINGS. */
  private isStarted = false;
  /** The stream whose header block is not whole yet, 0: there is none; what has come of it; and its first frame's flags. */
  private blockStream = 0;
  /** The same when `isStuck` was asked last. */
  private blockBefore = 0;
  private block: Uint8Array | undefined = undefined;
  private blockBytes = 0;
  private continuations = 0;
  private blockEnd = false;
  private blockDependsOnItself = false;

  /** @param head where fields are decoded to that did not come before; nobody else needs it between calls of `read` */
  constructor(events: FrameEvents, expectPreface: boolean, maxFrameBytes: number, head: H2Head) {
    this.events = events;
    this.reader = new FrameReader(this, expectPreface);
    this.maxFrameBytes = maxFrameBytes;
    this.head = head;
  }

  /** Reads bytes, as they arrive; `hasRoom` as in FrameReader. */
  read(bytes: Uint8Array, from: number, to: number, hasRoom: boolean): void {
    this.reader.read(bytes, from, to, hasRoom);
  }

  /** The head that `fields` told has been judged, and found right. @returns the same, as one that lasts where it comes again and again */
  judged(head: H2Head): H2Head {
    return head.isLasting ? head : this.known.keep(head, this.decoder.changes);
  }

  /** Whether a frame or header block was not whole when this was asked last, and still is not; content need not be. */
  isStuck(): boolean {
    const { blockStream, blockBefore } = this;
    this.blockBefore = blockStream;
    return this.reader.isStuck() || (blockStream !== 0 && blockStream === blockBefore);
  }

  noPreface(): void {
    this.events.connectionError(PROTOCOL_ERROR, 'the connection does not begin with the preface of HTTP/2');
  }

  badPadding(): void {
    this.events.connectionError(PROTOCOL_ERROR, 'a frame has more padding than bytes');
  }

  frameBegins(): number {
    const { type, stream, length } = this.reader;
    if (type <= HEADERS && stream !== 0 && this.blockStream === 0 && this.isStarted) {
      // What nearly all frames are.
      if (length <= this.maxFrameBytes) return type === HEADERS ? WHOLE : this.dataBegins(stream, length);
    }
    if (length > this.maxFrameBytes) {
      return this.stop(
        FRAME_SIZE_ERROR,
        `a frame has ${length} bytes, SETTINGS_MAX_FRAME_SIZE is ${this.maxFrameBytes}`,
      );
    }
    if (!this.isStarted && !this.begins()) return STOP;
    if (type === CONTINUATION ? stream !== this.blockStream || stream === 0 : this.blockStream !== 0) {
      return this.stop(PROTOCOL_ERROR, 'a header block and its CONTINUATION frames do not follow each other');
    }
    if (type > CONTINUATION) {
      this.events.ignored();
      return this.events.isEnded ? STOP : SKIP;
    }
    if (ON_STREAM[type] !== EITHER && (ON_STREAM[type] === ALWAYS) !== (stream !== 0)) {
      return this.stop(
        PROTOCOL_ERROR,
        'a frame is on stream 0 that belongs to a stream, or the other way round',
      );
    }
    if (length < LEAST_LENGTH[type] || length > MOST_LENGTH[type]) {
      return this.stop(FRAME_SIZE_ERROR, `a frame of type ${type} has ${length} bytes`);
    }
    return WHOLE;
  }

  private dataBegins(stream: number, length: number): number {
    this.events.dataBegins(stream, length);
    return this.events.isEnded ? STOP : CONTENT;
  }

  content(bytes: Uint8Array, from: number, to: number, last: boolean): boolean {
    this.events.data(bytes, from, to, last, last && (this.reader.flags & END_STREAM) !== 0);
    return !this.events.isEnded;
  }

  frame(bytes: Uint8Array, from: number, to: number): boolean {
    const { type, flags, stream } = this.reader;
    const { events } = this;
    switch (type) {
      case HEADERS:
        this.headers(bytes, from, to);
        break;
      case CONTINUATION:
        this.continuation(bytes, from, to);
        break;
      case FRAME.windowUpdate:
        events.windowUpdate(stream, readUint31(bytes, from));
        break;
      case FRAME.rstStream:
        events.streamReset(stream, readUint32(bytes, from));
        break;
      case FRAME.ping:
        events.ping(bytes, from, (flags & ACK) !== 0);
        break;
      case SETTINGS:
        this.settings(bytes, from, to);
        break;
      case FRAME.goAway:
        events.goAway(readUint31(bytes, from), readUint32(bytes, from + 4), debugText(bytes, from + 8, to));
        break;
      case FRAME.priority:
        events.priority(stream, to - from !== 5, to - from >= 4 && readUint31(bytes, from) === stream);
        break;
      default:
        events.connectionError(PROTOCOL_ERROR, 'a stream is pushed, which nobody asked for');
    }
    return !events.isEnded;
  }

  /** RFC 9113 section 3.4. */
  private begins(): boolean {
    this.isStarted = this.reader.type === SETTINGS && (this.reader.flags & ACK) === 0;
    if (!this.isStarted) this.events.connectionError(PROTOCOL_ERROR, 'the first frame is not SETTINGS');
    return this.isStarted;
  }

  private stop(code: number, text: string): number {
    this.events.connectionError(code, text);
    return STOP;
  }

  private headers(bytes: Uint8Array, from: number, to: number): void {
    const { flags, stream } = this.reader;
    let at = from;
    let end = to;
    let dependsOnItself = false;
    if ((flags & (PADDED | PRIORITY)) !== 0) {
      if ((flags & PADDED) !== 0) {
        end = at < to ? to - bytes[at] : -1;
        at++;
      }
      if ((flags & PRIORITY) !== 0) {
        dependsOnItself = at + 4 <= end && readUint31(bytes, at) === stream;
        at += 5;
      }
      if (at > end) return this.badPadding();
    }
    if ((flags & END_HEADERS) !== 0) {
      this.decode(stream, bytes, at, end, (flags & END_STREAM) !== 0, dependsOnItself);
      return;
    }
    this.blockStream = stream;
    this.blockEnd = (flags & END_STREAM) !== 0;
    this.blockDependsOnItself = dependsOnItself;
    this.blockBytes = this.continuations = 0;
    this.gather(bytes, at, end);
  }

  private continuation(bytes: Uint8Array, from: number, to: number): void {
    this.continuations++;
    if (this.blockBytes + to - from > MAX_BLOCK_BYTES) {
      return this.events.connectionError(
        H2_ERROR.enhanceYourCalm,
        `a header block is longer than ${MAX_BLOCK_BYTES} bytes`,
      );
    }
    if (this.continuations > MAX_CONTINUATIONS) {
      return this.events.connectionError(
        H2_ERROR.enhanceYourCalm,
        `a header block has more than ${MAX_CONTINUATIONS} CONTINUATION frames`,
      );
    }
    this.gather(bytes, from, to);
    if ((this.reader.flags & END_HEADERS) === 0 || this.block === undefined) return;
    const { block, blockStream } = this;
    this.block = undefined;
    this.blockStream = 0;
    this.decode(blockStream, block, 0, this.blockBytes, this.blockEnd, this.blockDependsOnItself);
  }

  /** Keeps a part of a block. */
  private gather(bytes: Uint8Array, from: number, to: number): void {
    const wanted = this.blockBytes + to - from;
    if (this.block === undefined || this.block.length < wanted) {
      const larger = new Uint8Array(Math.min(2 * wanted, MAX_BLOCK_BYTES));
      if (this.block !== undefined) larger.set(this.block.subarray(0, this.blockBytes));
      this.block = larger;
    }
    this.block.set(bytes.subarray(from, to), this.blockBytes);
    this.blockBytes = wanted;
  }

  private decode(
    stream: number,
    bytes: Uint8Array,
    from: number,
    to: number,
    end: boolean,
    dependsOnItself: boolean,
  ): void {
    const { decoder, events } = this;
    const known = this.known.find(bytes, from, to, decoder.changes);
    if (known !== undefined) return events.fields(stream, end, known, 0, dependsOnItself);
    const { fields } = this.head;
    fields.clear();
    const problem = decoder.decode(bytes, from, to, fields);
    if (isCompressionError(problem)) {
      events.connectionError(H2_ERROR.compressionError, describeHpackProblem(problem, fields.size));
    } else events.fields(stream, end, this.head, problem, dependsOnItself);
  }

  private settings(bytes: Uint8Array, from: number, to: number): void {
    const isAck = (this.reader.flags & ACK) !== 0;
    if (isAck ? to !== from : (to - from) % 6 !== 0) {
      this.events.connectionError(FRAME_SIZE_ERROR, `a SETTINGS frame has ${to - from} bytes`);
    } else if (isAck) this.events.settingsAck();
    else this.events.settings(bytes, from, to);
  }
}

/** Debug data as far as it is text. */
function debugText(bytes: Uint8Array, from: number, to: number): string {
  const end = Math.min(to, from + MAX_DEBUG_BYTES);
  let text = '';
  for (let i = from; i < end; i++) {
    text += bytes[i] >= 0x20 && bytes[i] < 0x7f ? String.fromCharCode(bytes[i]) : '?';
  }
  return text;
}
