/** Bodies of requests that were sent and may have to be sent again, within a total. */
import { Block, copyBlock, copyInto } from '../core/block.ts';
import { Spares } from '../core/spares.ts';
import { MessageBody } from '../http/body.ts';
import type { FieldList } from '../http/h2/field.ts';
import { BODY } from '../http/head.ts';
import type { BodyWriter, Exchange } from '../model/exchange.ts';
import { passBody } from './http1-body.ts';

/** A longer body is not sent twice, in bytes: Linkerd's limit for what may be retried. */
const MAX_BODY = 64 * 1024;

/**
 * The content of all bodies of a worker together, in bytes; what goes beyond is not sent twice. Their memory is twice that at the most, and
 * SHORT_BODY for each.
 */
const MAX_TOTAL = 64 * 1024 * 1024;

/** Most calls of gRPC are shorter, in bytes. Memory of its own for each body made a call a tenth dearer. */
const SHORT_BODY = 1024;

/** Memory for short bodies that is kept for the next ones: 1 MB of it at most. */
const MOST_SPARE = 1024;

/** Keeps bodies for one worker. */
export class Retained {
  private total = 0;
  private readonly spares = new Spares<Block>(MOST_SPARE);

  /** Keeps bytes of a body, so that it can be sent again as a whole; too many, and it cannot. */
  keep(exchange: Exchange, bytes: Uint8Array, from: number, to: number): void {
    if (from === to || !exchange.replayable || !this.hasRoom(exchange, to - from)) return;
    const at = exchange.keptBytes;
    exchange.keptBytes = at + to - from;
    exchange.keptBody = this.withRoom(exchange.keptBody, at, exchange.keptBytes);
    copyInto(exchange.keptBody, at, bytes, from, to);
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

  /** Memory for `length` bytes, the first `used` of which are those of `block`; it grows by doubling. */
  private withRoom(block: Block | undefined, used: number, length: number): Block {
    if (block === undefined && length <= SHORT_BODY)
      return this.spares.take() ?? new Block(new Uint8Array(SHORT_BODY));
    if (block !== undefined && length <= block.bytes.length) return block;
    const larger = new Block(new Uint8Array(Math.min(MAX_BODY, Math.max(length, 2 * used))));
    if (block === undefined) return larger;
    copyBlock(larger, 0, block, used);
    this.recycle(block);
    return larger;
  }

  private recycle(block: Block): void {
    if (block.bytes.length === SHORT_BODY) this.spares.give(block);
  }

  /** Counts so many bytes more; what is too much makes the request one that cannot be sent again. */
  private hasRoom(exchange: Exchange, length: number): boolean {
    if (exchange.keptBytes + length <= MAX_BODY && this.total + length <= MAX_TOTAL) {
      this.total += length;
      return true;
    }
    exchange.replayable = false;
    this.drop(exchange);
    return false;
  }

  private drop(exchange: Exchange): void {
    const { keptBody, keptTrailers } = exchange;
    this.total -= exchange.keptBytes + (keptTrailers?.size ?? 0);
    if (keptBody !== undefined) this.recycle(keptBody);
    exchange.keptBody = undefined;
    exchange.keptBytes = 0;
    exchange.keptTrailers = undefined;
  }
}

/** Sends what is kept of a body again: as it came, and framed anew. */
export function sendAgain(exchange: Exchange, writer: BodyWriter): void {
  const { requestBody, requestLength, keptBody, keptBytes, keptTrailers } = exchange;
  const body = new MessageBody();
  body.start(requestBody.kind, requestLength);
  if (keptBody !== undefined) passBody(body, keptBody.bytes, 0, keptBytes, writer);
  // Of HTTP/2 the content alone is kept.
  if (body.kind === BODY.untilClose && requestBody.done) writer.end(keptTrailers);
}
