/**
 * What the fuzzer of the socket engine believes: which bytes belong where, and which ends are honest. A stream is a
 * number (see `bytesOf`), so that every byte on its way says whose it is and where it stands.
 */

import type { Socket } from 'node:net';
import type { ConnectionId, Engine } from '../../proxy/native/engine.ts';
import { bytesOf, isStream } from '../support/engine-peers.ts';

/** Deterministic numbers from a seed: mulberry32 (T. Ettinger, public domain). */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 0 to `below - 1`. */
  int(below: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  }

  chance(percent: number): boolean {
    return this.int(100) < percent;
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from.length === 0 ? undefined : from[this.int(from.length)];
  }

  /** A length that is tiny, middling or bulky. */
  length(): number {
    return 1 + this.int([10, 5_000, 70_000, 900_000][this.int(4)]);
  }
}

/** A piece of what one end of a connection must receive: part of a stream, or what another connection brings. */
interface Segment {
  readonly stream: number;
  readonly from: number;
  /** Undefined while another connection feeds it. */
  length: number | undefined;
  /** Whose end ends an open segment. */
  readonly source: FuzzPeer | undefined;
}

/** Everything the engine was asked to send on one connection, in order. */
export class Wire {
  private readonly segments: Segment[] = [];
  private current = 0;
  private consumed = 0;
  received = 0;
  /** Bytes that TypeScript sent. */
  added = 0;
  /** Some of it was refused because the connection had ended already: the whole need not arrive. */
  unreliable = false;

  /** Before an open piece, of which nothing has been brought yet (see `advance`). */
  add(stream: number, from: number, length: number): void {
    this.added += length;
    const last = this.segments.at(-1);
    const open = last !== undefined && last.length === undefined ? last : undefined;
    if (open !== undefined) this.segments.pop();
    if (this.current === this.segments.length && this.consumed > 0) {
      throw new Error('more has arrived than was brought');
    }
    this.segments.push({ stream, from, length, source: undefined });
    if (open !== undefined) this.segments.push(open);
  }

  /** From here on, what `source` sends from position `from` comes over this wire. */
  open(source: FuzzPeer, from: number): void {
    this.segments.push({ stream: source.stream, from, length: undefined, source });
  }

  /** The open piece is over, and brought `length` bytes. */
  close(length: number): void {
    const last = this.segments.at(-1);
    if (last === undefined || last.length !== undefined) return;
    if (this.segments[this.current] === last && this.consumed > length) {
      throw new Error(`${this.consumed} bytes have arrived of ${length} that were brought`);
    }
    last.length = length;
  }

  /** The open piece brought `length` bytes so far, and goes on with position `from` of its source. */
  advance(length: number, from: number): void {
    const source = this.segments.at(-1)?.source;
    this.close(length);
    if (source !== undefined) this.open(source, from);
  }

  /** @throws when `bytes` are not what comes next */
  take(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const segment = this.segments[this.current];
      if (segment === undefined) throw new Error(`${bytes.length - at} bytes nobody sent`);
      const left = (segment.length ?? Number.POSITIVE_INFINITY) - this.consumed;
      if (left === 0) {
        this.current++;
        this.consumed = 0;
        continue;
      }
      const part = bytes.subarray(at, at + Math.min(left, bytes.length - at));
      if (!isStream(segment.stream, segment.from + this.consumed, part)) {
        throw new Error(`wrong bytes ${this.received + at} bytes into a connection`);
      }
      this.consumed += part.length;
      at += part.length;
    }
    this.received += bytes.length;
  }

  /** How much must have arrived for an orderly end to be honest; undefined: no orderly end is. */
  whole(): number | undefined {
    let total = 0;
    for (const { length, source, from } of this.segments) {
      const known = length ?? (source?.endedAt === undefined ? undefined : source.endedAt - from);
      if (known === undefined) return undefined;
      total += known;
    }
    return total;
  }
}

/** The other end of a connection of the engine. */
export class FuzzPeer {
  readonly stream: number;
  readonly socket: Socket;
  /** Below `socket`, where that speaks TLS. */
  readonly raw: Socket;
  sent = 0;
  /** How much it had sent when it ended its side. */
  endedAt: number | undefined;
  connection: FuzzConnection | undefined;
  /** How much had arrived when the engine ended its side. */
  finishedAt: number | undefined;
  closed = false;
  /** It broke the protocol below its socket, or never spoke it: what it sends from here on must not count. */
  spoiled = false;
  /** It broke the connection. */
  private broken = false;

  constructor(stream: number, socket: Socket, raw: Socket) {
    this.stream = stream;
    this.socket = socket;
    this.raw = raw;
  }

  get writable(): boolean {
    return (
      this.endedAt === undefined && !this.closed && !this.socket.destroyed && !this.spoiled && !this.broken
    );
  }

  /** It is to speak TLS: what goes over `raw` is not what it means to say. */
  get tls(): boolean {
    return this.raw !== this.socket;
  }

  write(length: number): void {
    // What node:net holds for us is not what is tested.
    if (!this.writable || this.socket.writableLength > 3_000_000) return;
    this.socket.write(bytesOf(this.stream, this.sent, length));
    this.sent += length;
  }

  end(): void {
    // Nothing it says counts any more, so that it says nothing in order either. A reset may wait until it is connected.
    if (this.spoiled && !this.broken) this.raw.end();
    if (!this.writable) return;
    this.endedAt = this.sent;
    this.socket.end();
  }

  /** Writes `garbage` where a record is due, or ends the connection where the end of TLS is due. */
  spoil(garbage: Buffer | 'end'): void {
    if (!this.writable || this.raw.destroyed) return;
    this.spoiled = true;
    if (garbage === 'end') this.raw.end();
    else this.raw.write(garbage);
  }

  /** Not after an end: node:net cannot reset a socket that is shutting down, and never closes it then. */
  reset(): void {
    if (!this.writable && !(this.spoiled && this.raw.writable)) return;
    this.broken = true;
    this.raw.resetAndDestroy();
  }

  /** @throws when the engine ended this connection in order without having delivered everything. */
  judge(): void {
    const wire = this.connection?.wire;
    if (this.finishedAt === undefined || wire === undefined || wire.unreliable) return;
    const whole = wire.whole();
    if (whole !== this.finishedAt) {
      throw new Error(`an orderly end after ${this.finishedAt} bytes; the whole is ${whole ?? 'not over'}`);
    }
  }
}

/** One connection of the engine. */
export class FuzzConnection {
  readonly id: ConnectionId;
  /** Of the bytes it sends of its own. */
  readonly stream: number;
  /** Where the metrics slab counts its bytes, and what was there before. */
  readonly slot: number;
  readonly baseRead: number;
  readonly baseWritten: number;
  readonly wire = new Wire();
  peer: FuzzPeer | undefined;
  state: 'connecting' | 'open' | 'gone' = 'connecting';
  /** It is to speak TLS. */
  tls = false;
  /** What it says first, once it is secured. */
  greeting: Buffer | undefined;
  /** What came before TLS was begun, while that is looked at. */
  hello: Buffer[] | undefined;
  /** Of the peer's stream, by TypeScript or a relay that was taken apart. */
  read = 0;
  sent = 0;
  relayedTo: FuzzConnection | undefined;
  /** What comes next from its peer goes to another connection. */
  passing: FuzzPass | undefined;
  /** The connection that passes on to this one. */
  passedFrom: FuzzConnection | undefined;
  /** Its relay was taken apart: the engine may have seen an end that it has yet to tell. */
  unrelayed = false;
  /** We ended our side. */
  shut = false;
  /** It was told to end, or has ended. */
  closing = false;
  /** Which state it is in depends on what the engine did and has not told yet: it is left alone. */
  doubtful = false;
  /** Sends that must come back as dead operations. */
  refusals = 0;
  ends = 0;

  constructor(id: ConnectionId, stream: number, slot: number, metrics: Float64Array) {
    this.id = id;
    this.stream = stream;
    this.slot = slot;
    this.baseRead = metrics[slot];
    this.baseWritten = metrics[slot + 1];
  }

  /** It passes on, or gets what another one does. */
  get passes(): boolean {
    return this.passing !== undefined || this.passedFrom !== undefined;
  }
}

/** Bytes that the engine is to pass on from a connection. */
export interface FuzzPass {
  readonly to: FuzzConnection;
  /** So many more. */
  left: number;
  /** The batch is over in which they were asked for: none is told any more. */
  begun: boolean;
  /** What is told until then is sent on and taken off; as it is, it does not count. */
  readonly takesOff: boolean;
}

/** What every part of a round works with. */
export interface FuzzBench {
  readonly engine: Engine;
  readonly random: Random;
  readonly metrics: Float64Array;
  readonly summary: FuzzSummary;
  /** Keeps what `work` throws for whoever runs the round: elsewhere it would name no seed. */
  guard(work: () => void): void;
}

/** What a run did, so that a test can see that it did something. */
export interface FuzzSummary {
  connections: number;
  bytes: number;
  relays: number;
  unrelays: number;
  refusedRelays: number;
  orderlyEnds: number;
  failures: number;
  deadOperations: number;
  splicedBytes: number;
  /** Handshakes that succeeded, and that did not. */
  secured: number;
  handshakesFailed: number;
  /** Bytes given back. */
  unreadBytes: number;
  /** How often everything was passed on that was to be, and how often a part. */
  passes: number;
  cutPasses: number;
  passedBytes: number;
  spoiled: number;
}
