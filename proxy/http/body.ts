/** How far the body of a message has come, whatever its framing. */
import { ChunkedReader } from './chunked.ts';
import { BODY } from './head.ts';

/** A body on its way. One object serves one message after the other. */
export class MessageBody {
  /** One of BODY. */
  kind: number = BODY.none;
  /** Bytes that are still to come, where its length is known. */
  remaining = 0;
  /** Bytes of content that were passed on so far, without any framing. */
  content = 0;
  done = true;
  /** All the rest is on its way without us. */
  passing = false;
  private reader: ChunkedReader | undefined;

  /** @param length in bytes, for BODY.length only */
  start(kind: number, length: number): void {
    this.kind = kind;
    this.remaining = length;
    this.content = 0;
    this.done = kind === BODY.none;
    this.passing = false;
    if (kind === BODY.chunked) this.chunks.reset();
  }

  /** It has been passed on as it came, but for the last `rest` bytes. @returns how much that was */
  passed(rest: number): number {
    // More when the link ended between two orders to pass.
    const left = Math.min(rest, this.remaining);
    const length = this.remaining - left;
    this.content += length;
    this.remaining = left;
    this.passing = false;
    this.done = left === 0;
    return length;
  }

  /** Reads the chunks. */
  get chunks(): ChunkedReader {
    this.reader ??= new ChunkedReader();
    return this.reader;
  }
}
