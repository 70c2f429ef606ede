/** Bodies of requests that were sent and may have to be sent again, within a total. */
import { MessageBody } from '../http/body.ts';
import type { FieldList } from '../http/h2/field.ts';
import { BODY } from '../http/head.ts';
import { joined, NO_BYTES } from '../model/connection.ts';
import type { BodyWriter, Exchange } from '../model/exchange.ts';
import { passBody } from './http1-body.ts';

/** A longer body is not sent twice, in bytes: Linkerd's limit for what may be retried. */
const MAX_BODY = 64 * 1024;

/** The bodies of a worker's exchanges together, in bytes; what goes beyond is not sent twice. */
const MAX_TOTAL = 64 * 1024 * 1024;

/** Keeps bodies for one worker. */
export class Retained {
  private total = 0;

  /** Keeps bytes of a body, so that it can be sent again as a whole; too many, and it cannot. */
  keep(exchange: Exchange, bytes: Uint8Array, from: number, to: number): void {
    if (!exchange.replayable) return;
    if (this.hasRoom(exchange, to - from))
      exchange.keptBody = joined(exchange.keptBody, bytes.subarray(from, to));
  }

  /** Keeps the trailers behind a body. */
  keepTrailers(exchange: Exchange, trailers: FieldList): void {
    if (exchange.replayable && this.hasRoom(exchange, trailers.size)) exchange.keptTrailers = trailers.copy();
  }

  /** It need not be sent again. */
  release(exchange: Exchange): void {
    exchange.replayable = false;
    this.drop(exchange);
  }

  /** Counts so many bytes more; what is too much makes the request one that cannot be sent again. */
  private hasRoom(exchange: Exchange, length: number): boolean {
    if (exchange.keptBody.length + length <= MAX_BODY && this.total + length <= MAX_TOTAL) {
      this.total += length;
      return true;
    }
    exchange.replayable = false;
    this.drop(exchange);
    return false;
  }

  private drop(exchange: Exchange): void {
    this.total -= exchange.keptBody.length + (exchange.keptTrailers?.size ?? 0);
    exchange.keptBody = NO_BYTES;
    exchange.keptTrailers = undefined;
  }
}

/** Sends what is kept of a body again: as it came, and framed anew. */
export function sendAgain(exchange: Exchange, writer: BodyWriter): void {
  const { requestBody, requestLength, keptBody, keptTrailers } = exchange;
  const body = new MessageBody();
  body.start(requestBody.kind, requestLength);
  passBody(body, keptBody, 0, keptBody.length, writer);
  // Of HTTP/2 the content alone is kept.
  if (body.kind === BODY.untilClose && requestBody.done) writer.end(keptTrailers);
}
