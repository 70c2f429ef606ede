/** Writes the access log to standard output. Its reader may be slow or leave: that is the log's loss, and nobody else's. */
import type { Writable } from 'node:stream';
import { log } from '../core/log.ts';
import type { FromWorker, ToWorker } from '../model/messages.ts';

/** How long the end of the log may take when the proxy ends, in ms: workers and a reader that reads need a few. */
const LAST_MS = 1_000;

/** A worker, as far as it logs. */
export interface AccessSource {
  postMessage(message: ToWorker): void;
}

type Batch = Extract<FromWorker, { readonly type: 'access' }>;

/** The writer; one per process. */
export class AccessOutput {
  private readonly stream: Writable;
  /** The reader is gone, or the disk full. */
  private failing = false;
  /** Who has been asked for the last lines. */
  private readonly asked = new Map<AccessSource, () => void>();

  /** @param stream its errors concern nobody else from now on */
  constructor(stream: Writable) {
    this.stream = stream;
    // Each write hears of its own.
    stream.removeAllListeners('error').on('error', () => undefined);
  }

  /** Writes what a worker sent, and tells it when that is over: no other batch comes until then. */
  write(source: AccessSource, { lines, last }: Batch): void {
    this.stream.write(lines, 'latin1', (error) => {
      const whole = error == null;
      if (!whole && !this.failing)
        log.warn('the access log cannot be written: its lines are dropped', { reason: error.message });
      this.failing = !whole;
      source.postMessage({ type: 'access-written', whole });
    });
    if (!last) return;
    this.asked.get(source)?.();
    this.asked.delete(source);
  }

  /** Gets the last lines of all workers, and waits until everything is written, but for no worker or reader that hangs. */
  async end(sources: readonly AccessSource[]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, LAST_MS);
    const answers = sources.map((source) => {
      const answer = new Promise<void>((answered) => this.asked.set(source, answered));
      source.postMessage({ type: 'access-end' });
      return answer;
    });
    await Promise.race([promise, Promise.all(answers)]);
    if (this.stream.writableLength > 0) {
      this.stream.write('', () => resolve());
      await promise;
    }
    clearTimeout(timer);
    if (this.stream.writableLength > 0) log.warn('nobody read the end of the access log: it is lost');
  }
}
