/** A socket engine without sockets: what is sent stays with it until a test delivers it, in an order of the test's choosing. */
import type { Block } from '../../proxy/core/block.ts';
import { RETAINED_BYTES, RETAINED_OFFSET } from '../../proxy/native/engine.ts';
import { join } from './h2.ts';

/** Unsent bytes from which a socket is `blocked`, and below which it is `drained`; see engine.ts. */
const BLOCKED_BYTES = 64 * 1024;
const DRAINED_BYTES = 16 * 1024;

/** Where output is built; see engine.ts. */
const OUTPUT_OFFSET = 1 << 20;

/** One socket of the proxy. */
export interface FakeSocket {
  readonly id: number;
  /** Sent, and not delivered. */
  pending: Uint8Array;
  /** Bytes that were delivered. */
  written: number;
  paused: boolean;
  /** What it waits for while that is blocked; 0: nothing. */
  linked: number;
  blocked: boolean;
  /** How it is being ended. */
  ending: 'no' | 'close' | 'reset';
  /** Its deadline in ms; 0: none. */
  deadlineMs: number;
  /** Our half has ended. */
  isShut: boolean;
}

/** What the forwarder uses of an engine. */
export class FakeEngine {
  readonly slab = new Uint8Array(RETAINED_OFFSET + RETAINED_BYTES);
  readonly sockets = new Map<number, FakeSocket>();
  /** Sockets that are being dialled. */
  readonly dialled: number[] = [];
  flushes = 0;
  ms = 1_000;
  private built = OUTPUT_OFFSET;
  private nextId = 1;
  private readonly endings: (() => void)[] = [];

  /** Runs events as one batch. */
  batch(events: () => void): void {
    events();
    for (let index = 0; index < this.endings.length; index++) this.endings[index]();
    this.endings.length = 0;
    this.flush();
  }

  /** A socket that was accepted. */
  accept(): number {
    const id = this.nextId++;
    const state = { pending: new Uint8Array(0), written: 0, paused: true, linked: 0, blocked: false };
    this.sockets.set(id, { id, ...state, ending: 'no', deadlineMs: 0, isShut: false });
    return id;
  }

  /** Takes up to `length` bytes that were sent, as the kernel does. */
  take(socket: FakeSocket, length: number): Uint8Array {
    const taken = socket.pending.slice(0, length);
    socket.pending = socket.pending.slice(taken.length);
    socket.written += taken.length;
    return taken;
  }

  /** The socket's `blocked` where it has changed; undefined where it has not. */
  blockedChange(socket: FakeSocket): boolean | undefined {
    const { length } = socket.pending;
    const blocked = socket.blocked ? length >= DRAINED_BYTES : length > BLOCKED_BYTES;
    if (blocked === socket.blocked) return undefined;
    socket.blocked = blocked;
    return blocked;
  }

  /** Whether bytes of the peer would be read. */
  isReading(socket: FakeSocket): boolean {
    const waits = this.sockets.get(socket.linked)?.blocked === true;
    return !socket.paused && !waits && socket.ending === 'no';
  }

  connect(): number {
    const id = this.accept();
    this.dialled.push(id);
    return id;
  }

  send(id: number, bytes: Uint8Array): void {
    const socket = this.sockets.get(id);
    if (socket?.ending === 'no') socket.pending = join(socket.pending, bytes);
  }

  sendBlock(id: number, block: Block, length: number): void {
    this.send(id, block.bytes.subarray(0, length));
  }

  sendRange(id: number, offset: number, length: number): void {
    this.send(id, this.slab.subarray(offset, offset + length));
  }

  isSending(): boolean {
    return false;
  }

  reserve(): number {
    return this.built;
  }

  sendBuilt(id: number, end: number): void {
    this.send(id, this.slab.subarray(this.built, end));
    this.built = end;
  }

  close(id: number): void {
    const socket = this.sockets.get(id);
    if (socket?.ending === 'no') socket.ending = 'close';
  }

  shutdown(id: number): void {
    this.change(id, { isShut: true });
  }

  reset(id: number): void {
    const socket = this.sockets.get(id);
    if (socket !== undefined) socket.ending = 'reset';
  }

  pause(id: number): void {
    this.change(id, { paused: true });
  }

  resume(id: number): void {
    this.change(id, { paused: false });
  }

  link(id: number, other: number): void {
    this.change(id, { linked: other });
  }

  deadline(id: number, ms: number): void {
    this.change(id, { deadlineMs: ms });
  }

  /** Bodies of tests are too short for that. */
  pass(): void {
    throw new Error('a body was left to the engine');
  }

  relay(): void {
    throw new Error('a relay was asked for');
  }

  unread(): void {}
  count(): void {}

  nowMs(): number {
    return this.ms;
  }

  atEnd(callback: () => void): void {
    this.endings.push(callback);
  }

  flush(): void {
    this.flushes++;
    this.built = OUTPUT_OFFSET;
  }

  private change(id: number, what: Partial<FakeSocket>): void {
    const socket = this.sockets.get(id);
    if (socket !== undefined) Object.assign(socket, what);
  }
}
