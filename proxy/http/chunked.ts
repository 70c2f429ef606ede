/**
 * The chunked coding (RFC 9112 section 7.1), read as it comes. Chunk extensions are dropped; the trailer section is kept in a
 * buffer of its own, since it may arrive in pieces.
 */
import { BYTE, HEX, VALUE } from './bytes.ts';
import { dropForbiddenTrailers, FieldIndex, MORE, readFields } from './fields.ts';
import { MAX_CHUNK_EXTENSION_BYTES, MAX_HEAD_BYTES, PROBLEM } from './problems.ts';

/** Most digits of a chunk size: 52 bits, below 2^53. Leading zeros count, so that a size cannot be without an end. */
const MAX_SIZE_DIGITS = 13;

const STATE = {
  size: 0,
  extension: 1,
  sizeLf: 2,
  data: 3,
  dataCr: 4,
  dataLf: 5,
  trailers: 6,
  lastLf: 7,
  done: 8,
} as const;

/** Finds the data in a chunked body. Reused: `reset` before each body. */
export class ChunkedReader {
  /** The run of data found by the last call of `next`, in the bytes it was given; equal when it found none. */
  dataStart = 0;
  dataEnd = 0;
  /** The body has ended, and `trailers` is there. */
  done = false;
  /** The trailer section. Fields with a meaning for the head are dropped (RFC 9110 section 6.5.1). */
  readonly trailers = new FieldIndex();
  /** Length of a trailer section that is too long, in bytes; for describeProblem. */
  seenBytes = 0;
  private state: number = STATE.size;
  private digits = 0;
  private remaining = 0;
  private extensionBytes = 0;
  /** The trailer section so far; undefined while it is empty, which it nearly always is. */
  private held: Uint8Array | undefined;
  private heldBytes = 0;

  /** Expects the first chunk of a body. */
  reset(): void {
    this.dataStart = this.dataEnd = this.seenBytes = 0;
    this.done = false;
    this.trailers.count = this.trailers.fieldsStart = this.trailers.end = 0;
    this.state = STATE.size;
    this.digits = this.remaining = this.extensionBytes = this.heldBytes = 0;
    this.held = undefined;
  }

  /**
   * Reads on, up to the end of a run of data, of the body or of the bytes. Call it again while it makes progress.
   * @returns the position up to which everything is consumed, or a negated PROBLEM
   */
  next(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    this.dataStart = this.dataEnd = from;
    while (at < to && this.state !== STATE.done) {
      if (this.state === STATE.data) return this.takeData(at, to);
      if (this.state === STATE.trailers) {
        at = this.takeTrailers(bytes, at, to);
      } else {
        const problem = this.step(bytes[at]);
        if (problem !== 0) return problem;
        at++;
      }
      if (at < 0) return at;
    }
    return at;
  }

  private takeData(at: number, to: number): number {
    const end = Math.min(to, at + this.remaining);
    this.dataStart = at;
    this.dataEnd = end;
    this.remaining -= end - at;
    if (this.remaining === 0) this.state = STATE.dataCr;
    return end;
  }

  /** One byte between data. */
  private step(byte: number): number {
    switch (this.state) {
      case STATE.size:
        return this.takeSize(byte);
      case STATE.extension:
        if (byte === BYTE.cr) this.state = STATE.sizeLf;
        else if (VALUE[byte] === 0 || ++this.extensionBytes > MAX_CHUNK_EXTENSION_BYTES) {
          return -PROBLEM.chunkExtension;
        }
        return 0;
      case STATE.sizeLf:
        this.state = this.remaining === 0 ? STATE.trailers : STATE.data;
        this.digits = this.extensionBytes = 0;
        return byte === BYTE.lf ? 0 : -PROBLEM.lineEnd;
      case STATE.dataCr:
        this.state = STATE.dataLf;
        return byte === BYTE.cr ? 0 : -PROBLEM.chunkEnd;
      case STATE.dataLf:
        this.state = STATE.size;
        return byte === BYTE.lf ? 0 : -PROBLEM.chunkEnd;
      default:
        if (byte !== BYTE.lf) return -PROBLEM.lineEnd;
        this.finish();
        return 0;
    }
  }

  /** No blanks around the size, though some recipients allow them: the others read another size. */
  private takeSize(byte: number): number {
    const digit = HEX[byte];
    if (digit !== 0xff) {
      if (++this.digits > MAX_SIZE_DIGITS) return -PROBLEM.chunkSize;
      this.remaining = this.remaining * 16 + digit;
      return 0;
    }
    if (this.digits === 0) return -PROBLEM.chunkSize;
    if (byte === BYTE.cr) this.state = STATE.sizeLf;
    else if (byte === BYTE.semicolon) this.state = STATE.extension;
    else return -PROBLEM.chunkSize;
    return 0;
  }

  /** Takes what may belong to the trailer section, and reads it again when a line of it has ended. */
  private takeTrailers(bytes: Uint8Array, from: number, to: number): number {
    if (this.heldBytes === 0 && bytes[from] === BYTE.cr) {
      this.state = STATE.lastLf;
      return from + 1;
    }
    for (let at = from; at < to; ) {
      const stop = lineStop(bytes, at, to);
      if (!this.hold(bytes, at, stop)) return -PROBLEM.trailersTooLarge;
      at = stop;
      if (bytes[stop - 1] !== BYTE.lf) break;
      const end = readFields(this.trailers, this.held!, 0, this.heldBytes);
      if (end < 0) return end;
      if (end !== MORE) {
        dropForbiddenTrailers(this.trailers);
        this.finish();
        return at;
      }
    }
    return to;
  }

  private hold(bytes: Uint8Array, from: number, to: number): boolean {
    const needed = this.heldBytes + to - from;
    this.seenBytes = needed;
    if (needed > MAX_HEAD_BYTES) return false;
    if (this.held === undefined || this.held.length < needed) {
      const grown = new Uint8Array(Math.max(256, 2 * needed));
      if (this.held !== undefined) grown.set(this.held.subarray(0, this.heldBytes));
      this.held = grown;
    }
    this.held.set(bytes.subarray(from, to), this.heldBytes);
    this.heldBytes = needed;
    return true;
  }

  private finish(): void {
    this.state = STATE.done;
    this.done = true;
  }
}

/** Behind the next LF, or `to`. */
function lineStop(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  while (at < to) if (bytes[at++] === BYTE.lf) break;
  return at;
}
