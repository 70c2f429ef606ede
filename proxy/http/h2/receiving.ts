/**
 * Windows for content on its way in (RFC 9113 section 5.2). A stream's window is filled up by what its reader has consumed, the
 * connection's by what has arrived: a slow reader stops its own stream and no other, as long as all readers together hold
 * no more than a bound.
 */
import { DEFAULT_WINDOW_BYTES } from './frames.ts';
import type { WindowSizes } from './options.ts';
import type { Output } from './output.ts';
import type { Stream } from './stream.ts';

/** Windows that have been used up so often without its reader falling behind are too small. */
const GROWTH_ROUNDS = 2;

/** The way in of all content of a connection. */
export class Receiving<T> {
  private readonly sizes: WindowSizes;
  private readonly output: Output;
  /** Bytes that the peer may still send. */
  private window: number;
  /** Bytes that have arrived and that the peer was not given again. */
  private spent = 0;
  /** Bytes that readers hold. */
  private held = 0;
  /** Bytes that windows of streams have grown by: at most half of what readers may hold, so that the others have the rest. */
  private grown = 0;

  constructor(sizes: WindowSizes, output: Output) {
    this.sizes = sizes;
    this.output = output;
    this.window = Math.max(sizes.connectionWindowBytes, DEFAULT_WINDOW_BYTES);
  }

  /** What the connection's window is opened by at the start. */
  get firstUpdate(): number {
    return this.window - DEFAULT_WINDOW_BYTES;
  }

  /** A DATA frame of that length begins, padding included. @returns false: more than the connection may send */
  frameBegins(length: number): boolean {
    this.window -= length;
    return this.window >= 0;
  }

  /** It has arrived, and the connection may send as much again. */
  frameEnded(length: number): void {
    this.spent += length;
    this.refill();
  }

  /** A reader was given bytes of a stream. */
  given(stream: Stream<T>, length: number): void {
    stream.held += length;
    this.held += length;
  }

  /** A reader has consumed bytes. @param wantsMore more may come on the stream */
  consumed(stream: Stream<T>, length: number, wantsMore: boolean): void {
    // What was held when a stream was reset does not count any more.
    const released = Math.min(length, stream.held);
    stream.held -= released;
    this.held -= released;
    if (wantsMore) this.refillStream(stream);
    if (this.spent > 0) this.refill();
  }

  /** A stream is closed. @param isReset what its reader holds is of no use any more */
  closed(stream: Stream<T>, isReset: boolean): void {
    this.grown -= stream.windowSize - this.sizes.streamWindowBytes;
    stream.windowSize = this.sizes.streamWindowBytes;
    if (!isReset) return;
    this.held -= stream.held;
    stream.held = 0;
    if (this.spent > 0) this.refill();
  }

  /** Updates are worth a frame when half of the window is gone. */
  private refill(): void {
    if (2 * this.spent < this.sizes.connectionWindowBytes || this.held > this.sizes.maxHeldBytes) return;
    this.output.windowUpdate(0, this.spent);
    this.window += this.spent;
    this.spent = 0;
  }

  private refillStream(stream: Stream<T>): void {
    const spent = stream.windowSize - stream.receiveWindow - stream.held;
    if (2 * spent < stream.windowSize) return;
    const update = spent + this.growth(stream, spent);
    this.output.windowUpdate(stream.id, update);
    stream.receiveWindow += update;
  }

  /** How much larger the window of a stream becomes. */
  private growth(stream: Stream<T>, spent: number): number {
    const { windowSize } = stream;
    stream.sinceGrowth = 8 * stream.held <= windowSize ? stream.sinceGrowth + spent : 0;
    const { maxStreamWindowBytes, maxHeldBytes } = this.sizes;
    if (stream.sinceGrowth < GROWTH_ROUNDS * windowSize) return 0;
    const growth = Math.min(windowSize, maxStreamWindowBytes - windowSize);
    if (growth <= 0 || 2 * (this.grown + growth) > maxHeldBytes) return 0;
    stream.sinceGrowth = 0;
    stream.windowSize += growth;
    this.grown += growth;
    return growth;
  }
}
