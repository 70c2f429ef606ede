/** The endpoint's side of HTTP/1: reads the responses of its connections. */
import { Head } from '../http/head.ts';
import { readResponseHead } from '../http/response.ts';
import { isWorthReading } from '../http/start-line.ts';
import { joined, NO_BYTES } from '../model/connection.ts';
import type { Exchange } from '../model/exchange.ts';
import type { HttpUpstream } from './upstream.ts';

/** What responses are read for. */
export interface ResponseOwner {
  /** A whole head is there, of an interim response or of the final one; valid in this call only. */
  responseHead(exchange: Exchange, upstream: HttpUpstream, head: Head): void;
  /** Bytes of the body. @returns where they ended, or below 0 for a problem */
  responseBytes(
    exchange: Exchange,
    upstream: HttpUpstream,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): number;
  /** All of it has come. `more`: and something behind it that nobody asked for. */
  responseDone(exchange: Exchange, upstream: HttpUpstream, more: boolean): void;
  /** What came cannot be understood; see problems.ts. */
  responseProblem(exchange: Exchange, upstream: HttpUpstream, problem: number, seenBytes: number): void;
  /** The connection carries other bytes now, from here on. */
  switched(exchange: Exchange, upstream: HttpUpstream, bytes: Uint8Array, from: number, to: number): void;
}

/** Reads responses for one worker. */
export class Http1Responses {
  private readonly owner: ResponseOwner;
  /** Of the response that is being read: nobody keeps it. */
  private readonly head = new Head();

  constructor(owner: ResponseOwner) {
    this.owner = owner;
  }

  /** Bytes for an exchange. */
  received(exchange: Exchange, upstream: HttpUpstream, bytes: Uint8Array, from: number, to: number): void {
    const before = upstream.held.length;
    if (before === 0) return this.read(exchange, upstream, bytes, from, to);
    const whole = joined(upstream.held, bytes.subarray(from, to));
    upstream.held = whole;
    if (!isWorthReading(whole, 0, before, whole.length)) return;
    upstream.held = NO_BYTES;
    this.read(exchange, upstream, whole, 0, whole.length);
  }

  private read(
    exchange: Exchange,
    upstream: HttpUpstream,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): void {
    let at = from;
    // What a sidecar says of its own answers is for the client too; it has proved to be one.
    this.head.keepMesh = upstream.endpoint?.tls !== undefined;
    while (!exchange.responseStarted) {
      if (at === to) return;
      const end = readResponseHead(this.head, bytes, at, to, exchange.method);
      if (end < 0) return this.owner.responseProblem(exchange, upstream, -end, this.head.seenBytes);
      if (end === 0) {
        upstream.held = bytes.slice(at, to);
        return;
      }
      at = end;
      this.owner.responseHead(exchange, upstream, this.head);
      if (upstream.exchange !== exchange) return;
      if (upstream.switching) return this.owner.switched(exchange, upstream, bytes, at, to);
    }
    while (at < to && !exchange.responseBody.done) {
      const end = this.owner.responseBytes(exchange, upstream, bytes, at, to);
      if (end < 0) {
        const { seenBytes } = exchange.responseBody.chunks;
        return this.owner.responseProblem(exchange, upstream, -end, seenBytes);
      }
      at = end;
    }
    if (exchange.responseBody.done) this.owner.responseDone(exchange, upstream, at < to);
  }
}
