/** From bytes in any pieces to frames (RFC 9113 section 4.1). Content is passed on as it comes; other frames are gathered whole. */
import { FLAG, FRAME_HEADER_BYTES, PREFACE, readUint31 } from './frames.ts';
import { headerRoom } from './header-room.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const HEADER_BYTES = FRAME_HEADER_BYTES;
const PADDED = FLAG.padded;
const room = headerRoom;

/** What comes next. */
const PHASE = {
  preface: 0,
  header: 1,
  /** The payload of a frame that is gathered. */
  payload: 2,
  /** The byte that says how much padding a DATA frame has. */
  padLength: 3,
  content: 4,
  /** Padding, or a payload that nobody wants. */
  skipped: 5,
} as const;

const { preface: PREFACE_PHASE, header: HEADER, payload: PAYLOAD, padLength: PAD_LENGTH } = PHASE;
const { content: CONTENT, skipped: SKIPPED } = PHASE;

/** What a frame is to its sink. */
export const TAKE = {
  /** Nothing more is read. */
  stop: 0,
  whole: 1,
  skip: 2,
  content: 3,
} as const;

const { stop: STOP, whole: WHOLE, skip: SKIP, content: WHOLE_CONTENT } = TAKE;

/** Who hears of frames. The reader's `type`, `flags`, `stream` and `length` are those of the frame in question. */
export interface FrameSink {
  /** The bytes do not begin with the preface. */
  noPreface(): void;
  /** The header of a frame has come. @returns one of TAKE; `content` for DATA frames only */
  frameBegins(): number;
  /** The payload of a frame that is taken whole. @returns false: nothing more is read */
  frame(bytes: Uint8Array, from: number, to: number): boolean;
  /** Content of a DATA frame. `last`: the frame is over, padding included. @returns false: nothing more is read */
  content(bytes: Uint8Array, from: number, to: number, last: boolean): boolean;
  /** The padding of a DATA frame is as long as the frame. */
  badPadding(): void;
}

/** The reader of one connection. */
export class FrameReader {
  /** Of the frame that is being read. */
  length = 0;
  type = 0;
  flags = 0;
  stream = 0;
  private readonly sink: FrameSink;
  private phase: number;
  /** Bytes that are still to come: of the preface, of content, or of what is skipped. */
  private remaining = 0;
  private padding = 0;
  /** Where room for a header ends; see header-room.ts. */
  private roomEnd = -1;
  /** What has come of a header or payload that came in pieces. */
  private held: Uint8Array | undefined = undefined;
  private heldBytes = 0;
  /** The same when `isStuck` was asked last. */
  private heldBefore: Uint8Array | undefined = undefined;

  /** @param expectPreface the peer is a client */
  constructor(sink: FrameSink, expectPreface: boolean) {
    this.sink = sink;
    this.phase = expectPreface ? PREFACE_PHASE : HEADER;
    this.remaining = PREFACE.length;
  }

  /** Reads all of the bytes, unless the sink has enough. `hasRoom`: as many as a header has may be written before them. */
  read(bytes: Uint8Array, from: number, to: number, hasRoom = false): void {
    let at = from;
    this.roomEnd = hasRoom ? from : -1;
    while (at < to) {
      if (this.phase === HEADER) {
        if (this.heldBytes === 0 && to - at >= HEADER_BYTES) {
          this.readHeader(bytes, at);
          at += HEADER_BYTES;
          this.roomEnd = at;
        } else {
          at = this.gather(bytes, at, to, HEADER_BYTES);
          if (this.heldBytes < HEADER_BYTES) return;
          this.readHeader(this.released(), 0);
        }
        at = this.begin(bytes, at, to);
      } else at = this.step(bytes, at, to);
      if (at < 0) return;
    }
  }

  /** Whether a frame that is gathered was not whole when this was asked last, and still is not. */
  isStuck(): boolean {
    const { held, heldBefore } = this;
    this.heldBefore = held;
    return held !== undefined && held === heldBefore;
  }

  private readHeader(bytes: Uint8Array, at: number): void {
    this.length = (bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2];
    this.type = bytes[at + 3];
    this.flags = bytes[at + 4];
    this.stream = readUint31(bytes, at + 5);
  }

  /** Takes what there is of the payload of a frame whose header was read. @returns where it ended, -1: nothing more is read */
  private begin(bytes: Uint8Array, at: number, to: number): number {
    const take = this.sink.frameBegins();
    const stop = at + this.length;
    // Nearly all frames are there as a whole: no more need be known of them.
    if (stop <= to && take === WHOLE) return this.sink.frame(bytes, at, stop) ? stop : -1;
    const isPadded = (this.flags & PADDED) !== 0;
    if (stop <= to && take === WHOLE_CONTENT && !isPadded) return this.tell(bytes, at, stop, true);
    if (take === STOP) return -1;
    this.remaining = this.length;
    this.padding = 0;
    if (take === WHOLE) this.phase = PAYLOAD;
    else if (take === SKIP) this.phase = SKIPPED;
    else this.phase = isPadded ? PAD_LENGTH : CONTENT;
    return this.step(bytes, at, to);
  }

  /** Takes what there is of the payload, which may be empty. @returns where it ended, -1: nothing more is read */
  private step(bytes: Uint8Array, at: number, to: number): number {
    switch (this.phase) {
      case PAYLOAD:
        return this.payload(bytes, at, to);
      case CONTENT:
        return this.content(bytes, at, to);
      case PAD_LENGTH:
        return this.padLength(bytes, at, to);
      case SKIPPED:
        return this.skip(bytes, at, to);
      default:
        return this.preface(bytes, at, to);
    }
  }

  private payload(bytes: Uint8Array, at: number, to: number): number {
    const { length } = this;
    const stop = this.gather(bytes, at, to, length);
    if (this.heldBytes < length) return stop;
    this.phase = HEADER;
    return this.sink.frame(this.released(), 0, length) ? stop : -1;
  }

  private content(bytes: Uint8Array, at: number, to: number): number {
    const stop = Math.min(to, at + this.remaining);
    // An empty piece says nothing, unless it is the last.
    if (stop === at && this.remaining > 0) return at;
    this.remaining -= stop - at;
    const over = this.remaining === 0;
    if (over) this.phase = this.padding === 0 ? HEADER : SKIPPED;
    const last = over && this.padding === 0;
    if (over) this.remaining = this.padding;
    if (!last && stop === at) return at;
    room.behind = to - stop;
    return this.tell(bytes, at, stop, last);
  }

  /** @returns where it ended, -1: nothing more is read */
  private tell(bytes: Uint8Array, at: number, stop: number, last: boolean): number {
    room.bytes = bytes;
    room.end = this.roomEnd === at ? at : -1;
    const goesOn = this.sink.content(bytes, at, stop, last);
    room.end = -1;
    room.behind = 0;
    return goesOn ? stop : -1;
  }

  private padLength(bytes: Uint8Array, at: number, to: number): number {
    if (this.length === 0) {
      this.sink.badPadding();
      return -1;
    }
    if (at === to) return at;
    this.padding = bytes[at];
    this.remaining = this.length - 1 - this.padding;
    if (this.remaining < 0) {
      this.sink.badPadding();
      return -1;
    }
    this.phase = CONTENT;
    return this.content(bytes, at + 1, to);
  }

  private skip(bytes: Uint8Array, at: number, to: number): number {
    const stop = Math.min(to, at + this.remaining);
    this.remaining -= stop - at;
    if (this.remaining > 0) return stop;
    this.phase = HEADER;
    if (this.padding === 0) return stop;
    return this.sink.content(bytes, stop, stop, true) ? stop : -1;
  }

  private preface(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    for (; at < to && this.remaining > 0; at++, this.remaining--) {
      if (bytes[at] === PREFACE[PREFACE.length - this.remaining]) continue;
      this.sink.noPreface();
      return -1;
    }
    if (this.remaining === 0) this.phase = HEADER;
    return at;
  }

  /** Keeps bytes until there are `wanted`. @returns behind those that were taken */
  private gather(bytes: Uint8Array, at: number, to: number, wanted: number): number {
    this.held ??= new Uint8Array(wanted);
    const stop = Math.min(to, at + wanted - this.heldBytes);
    this.held.set(bytes.subarray(at, stop), this.heldBytes);
    this.heldBytes += stop - at;
    return stop;
  }

  /** What was gathered, which is not kept any longer. */
  private released(): Uint8Array {
    const { held } = this;
    if (held === undefined) throw new Error('nothing was gathered');
    this.held = undefined;
    this.heldBytes = 0;
    return held;
  }
}
