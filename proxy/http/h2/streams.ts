/** The streams of a connection: those that are open, and what became of the last ones that were. */
import type { Stream } from './stream.ts';

/** How a stream ended, as far as it matters for frames that come behind its end. */
export const ENDED = {
  /** It is not among the last, or we reset it: the peer may not have known when it sent what comes now. */
  unknown: 0,
  /** Both sides ended it. */
  orderly: 1,
  /** The peer reset it. */
  byPeer: 2,
} as const;

/** How many ended streams are remembered. What comes later for older ones is ignored, which is always allowed. */
const REMEMBERED = 32;

/** Streams by their number. */
export class Streams<T> {
  private readonly open = new Map<number, Stream<T>>();
  /** Of the last streams that have ended: their number and how, 4 * id + ENDED. */
  private readonly past: number[] = [];
  private pastAt = 0;

  /** Streams that are open. */
  get count(): number {
    return this.open.size;
  }

  /** The open stream of that number. */
  get(id: number): Stream<T> | undefined {
    return this.open.get(id);
  }

  add(stream: Stream<T>): void {
    this.open.set(stream.id, stream);
  }

  /** @param how one of ENDED */
  remove(stream: Stream<T>, how: number): void {
    this.open.delete(stream.id);
    this.past[this.pastAt] = stream.id * 4 + how;
    this.pastAt = (this.pastAt + 1) % REMEMBERED;
  }

  /** One of ENDED, for a stream that is not open. */
  howEnded(id: number): number {
    for (const record of this.past) if (Math.floor(record / 4) === id) return record % 4;
    return ENDED.unknown;
  }

  /** All that are open; they may be removed meanwhile. */
  values(): Iterable<Stream<T>> {
    return this.open.values();
  }
}
