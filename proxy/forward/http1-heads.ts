/**
 * Heads of requests that were sent and may have to be sent again. They are kept in blocks of the slab, where they are built and
 * sent from without another copy; those that do not fit, in memory of their own.
 */
import type { Head } from '../http/head.ts';
import { headRoom, type WriteOptions, writeRequestHead } from '../http/write.ts';
import { type ConnectionId, type Engine, RETAINED_BYTES, RETAINED_OFFSET } from '../native/engine.ts';
import type { Http1Exchange } from './http1-exchange.ts';

/** One page: nearly every head. */
const BLOCK_BYTES = 4096;

/** Keeps heads for one worker. */
export class Http1Heads {
  private readonly engine: Engine;
  private readonly free: number[] = [];

  constructor(engine: Engine) {
    this.engine = engine;
    // Taken from the end: the same few pages are used as long as they suffice.
    const last = RETAINED_OFFSET + RETAINED_BYTES - BLOCK_BYTES;
    for (let at = last; at >= RETAINED_OFFSET; at -= BLOCK_BYTES) this.free.push(at);
  }

  /** Keeps the head of a request as it is to be sent. */
  keep(exchange: Http1Exchange, head: Head, options: WriteOptions): void {
    const room = headRoom(head, options);
    const block = room <= BLOCK_BYTES ? (this.free.pop() ?? 0) : 0;
    exchange.blockOffset = block;
    if (block > 0) {
      exchange.blockLength = writeRequestHead(head, options, this.engine.slab, block) - block;
      return;
    }
    const bytes = new Uint8Array(room);
    exchange.longHead = bytes.subarray(0, writeRequestHead(head, options, bytes, 0));
  }

  /**
   * Sends it. `more`: the body follows at once, and should leave in one piece with it.
   * @returns its length in bytes
   */
  send(exchange: Http1Exchange, socket: ConnectionId, more: boolean): number {
    const { blockOffset, blockLength, longHead } = exchange;
    const { engine } = this;
    exchange.sentFlush = engine.flushes;
    if (longHead !== undefined) {
      engine.send(socket, longHead);
      return longHead.length;
    }
    if (!more) engine.sendRange(socket, blockOffset, blockLength);
    else {
      const at = engine.reserve(blockLength);
      engine.slab.copyWithin(at, blockOffset, blockOffset + blockLength);
      engine.sendBuilt(socket, at + blockLength);
    }
    return blockLength;
  }

  /** Where it is. */
  kept({ blockOffset, blockLength, longHead }: Http1Exchange): readonly [Uint8Array, number, number] {
    if (longHead !== undefined) return [longHead, 0, longHead.length];
    return [this.engine.slab, blockOffset, blockOffset + blockLength];
  }

  /** It need not be sent again. */
  release(exchange: Http1Exchange): void {
    exchange.longHead = undefined;
    if (exchange.blockOffset === 0) return;
    // What is to be sent from the block must leave before the block is another's.
    if (exchange.sentFlush === this.engine.flushes) this.engine.flush();
    this.free.push(exchange.blockOffset);
    exchange.blockOffset = exchange.blockLength = 0;
  }
}
