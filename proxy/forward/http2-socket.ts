/** An HTTP/2 session and its socket: what the session sends leaves in one piece at the end of a batch of events. */
import type { Block } from '../core/block.ts';
import type { Session } from '../http/h2/session.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';

/**
 * Without a byte either way for so long, a peer that has open streams, or is to leave, is asked for a sign of life, and has as long
 * to answer, in ms: the interval of Linkerd and of most gRPC servers.
 */
const QUIET_MS = 10_000;

/** What a session asks of its owner that is the same for both sides. */
export abstract class Http2Socket<S extends Session<unknown>> {
  abstract readonly session: S;
  protected readonly engine: Engine;
  /** Bytes handed to the engine. */
  protected handed = 0;
  private pingedMs = Number.NEGATIVE_INFINITY;
  private readonly flush = (): void => this.session.flush();

  constructor(engine: Engine) {
    this.engine = engine;
  }

  /** The socket it speaks on. */
  abstract get socket(): ConnectionId;

  nowMs(): number {
    return this.engine.nowMs();
  }

  outputReady(): void {
    this.engine.atEnd(this.flush);
  }

  send(_session: S, bytes: Uint8Array, from: number, to: number, stay: boolean): void {
    const { engine, socket } = this;
    this.handed += to - from;
    if (stay && bytes === engine.slab) return engine.sendRange(socket, from, to - from);
    // Copied: what follows each other there is one send, and one record of TLS.
    engine.send(socket, bytes.subarray(from, to));
  }

  sendBlock(_session: S, block: Block, length: number): void {
    this.handed += length;
    this.engine.sendBlock(this.socket, block, length);
  }

  /** Bytes of any kind are the sign of life that is waited for. */
  pong(): void {}

  /** Has `timedOut` called when nothing has passed for a while. */
  protected watch(): void {
    this.engine.deadline(this.socket, QUIET_MS, true);
  }

  /** Nothing has passed for a while. @returns whether the peer was asked before, and has been silent since */
  protected isSilent(): boolean {
    const { session } = this;
    if (session.streamCount === 0 && !session.draining) return false;
    if (session.receivedMs < this.pingedMs) return true;
    this.pingedMs = this.nowMs();
    session.sendPing();
    return false;
  }
}
