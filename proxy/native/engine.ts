/**
 * The typed face of the socket engine: events in, operations out, no decision in between. One engine per thread.
 *
 * A connection is known by its id. Every connection starts paused, and ends with exactly one `closed` (or
 * `connectFailed`); after that its id means nothing, and operations on it come back as `deadOperation`.
 */
import { performance } from 'node:perf_hooks'; // the global of this name is looked up at every use
import type { LocalAddress, OriginalDestination, PeerAddress, SocketAddress } from '../core/address.ts';
import { Block, copyBlock } from '../core/block.ts';
import { type Binding, loadBinding } from './binding.ts';
import { EVENT, OPERATION, RECORD_INTS, readAddress } from './records.ts';
import { readTlsReport, type TlsReport } from './tls-report.ts';

/** Identifies a connection of this thread's engine; `indexOf` gives a small dense number for arrays. */
export type ConnectionId = number;

/** The slot of a connection in arrays: 0 to 1,048,575, reused only after its owner heard that it ended. */
export function indexOf(id: ConnectionId): number {
  return id & 0xfffff;
}

/** What the engine tells. Calls come in order, inside one batch per loop turn. */
export interface EngineHandler {
  /**
   * A connection from a listener. `local` and `original` are undefined for listeners that are not transparent;
   * `original` also when the connection was not redirected. `own`: the peer is an upstream socket of this process.
   */
  accepted(
    id: ConnectionId,
    listener: number,
    peer: PeerAddress,
    local: LocalAddress | undefined,
    original: OriginalDestination | undefined,
    own: boolean,
  ): void;
  /** A connect succeeded after `micros` microseconds. */
  connected(id: ConnectionId, micros: number): void;
  /** A connect failed with `errno`; the connection is gone. */
  connectFailed(id: ConnectionId, errno: number): void;
  /** Bytes arrived at `offset` of the slab, valid until the batch returns; the 16 before them are nobody's, and may be written. */
  data(id: ConnectionId, offset: number, length: number): void;
  /** The peer will send no more. */
  end(id: ConnectionId): void;
  /** More than 64 KB wait for a peer that does not read. */
  blocked(id: ConnectionId): void;
  /** Less than 16 KB wait. */
  drained(id: ConnectionId): void;
  /** Everything that `pass` was to pass on has been, but for the last `rest` bytes, when an end of either side came before. */
  passed(id: ConnectionId, rest: number): void;
  /** Mutual TLS is there. Paused connections stay paused; from here on only plaintext is seen. */
  secured(id: ConnectionId, report: TlsReport): void;
  /** The handshake failed, and the report says why; `closed` follows. */
  tlsFailed(id: ConnectionId, report: TlsReport): void;
  /**
   * The connection is gone: `errno` 0 for an orderly end; `byOther` when the other side of its relay failed; `alert` the TLS
   * alert (RFC 8446 section 6) that ended it, plus OUR_ALERT when we sent it, or -1.
   */
  closed(
    id: ConnectionId,
    errno: number,
    byOther: boolean,
    bytesRead: number,
    bytesWritten: number,
    alert: number,
  ): void;
  /** The deadline that was set last for the connection has passed; of one that was replaced or taken away nothing is told. */
  deadline(id: ConnectionId): void;
  /** A listener stopped accepting because of `errno` (out of descriptors); it tries again by itself. */
  acceptPaused(listener: number, errno: number): void;
  acceptResumed(listener: number): void;
  /**
   * `operation` named a connection that had ended, or came too late for its state (a send after our end of stream, or into
   * a relay). A relay that named one was not made, and `other` is the side that may still be open; `other` of a handshake or an
   * `unread` that does not fit an open connection is that connection, and its owner is wrong about it.
   */
  deadOperation(id: ConnectionId, operation: number, other: ConnectionId): void;
}

/** A TLS context of this thread's engine: certificate, key and trust anchors. */
export type TlsContext = number;

/** Added to the number of a TLS alert that we sent. */
export const OUR_ALERT = 0x100;

/** What `deadOperation` reports for a relay that was not made. */
export const RELAY_OPERATION = OPERATION.relay;

/** What `close` makes of what still arrives, as it is told to the engine. */
const REST = { discarded: 0, none: 1, unread: 2 } as const;

/** They travel beside a flag; after a billion they begin anew. */
const MAX_DEADLINE_NUMBER = 2 ** 30 - 1;
const NOTHING = (): void => {};
const OPERATION_RECORDS = 4096;
/** The engine reads to the first part of the slab; output of a batch is built in the second. */
const OUTPUT_OFFSET = 1 << 20;
const OUTPUT_END = 2 << 20;

/** The third part outlives batches: what may have to be sent again later is kept where it can be sent from. */
export const RETAINED_OFFSET = OUTPUT_END;
/** Length of that part. */
export const RETAINED_BYTES = 2 << 20;

/** The engine of this thread. */
export class Engine {
  /** Received bytes; `data` events point into it. */
  readonly slab: Uint8Array;
  private readonly slabBlock: Block;
  private readonly binding: Binding;
  private readonly handler: EngineHandler;
  private readonly events: readonly [Int32Array, Int32Array];
  private readonly eventDoubles: readonly [Float64Array, Float64Array];
  private readonly operations: Int32Array;
  private readonly address: Uint32Array;
  /** Counts what `flush` does: operations of an earlier number have run. */
  flushes = 0;
  private operationCount = 0;
  private outputUsed = OUTPUT_OFFSET;
  /** Deadlines are numbered: the number given last, and by connection its id and the number of the one that counts. */
  private deadlineNumber = 0;
  private readonly deadlines: number[] = [];
  private inBatch = false;
  private batchMs = 0;
  private readonly endings: (() => void)[] = [];
  private endingCount = 0;
  private flushQueued = false;
  private stopped = false;

  /**
   * Starts the engine on this thread's event loop, which it keeps alive until `stop`.
   * @param metrics the metrics slab: the engine writes its figures to the first slots and byte counts where told.
   * @throws when this thread already has a running engine.
   */
  constructor(handler: EngineHandler, metrics: Float64Array) {
    this.binding = loadBinding();
    this.handler = handler;
    const buffers = this.binding.start(metrics, (buffer, records) => this.onBatch(buffer, records));
    this.events = [new Int32Array(buffers.events0), new Int32Array(buffers.events1)];
    this.eventDoubles = [new Float64Array(buffers.events0), new Float64Array(buffers.events1)];
    this.operations = new Int32Array(buffers.operations);
    this.slab = new Uint8Array(buffers.slab);
    this.slabBlock = new Block(this.slab);
    this.address = new Uint32Array(buffers.address);
  }

  /** Takes connections from a listening descriptor, which stays its owner's. Returns the listener's number. */
  listen(descriptor: number, options: { readonly transparent: boolean }): number {
    const listener = this.binding.addListener(descriptor, options.transparent ? 1 : 0);
    if (listener < 0) throw new Error(`epoll refuses listener ${descriptor}: errno ${-listener}`);
    return listener;
  }

  /** Stops taking connections from it; the descriptor stays open. */
  unlisten(listener: number): void {
    this.binding.removeListener(listener);
  }

  /**
   * Opens a connection. `track` makes it recognisable when it comes back as an accepted one.
   * @returns its id, or the negative errno of an immediate failure.
   */
  connect(remote: SocketAddress, track: boolean): ConnectionId {
    const words = this.address;
    words[0] = (remote.family << 16) | remote.port;
    words[1] = remote.w0;
    words[2] = remote.w1;
    words[3] = remote.w2;
    words[4] = remote.w3;
    return this.binding.connect(track ? 1 : 0);
  }

  /** Sends bytes, copying them to the slab's output part. */
  send(id: ConnectionId, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, OUTPUT_END - OUTPUT_OFFSET);
      this.sendRange(id, this.output(bytes.subarray(at, at + length)), length);
      at += length;
    }
  }

  /** Sends the first `length` bytes of a block, copied to the slab's output part. */
  sendBlock(id: ConnectionId, block: Block, length: number): void {
    const at = this.reserve(length);
    copyBlock(this.slabBlock, at, block, length);
    this.sendBuilt(id, at + length);
  }

  /**
   * Sends a range of the slab as it is when the batch returns: received bytes pass on without a copy. Ranges that follow each
   * other are one send.
   */
  sendRange(id: ConnectionId, offset: number, length: number): void {
    const last = (this.operationCount - 1) * RECORD_INTS;
    const operations = this.operations;
    const continues =
      last >= 0 &&
      operations[last] === OPERATION.send &&
      operations[last + 1] === id &&
      operations[last + 2] + operations[last + 3] === offset;
    if (continues) operations[last + 3] += length;
    else this.add(OPERATION.send, id, offset, length);
  }

  /** The last operation so far is a send of built output on this connection: more of it would be the same send. */
  isSending(id: ConnectionId): boolean {
    const last = (this.operationCount - 1) * RECORD_INTS;
    const { operations } = this;
    return (
      last >= 0 &&
      operations[last] === OPERATION.send &&
      operations[last + 1] === id &&
      operations[last + 2] + operations[last + 3] === this.outputUsed
    );
  }

  /** Room for output of at most `length` bytes (64 KiB), at the offset returned; `sendBuilt` takes what was written there. */
  reserve(length: number): number {
    if (this.outputUsed + length > OUTPUT_END) this.flush();
    return this.outputUsed;
  }

  /** Sends what was written from the offset `reserve` gave up to `end`. */
  sendBuilt(id: ConnectionId, end: number): void {
    const from = this.outputUsed;
    this.outputUsed = end;
    this.sendRange(id, from, end - from);
  }

  /**
   * Gives bytes that were received back: a relay, a handshake or the next `data` finds them first. Only for an open
   * connection that is neither relayed nor in its handshake; ranges go back latest first. Without memory for them it is closed.
   */
  unread(id: ConnectionId, bytes: Uint8Array): void {
    for (let end = bytes.length; end > 0; ) {
      const length = Math.min(end, OUTPUT_END - OUTPUT_OFFSET);
      this.add(OPERATION.unread, id, this.output(bytes.subarray(end - length, end)), length);
      end -= length;
    }
  }

  /**
   * Makes a context of PEM texts: a certificate with its intermediates, its key, and whom to trust.
   * @throws Error with OpenSSL's words
   */
  makeContext(certificate: string, key: string, trustAnchors: string): TlsContext {
    return this.binding.makeContext(certificate, key, trustAnchors);
  }

  /** No handshake starts with it any more; connections that have it go on. */
  dropContext(context: TlsContext): void {
    // Handshakes that were asked for before have begun then.
    this.flush();
    this.binding.dropContext(context);
  }

  /** Starts mutual TLS as the server of an open connection; ends with `secured` or `tlsFailed`. */
  acceptTls(id: ConnectionId, context: TlsContext): void {
    this.add(OPERATION.startTls, id, (context << 1) | 1, 0);
  }

  /** The same as the client. `parameters` come from `tlsParameters`. */
  connectTls(id: ConnectionId, context: TlsContext, parameters: Uint8Array): void {
    this.add(OPERATION.startTls, id, context << 1, this.output(parameters));
  }

  /** Ends our side once everything is out; the other side may go on. */
  shutdown(id: ConnectionId): void {
    this.add(OPERATION.shutdown, id, 0, 0);
  }

  /**
   * Ends both sides once everything is out. The peer's end is waited for, from when everything is out for 2 s at most; a peer that never
   * reads is cut by a `reset`.
   * @param rest what still arrives: it is read and thrown away, so that the peer reads what we said last; there is `none`, as the peer has
   *   promised, and nothing is waited for; or it stays `unread` until the peer ends, and one that floods has to wait
   */
  close(id: ConnectionId, rest: 'discarded' | 'none' | 'unread' = 'discarded'): void {
    this.add(OPERATION.close, id, REST[rest], 0);
  }

  /** Ends both sides at once with a reset; a relay's other side too. */
  reset(id: ConnectionId): void {
    this.add(OPERATION.reset, id, 0, 0);
  }

  /** Stops reading. What arrives stays in the kernel, whose window closes. */
  pause(id: ConnectionId): void {
    this.add(OPERATION.pause, id, 0, 0);
  }

  /** Reads on. `shared`, from now on: it carries many streams, and up to 64 KB are read at a time instead of 16. */
  resume(id: ConnectionId, shared: boolean = false): void {
    this.add(OPERATION.resume, id, shared ? 1 : 0, 0);
  }

  /** Stops reading from `id` while more than 64 KB wait to be sent to `other`; 0 undoes it. */
  link(id: ConnectionId, other: ConnectionId): void {
    this.add(OPERATION.link, id, other, 0);
  }

  /**
   * Passes the next `length` bytes on to the connection it is linked to, as they come and at the pace of that one; `passed`
   * follows, and what comes behind them is told by `data` again. Undone by every change of the link (`passed` tells how far it
   * came), by 0, and by another number, which counts instead: `data` that was on its way must be taken off.
   */
  pass(id: ConnectionId, length: number): void {
    this.add(OPERATION.pass, id, (length % 2 ** 32) | 0, Math.floor(length / 2 ** 32));
  }

  /** Joins two open connections until both sides have ended; both end with `closed`. */
  relay(id: ConnectionId, other: ConnectionId): void {
    this.add(OPERATION.relay, id, other, 0);
  }

  /** Takes a relay apart: both connections are paused and TypeScript's again, no byte lost. */
  unrelay(id: ConnectionId): void {
    this.add(OPERATION.unrelay, id, 0, 0);
  }

  /**
   * One deadline per connection, in milliseconds (0: none), never early, late by up to 16 ms, and up to 32 ms with `idle`,
   * which counts from the last byte either way. A connect whose deadline passes fails with ETIMEDOUT; an open connection only reports it.
   *
   * It holds from this call on: a `deadline` that is on its way, for one that passed before this call was heard, is not told.
   */
  deadline(id: ConnectionId, ms: number, idle = false): void {
    const { deadlines } = this;
    const at = 2 * indexOf(id);
    while (deadlines.length <= at) deadlines.push(0, 0);
    this.deadlineNumber = (this.deadlineNumber + 1) & MAX_DEADLINE_NUMBER;
    deadlines[at] = id;
    deadlines[at + 1] = this.deadlineNumber;
    this.add(OPERATION.deadline, id, ms, (this.deadlineNumber << 1) | (idle ? 1 : 0));
  }

  /**
   * The time in ms of `performance.now()`; within a batch that of its beginning. What came together is from one moment, and
   * what waits for its turn in the batch has been waiting since then.
   */
  nowMs(): number {
    return this.inBatch ? this.batchMs : performance.now();
  }

  /**
   * Calls back at the end of the batch, when everything that came together is known and its bytes are still in the slab; outside of
   * a batch soon.
   */
  atEnd(callback: () => void): void {
    if (this.inBatch) this.endings[this.endingCount++] = callback;
    else queueMicrotask(callback);
  }

  /** Adds every byte read and written from now on to two slots of the metrics slab. */
  count(id: ConnectionId, readSlot: number, writeSlot: number): void {
    this.add(OPERATION.count, id, readSlot, writeSlot);
  }

  /** Resets every connection and lets go of the event loop. Listening descriptors stay open. */
  stop(): void {
    if (this.stopped) return;
    this.flush();
    this.stopped = true;
    this.binding.stop();
  }

  /** Runs what was asked for so far; done by itself at the end of a batch, or of the current microtask outside one. */
  flush(): void {
    const count = this.operationCount;
    this.flushes++;
    this.operationCount = 0;
    this.outputUsed = OUTPUT_OFFSET;
    if (count > 0 && !this.stopped) this.binding.flush(count);
  }

  /** Copies bytes to where operations find them, and says where that is. */
  private output(bytes: Uint8Array): number {
    if (this.outputUsed + bytes.length > OUTPUT_END) this.flush();
    const at = this.outputUsed;
    this.slab.set(bytes, at);
    this.outputUsed += bytes.length;
    return at;
  }

  private add(operation: number, id: ConnectionId, a: number, b: number): void {
    const at = this.operationCount++ * RECORD_INTS;
    const operations = this.operations;
    operations[at] = operation;
    operations[at + 1] = id;
    operations[at + 2] = a;
    operations[at + 3] = b;
    // Now and not with the next one, whose bytes may be in place already.
    if (this.operationCount === OPERATION_RECORDS) return this.flush();
    if (this.inBatch || this.flushQueued) return;
    this.flushQueued = true;
    queueMicrotask(() => {
      this.flushQueued = false;
      this.flush();
    });
  }

  private onBatch(buffer: number, records: number): void {
    this.inBatch = true;
    this.batchMs = performance.now();
    try {
      this.dispatch(this.events[buffer], this.eventDoubles[buffer], records * RECORD_INTS);
      this.runEndings();
    } finally {
      this.endingCount = 0;
      this.inBatch = false;
      // Here and not after the return: microtasks run in between, and may ask for more.
      this.flush();
    }
  }

  private runEndings(): void {
    const { endings } = this;
    for (let index = 0; index < this.endingCount; index++) {
      const ending = endings[index];
      // Let go of here: to set the length of an array takes a call of V8's runtime.
      endings[index] = NOTHING;
      ending();
    }
  }

  private dispatch(events: Int32Array, doubles: Float64Array, end: number): void {
    const handler = this.handler;
    for (let at = 0; at < end && !this.stopped; at += RECORD_INTS) {
      const id = events[at + 1];
      const a = events[at + 2];
      const b = events[at + 3];
      switch (events[at]) {
        case EVENT.data:
          handler.data(id, a, b);
          break;
        case EVENT.accepted:
          this.dispatchAccepted(events, at);
          at += 4 * RECORD_INTS;
          break;
        case EVENT.connected:
          handler.connected(id, a);
          break;
        case EVENT.closed:
          at += RECORD_INTS;
          handler.closed(id, a, (b & 1) === 1, doubles[at / 2], doubles[at / 2 + 1], (b >> 1) - 1);
          break;
        case EVENT.connectFailed:
          handler.connectFailed(id, a);
          break;
        default:
          this.dispatchRare(events[at], id, a, b);
      }
    }
  }

  /** The batch that tells of a deadline may have set another already. */
  private isReplaced(id: ConnectionId, deadline: number): boolean {
    const at = 2 * indexOf(id);
    return this.deadlines[at] === id && this.deadlines[at + 1] !== deadline;
  }

  private dispatchAccepted(events: Int32Array, at: number): void {
    const addresses = at + RECORD_INTS;
    this.handler.accepted(
      events[at + 1],
      events[at + 2],
      readAddress(events, addresses) as PeerAddress,
      readAddress(events, addresses + 5) as LocalAddress | undefined,
      readAddress(events, addresses + 10) as OriginalDestination | undefined,
      events[at + 3] === 1,
    );
  }

  private dispatchRare(type: number, id: ConnectionId, a: number, b: number): void {
    const handler = this.handler;
    switch (type) {
      case EVENT.end:
        return handler.end(id);
      case EVENT.blocked:
        return handler.blocked(id);
      case EVENT.drained:
        return handler.drained(id);
      case EVENT.passed:
        return handler.passed(id, (a >>> 0) + b * 2 ** 32);
      case EVENT.secured:
        return handler.secured(id, readTlsReport(this.slab, a, b));
      case EVENT.tlsFailed:
        return handler.tlsFailed(id, readTlsReport(this.slab, a, b));
      case EVENT.deadline:
        return this.isReplaced(id, a) ? undefined : handler.deadline(id);
      case EVENT.acceptPaused:
        return handler.acceptPaused(id, a);
      case EVENT.acceptResumed:
        return handler.acceptResumed(id);
      case EVENT.deadOperation:
        return handler.deadOperation(id, a, b);
      default:
        throw new Error(`unknown engine event ${type}`);
    }
  }
}
