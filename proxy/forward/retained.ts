/**
 * What was sent and may have to be sent again. It is kept in blocks of the slab, where it is built and sent from without
 * another copy; what does not fit goes to memory of its own, within a total.
 */
import type { Exchange } from '../model/exchange.ts';
import { type Engine, RETAINED_BYTES, RETAINED_OFFSET } from '../native/engine.ts';

/** One page: nearly every head with a short body behind it. */
export const BLOCK_BYTES = 4096;

/** A request of more bytes than this is not sent twice: Linkerd's limit for bodies that may be retried. */
const MAX_KEPT = 64 * 1024;

/** All exchanges of a worker together; beyond it requests are sent once only. */
const MAX_TOTAL = 64 * 1024 * 1024;

/** Keeps requests for one worker. */
export class Retained {
  private readonly engine: Engine;
  private readonly free: number[] = [];
  private total = 0;

  constructor(engine: Engine) {
    this.engine = engine;
    // Popped from the end: the same few pages are used as long as they suffice.
    const end = RETAINED_OFFSET + RETAINED_BYTES;
    for (let at = end - BLOCK_BYTES; at >= RETAINED_OFFSET; at -= BLOCK_BYTES) this.free.push(at);
  }

  /** A block for the exchange, if there is one left. */
  begin(exchange: Exchange): boolean {
    const block = this.free.pop();
    exchange.blockOffset = block ?? 0;
    exchange.blockLength = 0;
    exchange.replayable = true;
    return block !== undefined;
  }

  /** Keeps `bytes` behind what is kept already; what is too much makes the exchange one that is sent only once. */
  keep(exchange: Exchange, bytes: Uint8Array, from: number, to: number): boolean {
    if (!exchange.replayable) return false;
    const length = to - from;
    if (exchange.keptLength + length > MAX_KEPT || this.total + length > MAX_TOTAL) {
      exchange.replayable = false;
      return false;
    }
    exchange.kept.push(bytes.slice(from, to));
    exchange.keptLength += length;
    this.total += length;
    return true;
  }

  /** Sends everything that is kept. */
  send(exchange: Exchange, upstream: number): void {
    if (exchange.blockLength > 0) this.engine.sendRange(upstream, exchange.blockOffset, exchange.blockLength);
    for (const bytes of exchange.kept) this.engine.send(upstream, bytes);
  }

  /** It need not be sent again. */
  release(exchange: Exchange): void {
    exchange.replayable = false;
    if (exchange.blockOffset > 0) this.free.push(exchange.blockOffset);
    exchange.blockOffset = exchange.blockLength = 0;
    if (exchange.keptLength === 0) return;
    this.total -= exchange.keptLength;
    exchange.keptLength = 0;
    exchange.kept.length = 0;
  }
}
