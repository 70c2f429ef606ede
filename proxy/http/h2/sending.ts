/**
 * Content on its way out: windows of the peer, frame sizes, and whose turn it is (RFC 9113 section 5.2). Streams that wait for what
 * they share are served in turn, a piece each, so that a long body does not stall a short one.
 */
import { DEFAULT_WINDOW_BYTES, MAX_31_BITS, MIN_FRAME_SIZE } from './frames.ts';
import type { Output } from './output.ts';
import { type Stream, WAITING } from './stream.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { no: NO, turn: TURN, window: WINDOW } = WAITING;
const LARGEST_WINDOW = MAX_31_BITS;

/** What a stream may send per turn: one full frame of the usual size. */
const TURN_BYTES = 16_384;

/** Longest frame that is sent, whatever the peer takes: what one read brings, and little enough that others get their turn. */
const MOST_FRAME_BYTES = 65_536;

/**
 * A stream that has sent less since it began to wait has a reader that does not read: who opens windows byte by byte could keep what waits
 * for ever. Readers that do give back 4 KB and more at once.
 */
const MIN_PROGRESS_BYTES = 1024;

/** Who hears of streams that may go on. */
export interface SendingSink<T> {
  writable(stream: Stream<T>): void;
  nowMs(): number;
}

/** The way out of all content of a connection. */
export class Sending<T> {
  /** Bytes that the connection may send; the peer adds to them. */
  window = DEFAULT_WINDOW_BYTES;
  /** Window of streams that are opened now. */
  streamWindow = DEFAULT_WINDOW_BYTES;
  /** The socket takes no more for now. */
  blocked = false;
  /** Longest DATA frame, in bytes. */
  private maxFrame = MIN_FRAME_SIZE;
  private readonly output: Output;
  private readonly sink: SendingSink<T>;
  /** Streams that wait for their turn, linked by `next`; those that have been closed meanwhile are passed over. */
  private first: Stream<T> | undefined = undefined;
  private last: Stream<T> | undefined = undefined;
  /** Whose turn it is, and how many bytes of it are left. */
  private served: Stream<T> | undefined = undefined;
  private turnLeft = 0;

  constructor(output: Output, sink: SendingSink<T>) {
    this.output = output;
    this.sink = sink;
  }

  /** @param bytes SETTINGS_MAX_FRAME_SIZE of the peer */
  peerMaxFrame(bytes: number): void {
    this.maxFrame = Math.min(bytes, MOST_FRAME_BYTES);
  }

  /**
   * Sends what may be sent now.
   * @returns how many bytes that was; the stream waits when it was not all
   */
  send(stream: Stream<T>, bytes: Uint8Array, from: number, to: number, end: boolean): number {
    if (from === to) {
      if (end) this.output.data(stream.id, bytes, from, to, true);
      return 0;
    }
    let at = from;
    const stop = from + this.allowed(stream, to - from);
    while (at < stop) {
      const piece = Math.min(stop, at + this.maxFrame);
      this.output.data(stream.id, bytes, at, piece, end && piece === to);
      at = piece;
    }
    const sent = stop - from;
    stream.sendWindow -= sent;
    this.window -= sent;
    if (stream === this.served) this.turnLeft -= sent;
    if (stop < to) this.wait(stream, sent);
    else if (stream.waitingSent >= 0) stream.waitingSent = -1;
    return sent;
  }

  /** The peer lets a stream send more. @returns false: more than 2^31-1 bytes in all */
  openStream(stream: Stream<T>, bytes: number): boolean {
    // Windows stay small integers, which are stored without an object of their own.
    if (stream.sendWindow + bytes > LARGEST_WINDOW) return false;
    stream.sendWindow += bytes;
    if (stream.waiting === WINDOW && stream.sendWindow > 0) {
      this.enqueue(stream);
      this.serve();
    }
    return true;
  }

  /** The peer lets the connection send more. @returns false: more than 2^31-1 bytes in all */
  openConnection(bytes: number): boolean {
    if (this.window + bytes > LARGEST_WINDOW) return false;
    this.window += bytes;
    this.serve();
    return true;
  }

  /** SETTINGS_INITIAL_WINDOW_SIZE: all windows of streams change by what it changes. @returns false: one got too large */
  resize(streams: Iterable<Stream<T>>, bytes: number): boolean {
    const change = bytes - this.streamWindow;
    this.streamWindow = bytes;
    if (change === 0) return true;
    for (const stream of streams) {
      if (stream.sendWindow + change > LARGEST_WINDOW) return false;
      stream.sendWindow += change;
      if (stream.waiting === WINDOW && stream.sendWindow > 0) this.enqueue(stream);
    }
    this.serve();
    return true;
  }

  /** Gives the streams that wait their turns, while there is anything to give. */
  serve(): void {
    if (this.served !== undefined) return;
    while (this.first !== undefined && this.window > 0 && !this.blocked) {
      const stream = this.first;
      this.first = stream.next;
      if (this.first === undefined) this.last = undefined;
      stream.next = undefined;
      stream.waiting = NO;
      if (stream.closed || stream.localDone) continue;
      this.served = stream;
      this.turnLeft = TURN_BYTES;
      this.sink.writable(stream);
      this.served = undefined;
    }
  }

  /** Bytes of `wanted` that the stream may send now; also 0 when it is not its turn. */
  private allowed(stream: Stream<T>, wanted: number): number {
    const others = this.first !== undefined && stream !== this.served;
    if (this.blocked || others || stream.waiting === TURN) return 0;
    const most = Math.min(wanted, stream.sendWindow, this.window);
    return Math.max(0, stream === this.served ? Math.min(most, this.turnLeft) : most);
  }

  private wait(stream: Stream<T>, sent: number): void {
    const { waitingSent } = stream;
    const isReading = waitingSent < 0 || waitingSent + sent >= MIN_PROGRESS_BYTES;
    stream.waitingSent = isReading ? 0 : waitingSent + sent;
    if (isReading) stream.waitingSinceMs = this.sink.nowMs() | 0;
    if (stream.waiting === TURN) return;
    if (stream.sendWindow <= 0) stream.waiting = WINDOW;
    else this.enqueue(stream);
  }

  private enqueue(stream: Stream<T>): void {
    stream.waiting = TURN;
    if (this.last === undefined) this.first = stream;
    else this.last.next = stream;
    this.last = stream;
  }
}
