/**
 * What was sent of requests and may have to be sent again. Heads are kept in blocks of the slab, where they are built and
 * sent from without another copy; what does not fit there, and bodies, in memory of their own, within a total.
 */
import type { Exchange } from '../model/exchange.ts';
import { type ConnectionId, type Engine, RETAINED_BYTES, RETAINED_OFFSET } from '../native/engine.ts';

/** One page: nearly every head. */
export const BLOCK_BYTES = 4096;

/** A longer body is not sent twice, in bytes: Linkerd's limit for what may be retried. */
const MAX_BODY = 64 * 1024;

/** The bodies of a worker's exchanges together, in bytes; what goes beyond is not sent twice. */
const MAX_TOTAL = 64 * 1024 * 1024;

/** Keeps requests for one worker. */
export class Retained {
  private readonly engine: Engine;
  private readonly free: number[] = [];
  private total = 0;

  constructor(engine: Engine) {
    this.engine = engine;
    // Taken from the end: the same few pages are used as long as they suffice.
    const last = RETAINED_OFFSET + RETAINED_BYTES - BLOCK_BYTES;
    for (let at = last; at >= RETAINED_OFFSET; at -= BLOCK_BYTES) this.free.push(at);
  }

  /** A block for the head of a request, by its offset in the slab; 0 when there is none left. */
  block(exchange: Exchange): number {
    exchange.blockOffset = this.free.pop() ?? 0;
    return exchange.blockOffset;
  }

  /** Keeps bytes of a body, so that it can be sent again as a whole; too many, and it cannot. */
  keepBody(exchange: Exchange, bytes: Uint8Array, from: number, to: number): void {
    if (!exchange.replayable) return;
    const length = to - from;
    if (exchange.keptLength + length > MAX_BODY || this.total + length > MAX_TOTAL) {
      exchange.replayable = false;
      return this.dropBody(exchange);
    }
    exchange.keptBody.push(bytes.slice(from, to));
    exchange.keptLength += length;
    this.total += length;
  }

  /** Sends the head. `more`: the body follows at once, and should leave in one piece with it. */
  sendHead(exchange: Exchange, upstream: ConnectionId, more: boolean): void {
    const { blockOffset, blockLength, longHead } = exchange;
    if (longHead !== undefined) return this.engine.send(upstream, longHead);
    if (!more) return this.engine.sendRange(upstream, blockOffset, blockLength);
    const at = this.engine.reserve(blockLength);
    this.engine.slab.copyWithin(at, blockOffset, blockOffset + blockLength);
    this.engine.sendBuilt(upstream, at + blockLength);
  }

  /** It need not be sent again. */
  release(exchange: Exchange): void {
    exchange.replayable = false;
    exchange.longHead = undefined;
    this.dropBody(exchange);
    if (exchange.blockOffset === 0) return;
    // What is to be sent from the block must leave before the block is another's.
    if (exchange.sentFlush === this.engine.flushes) this.engine.flush();
    this.free.push(exchange.blockOffset);
    exchange.blockOffset = exchange.blockLength = 0;
  }

  private dropBody(exchange: Exchange): void {
    this.total -= exchange.keptLength;
    exchange.keptLength = 0;
    if (exchange.keptBody.length > 0) exchange.keptBody = [];
  }
}
