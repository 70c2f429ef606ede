/** How far the body of a message has come, whatever its framing. */
import { ChunkedReader } from './chunked.ts';
import { BODY } from './head.ts';

/** A body on its way. One object serves one message after the other. */
export class MessageBody {
  /** One of BODY. */
  kind: number = BODY.none;
  /** Bytes that are still to come, where its length is known. */
  remaining = 0;
  /** Bytes that were passed on so far, framing included: not those that came where the framing is written anew. */
  handed = 0;
  done = true;
  private reader: ChunkedReader | undefined;

  /** @param length in bytes, for BODY.length only */
  start(kind: number, length: number): void {
    this.kind = kind;
    this.remaining = length;
    this.handed = 0;
    this.done = kind === BODY.none;
    if (kind === BODY.chunked) this.chunks.reset();
  }

  /** Reads the chunks. */
  get chunks(): ChunkedReader {
    this.reader ??= new ChunkedReader();
    return this.reader;
  }
}
