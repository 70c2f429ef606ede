/** How far the body of a message has come, whatever its framing. */
import { ChunkedReader } from './chunked.ts';

/** How a body ends (RFC 9112 section 6.3): not there at all, by its length, by its last chunk, or with the connection. */
export const FRAMING = { none: 0, length: 1, chunked: 2, untilClose: 3 } as const;

/** One of FRAMING. */
export type Framing = (typeof FRAMING)[keyof typeof FRAMING];

/** A body on its way. One object serves one message after the other. */
export class MessageBody {
  framing: Framing = FRAMING.none;
  /** Bytes that are still to come, where its length is known. */
  remaining = 0;
  done = true;
  private reader: ChunkedReader | undefined;

  /** @param length in bytes, for FRAMING.length only */
  start(framing: Framing, length: number): void {
    this.framing = framing;
    this.remaining = length;
    this.done = framing === FRAMING.none || (framing === FRAMING.length && length === 0);
    if (framing === FRAMING.chunked) this.chunks.reset();
  }

  /** Reads the chunks. */
  get chunks(): ChunkedReader {
    this.reader ??= new ChunkedReader();
    return this.reader;
  }
}
