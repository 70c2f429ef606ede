/** The streams of a connection: those that are open, and what became of the last ones that were. */
import { Spares } from '../../core/spares.ts';
import { Stream, WAITING } from './stream.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { turn: TURN } = WAITING;

/** How a stream ended, as far as it matters for frames that come behind its end. */
export const ENDED = {
  /** It is not among the last, or we reset it: the peer may not have known when it sent what comes now. */
  unknown: 0,
  /** Both sides ended it. */
  orderly: 1,
  /** The peer reset it. */
  byPeer: 2,
} as const;

/** How many ended streams are remembered, a power of two. What comes later for older ones is ignored, which is always allowed. */
const REMEMBERED = 32;

/**
 * Streams that are kept to be used again: as many as may be open by default, 25 KB. Two new ones for each request would be most of
 * what the garbage collector has to do.
 */
const MOST_SPARE = 128;

/**
 * Streams by their number. Numbers follow each other, so that each has a place of its own among as many as are open, but for a
 * few that stay open for long: who finds his place taken goes to a map.
 */
export class Streams<T> {
  /** Streams that are open. */
  count = 0;
  private readonly places: (Stream<T> | undefined)[];
  /** Those who found their places taken. */
  private crowded: Map<number, Stream<T>> | undefined = undefined;
  /** Of the last streams that have ended: their numbers and how. */
  private readonly pastIds: number[] = [];
  private readonly pastHow: number[] = [];
  private pastAt = 0;
  private readonly spares = new Spares<Stream<T>>(MOST_SPARE);

  /** @param most that may be open at once */
  constructor(most: number) {
    const places = 2 ** Math.ceil(Math.log2(most));
    this.places = new Array<Stream<T> | undefined>(places).fill(undefined);
  }

  /** The open stream of that number. */
  get(id: number): Stream<T> | undefined {
    const stream = this.places[(id >> 1) & (this.places.length - 1)];
    if (stream !== undefined && stream.id === id) return stream;
    return this.crowded?.get(id);
  }

  /** Opens one; see `Stream.begin`. */
  open(id: number, method: number, sendWindow: number, receiveWindow: number, openedMs: number): Stream<T> {
    const stream = this.spares.take() ?? new Stream<T>();
    stream.begin(id, method, sendWindow, receiveWindow, openedMs);
    this.count++;
    this.place(stream);
    return stream;
  }

  /** Nobody knows the stream any more, but for the queue of those that wait for their turn: it may be opened as another. */
  give(stream: Stream<T>): void {
    if (stream.closed && stream.waiting !== TURN) this.spares.give(stream);
  }

  /** @param how one of ENDED */
  remove(stream: Stream<T>, how: number): void {
    const { id } = stream;
    const at = (id >> 1) & (this.places.length - 1);
    if (this.places[at] === stream) this.places[at] = undefined;
    else this.crowded?.delete(id);
    this.count--;
    this.pastIds[this.pastAt] = id;
    this.pastHow[this.pastAt] = how;
    this.pastAt = (this.pastAt + 1) & (REMEMBERED - 1);
  }

  /** One of ENDED, for a stream that is not open. */
  howEnded(id: number): number {
    const at = this.pastIds.indexOf(id);
    return at < 0 ? ENDED.unknown : this.pastHow[at];
  }

  /** All that are open now; some may have been closed when a caller comes to them who tells anybody of the others. */
  all(): Stream<T>[] {
    return [...this.places.filter((stream) => stream !== undefined), ...(this.crowded?.values() ?? [])];
  }

  private place(stream: Stream<T>): void {
    const at = (stream.id >> 1) & (this.places.length - 1);
    if (this.places[at] === undefined) {
      this.places[at] = stream;
      return;
    }
    this.crowded ??= new Map();
    this.crowded.set(stream.id, stream);
  }
}
