/** HTTP/2 content: written to a stream, which takes as much as its windows allow, and kept until it takes the rest. */
import type { FieldIndex } from '../http/fields.ts';
import { FieldList } from '../http/h2/field.ts';
import { trailerFields } from '../http/h2/from-http1.ts';
import type { Session } from '../http/h2/session.ts';
import type { Stream } from '../http/h2/stream.ts';
import { joined, NO_BYTES } from '../model/connection.ts';
import type { BodyWriter } from '../model/exchange.ts';

/** Trailers of HTTP/1 on their way: sent before the next ones come. */
const converted = new FieldList();

/** Writes one message after the other, each to a stream of its own. */
export class StreamWriter<T> implements BodyWriter {
  readonly socket = 0;
  readonly framed = true;
  full = false;
  private session: Session<T> | undefined;
  private stream: Stream<T> | undefined;
  /** What the stream has not taken: no more than its source sends before it hears that this is full. */
  private held: Uint8Array = NO_BYTES;
  /** Behind that comes nothing but the trailers. */
  private last = false;
  private trailers: FieldList | undefined;

  /** The next message goes to this stream. */
  begin(session: Session<T>, stream: Stream<T>): void {
    this.session = session;
    this.stream = stream;
    this.empty();
  }

  /** Nothing more goes there. */
  forget(): void {
    this.stream = undefined;
    this.empty();
  }

  write(bytes: Uint8Array, from: number, to: number, last: boolean): void {
    const { session, stream } = this;
    if (session === undefined || stream === undefined) return;
    let taken = 0;
    if (!this.full) {
      taken = session.sendData(stream, bytes, from, to, last);
      if (taken === to - from) return;
    }
    this.held = joined(this.held, bytes.subarray(from + taken, to));
    this.full = true;
    this.last = last;
  }

  end(trailers: FieldIndex | FieldList | undefined): void {
    const { session, stream } = this;
    if (session === undefined || stream === undefined) return;
    const list = listOf(trailers);
    if (this.full) {
      this.last = true;
      this.trailers = list === undefined ? undefined : list.copy();
    } else if (list === undefined) session.sendData(stream, NO_BYTES, 0, 0, true);
    else session.sendTrailers(stream, list);
  }

  /** The stream takes some more. @returns whether it has taken everything, so that its source may go on */
  drain(): boolean {
    const { session, stream, held, last, trailers } = this;
    if (session === undefined || stream === undefined || !this.full) return true;
    const taken = session.sendData(stream, held, 0, held.length, last && trailers === undefined);
    this.held = held.subarray(taken);
    if (this.held.length > 0) return false;
    if (trailers !== undefined) session.sendTrailers(stream, trailers);
    this.empty();
    return true;
  }

  /** A stream is no socket. */
  passed(): void {}

  /** Nothing waits any more. */
  private empty(): void {
    this.held = NO_BYTES;
    this.full = this.last = false;
    this.trailers = undefined;
  }
}

/** Undefined where there are none. */
function listOf(trailers: FieldIndex | FieldList | undefined): FieldList | undefined {
  let list: FieldList | undefined;
  if (trailers instanceof FieldList) list = trailers;
  else if (trailers !== undefined) {
    trailerFields(trailers, converted);
    list = converted;
  }
  return list === undefined || list.count === 0 ? undefined : list;
}
