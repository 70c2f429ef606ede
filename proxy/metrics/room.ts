/** Free slots of a slab: ranges that are handed out whole and grow together again when they come back. */

/** Ascending ranges that never touch each other. Taking and giving are for when series appear and go, not for the hot path. */
export class SlotRoom {
  private readonly starts: number[];
  private readonly lengths: number[];

  /** @param end behind the last free slot */
  constructor(start: number, end: number) {
    this.starts = end > start ? [start] : [];
    this.lengths = end > start ? [end - start] : [];
  }

  /** The lowest range of `length` slots: what is in use stays on few pages. Undefined when there is none. */
  take(length: number): number | undefined {
    const at = this.lengths.findIndex((free) => free >= length);
    if (at < 0) return undefined;
    const start = this.starts[at];
    this.starts[at] += length;
    this.lengths[at] -= length;
    if (this.lengths[at] === 0) this.remove(at);
    return start;
  }

  /** Gives back what `take` handed out. */
  give(start: number, length: number): void {
    let at = this.starts.findIndex((free) => free > start);
    if (at < 0) at = this.starts.length;
    this.starts.splice(at, 0, start);
    this.lengths.splice(at, 0, length);
    this.join(at);
    if (at > 0) this.join(at - 1);
  }

  /** Makes one range of two that touch. */
  private join(at: number): void {
    if (this.starts[at] + this.lengths[at] !== this.starts[at + 1]) return;
    this.lengths[at] += this.lengths[at + 1];
    this.remove(at + 1);
  }

  private remove(at: number): void {
    this.starts.splice(at, 1);
    this.lengths.splice(at, 1);
  }
}
