/**
 * What a connection has to send: small frames are put together in one buffer, which is taken from a pool and given back when it
 * is empty, so that a connection that says nothing owns none.
 */
import { Block, copyInto } from '../../core/block.ts';
import { Spares } from '../../core/spares.ts';
import type { FieldList } from './field.ts';
import {
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  MIN_FRAME_SIZE,
  writeFrameHeader,
  writeSetting,
  writeUint32,
} from './frames.ts';
import { headerRoom } from './header-room.ts';
import type { HpackEncoder } from './hpack-encoder.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const HEADER_BYTES = FRAME_HEADER_BYTES;
const { data: DATA, headers: HEADERS, continuation: CONTINUATION, windowUpdate: WINDOW_UPDATE } = FRAME;
const { endStream: END_STREAM, endHeaders: END_HEADERS } = FLAG;

/** One send of the usual batch: some dozen heads, or a head and a page. */
const BUFFER_BYTES = 16_384;

/** Buffers that are kept for the next connection: as many as have something to send in one batch, 1 MB of them at most. */
const MOST_SPARE = 64;

/** From this length on a payload is handed on from where it is, without a copy here. Below, one call for header and payload costs less. */
const LEAST_PASSED = 8192;

/** Where frames are put together. */
const spares = new Spares<Block>(MOST_SPARE);

/** Where the bytes go. */
export interface OutputSink {
  /** There is something to send, and `flush` should be called soon. */
  outputReady(): void;
  /** Takes bytes that hold until this returns; `stay`: they are received ones, and hold as long as those. */
  send(bytes: Uint8Array, from: number, to: number, stay: boolean): void;
  /** Takes the first `length` bytes of a block, which hold until this returns. */
  sendBlock(block: Block, length: number): void;
}

/** Frames that are to be sent, in order. */
export class Output {
  private readonly sink: OutputSink;
  private block: Block | undefined = undefined;
  private used = 0;
  /** Where the last frame ended that was sent from where it was received. */
  private lastPlace = -1;

  constructor(sink: OutputSink) {
    this.sink = sink;
  }

  /** Sends all there is, and gives the buffer back. */
  flush(): void {
    const { block, used } = this;
    if (block === undefined) return;
    this.block = undefined;
    this.used = 0;
    if (used > 0) this.sink.sendBlock(block, used);
    spares.give(block);
  }

  /** Forgets all there is, and gives the buffer back. */
  discard(): void {
    this.used = 0;
    this.flush();
  }

  /**
   * A HEADERS frame, and CONTINUATION frames behind it when it is very long.
   * @param end it ends the stream
   */
  headers(stream: number, fields: FieldList, encoder: HpackEncoder, end: boolean): void {
    const room = encoder.room(fields);
    const flags = end ? END_STREAM : 0;
    if (room > BUFFER_BYTES - HEADER_BYTES) return this.longHeaders(stream, fields, encoder, flags, room);
    const { bytes: buffer } = this.reserve(HEADER_BYTES + room);
    const at = this.used;
    const stop = encoder.encode(fields, buffer, at + HEADER_BYTES);
    // It is shorter than any frame size limit, since the buffer is.
    writeFrameHeader(buffer, at, stop - at - HEADER_BYTES, HEADERS, flags | END_HEADERS, stream);
    this.used = stop;
  }

  /** A DATA frame, no longer than the peer takes. */
  data(stream: number, bytes: Uint8Array, from: number, to: number, end: boolean): void {
    const length = to - from;
    const passed = length >= LEAST_PASSED;
    // Short ones that are one send with what was before them, or, where a read cuts what is long, most likely with what is behind them.
    const joins = this.lastPlace === from - HEADER_BYTES || headerRoom.behind >= LEAST_PASSED;
    if ((passed || (joins && this.used === 0)) && from === headerRoom.end && bytes === headerRoom.bytes)
      return this.dataInPlace(stream, from, to, end);
    const block = this.reserve(HEADER_BYTES + (passed ? 0 : length));
    const at = writeFrameHeader(block.bytes, this.used, length, DATA, end ? END_STREAM : 0, stream);
    if (passed) {
      this.used = at;
      this.spill();
      this.sink.send(bytes, from, to, false);
      return;
    }
    copyInto(block, at, bytes, from, to);
    this.used = at + length;
  }

  /** The same for content that is told just now: its header is put before it, and what is right behind such a frame is one send with it. */
  private dataInPlace(stream: number, from: number, to: number, end: boolean): void {
    const { bytes } = headerRoom;
    headerRoom.end = -1;
    // Also where nothing else is to be sent: it is at the end of a batch that is seen what a frame has changed.
    this.reserve(0);
    this.spill();
    const start = from - HEADER_BYTES;
    writeFrameHeader(bytes, start, to - from, DATA, end ? END_STREAM : 0, stream);
    this.sink.send(bytes, start, to, true);
    this.lastPlace = to;
  }

  /** A WINDOW_UPDATE frame; of the connection for stream 0. */
  windowUpdate(stream: number, increment: number): void {
    this.number(WINDOW_UPDATE, stream, increment);
  }

  /** A RST_STREAM frame. */
  rstStream(stream: number, code: number): void {
    this.number(FRAME.rstStream, stream, code);
  }

  /** A PING frame with the 8 bytes at `from`. */
  ping(bytes: Uint8Array, from: number, ack: boolean): void {
    const { bytes: buffer } = this.reserve(HEADER_BYTES + 8);
    const at = writeFrameHeader(buffer, this.used, 8, FRAME.ping, ack ? FLAG.ack : 0, 0);
    for (let i = 0; i < 8; i++) buffer[at + i] = bytes[from + i];
    this.used = at + 8;
  }

  /** A GOAWAY frame. */
  goAway(lastStream: number, code: number, debug: string): void {
    const length = 8 + debug.length;
    const { bytes: buffer } = this.reserve(HEADER_BYTES + length);
    let at = writeFrameHeader(buffer, this.used, length, FRAME.goAway, 0, 0);
    at = writeUint32(buffer, writeUint32(buffer, at, lastStream), code);
    for (let i = 0; i < debug.length; i++) buffer[at++] = debug.charCodeAt(i);
    this.used = at;
  }

  /** A SETTINGS frame with these settings, in order. */
  settings(settings: readonly (readonly [setting: number, value: number])[]): void {
    const { bytes: buffer } = this.reserve(HEADER_BYTES + 6 * settings.length);
    let at = writeFrameHeader(buffer, this.used, 6 * settings.length, FRAME.settings, 0, 0);
    for (const [setting, value] of settings) at = writeSetting(buffer, at, setting, value);
    this.used = at;
  }

  /** The acknowledgement of a SETTINGS frame. */
  settingsAck(): void {
    this.used = writeFrameHeader(this.reserve(HEADER_BYTES).bytes, this.used, 0, FRAME.settings, FLAG.ack, 0);
  }

  /** Bytes that are no frame: the preface of a client. */
  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length).bytes.set(bytes, this.used);
    this.used += bytes.length;
  }

  private number(type: number, stream: number, value: number): void {
    const { bytes: buffer } = this.reserve(HEADER_BYTES + 4);
    this.used = writeUint32(buffer, writeFrameHeader(buffer, this.used, 4, type, 0, stream), value);
  }

  /** Makes room for `length` bytes at `used`. @returns where that is */
  private reserve(length: number): Block {
    const { block } = this;
    if (block === undefined) {
      this.block = spares.take() ?? new Block(new Uint8Array(BUFFER_BYTES));
      this.sink.outputReady();
      return this.block;
    }
    if (this.used + length > BUFFER_BYTES) this.spill();
    return block;
  }

  /** Sends what there is, and keeps the buffer. */
  private spill(): void {
    const { block, used } = this;
    this.used = 0;
    if (block !== undefined && used > 0) this.sink.sendBlock(block, used);
  }

  /** Frames of the least size that a peer may limit them to: nobody minds, for heads this long. */
  private longHeaders(
    stream: number,
    fields: FieldList,
    encoder: HpackEncoder,
    flags: number,
    room: number,
  ): void {
    const block = new Uint8Array(room);
    const length = encoder.encode(fields, block, 0);
    for (let from = 0; from === 0 || from < length; from += MIN_FRAME_SIZE) {
      const to = Math.min(from + MIN_FRAME_SIZE, length);
      const type = from === 0 ? HEADERS : CONTINUATION;
      const end = (to === length ? END_HEADERS : 0) | (from === 0 ? flags : 0);
      const { bytes: buffer } = this.reserve(HEADER_BYTES);
      this.used = writeFrameHeader(buffer, this.used, to - from, type, end, stream);
      this.spill();
      this.sink.send(block, from, to, false);
    }
  }
}
