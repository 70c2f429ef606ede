/**
 * Takes the lines of one worker's access log to whoever writes them, in batches, one at a time: the next one leaves when the last one
 * is written. A reader that is slower than the traffic makes lines wait here, and be dropped and counted, but never makes traffic wait.
 */

/** So large a batch leaves at once: as much as a Linux pipe holds. */
const BATCH_BYTES = 64 * 1024;

/** How long a line waits for others at most, in ms: people who watch a log do not notice, and an idle worker has no timer. */
const BATCH_MS = 100;

/**
 * What may wait in a worker, in bytes: at 10,000 requests a second and 300 bytes a line, a reader may stall for 0.7 s, which is
 * longer than the rotation of a log takes. As much again may be on its way.
 */
const WAITING_BYTES = 2 << 20;

/** Lines that wait, and the batch that is under way. */
export class AccessLines {
  private readonly send: (lines: string) => void;
  private readonly dropped: (lines: number) => void;
  private waiting = '';
  private waitingLines = 0;
  /** Lines of the batch that has left and is not written yet. */
  private sentLines = 0;
  private timer: NodeJS.Timeout | undefined;

  /**
   * @param send takes a batch; `written` must follow
   * @param dropped counts lines that nobody will read
   */
  constructor(send: (lines: string) => void, dropped: (lines: number) => void) {
    this.send = send;
    this.dropped = dropped;
  }

  /** Adds one line of ASCII with its end. */
  add(line: string): void {
    if (this.waiting.length + line.length > WAITING_BYTES) return this.dropped(1);
    this.waiting += line;
    this.waitingLines++;
    this.goOn();
  }

  /** The batch that was sent is written, or is lost. */
  written(whole: boolean): void {
    if (!whole) this.dropped(this.sentLines);
    this.sentLines = 0;
    if (this.waitingLines > 0) this.goOn();
  }

  /** Everything that waits, for the end of the worker. */
  take(): string {
    clearTimeout(this.timer);
    this.timer = undefined;
    const lines = this.waiting;
    this.waiting = '';
    this.waitingLines = 0;
    return lines;
  }

  private goOn(): void {
    if (this.sentLines > 0) return;
    if (this.waiting.length >= BATCH_BYTES) this.leave();
    else this.timer ??= setTimeout(() => this.leave(), BATCH_MS);
  }

  private leave(): void {
    this.sentLines = this.waitingLines;
    this.send(this.take());
  }
}
