/** Bodies of requests that were sent and may have to be sent again, within a total. */
import type { Exchange } from '../model/exchange.ts';

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
    const length = to - from;
    if (exchange.keptLength + length > MAX_BODY || this.total + length > MAX_TOTAL) {
      exchange.replayable = false;
      return this.drop(exchange);
    }
    exchange.keptBody.push(bytes.slice(from, to));
    exchange.keptLength += length;
    this.total += length;
  }

  /** It need not be sent again. */
  release(exchange: Exchange): void {
    exchange.replayable = false;
    this.drop(exchange);
  }

  private drop(exchange: Exchange): void {
    this.total -= exchange.keptLength;
    exchange.keptLength = 0;
    if (exchange.keptBody.length > 0) exchange.keptBody = [];
  }
}
