/**
 * One HTTP/2 connection, of a client or a server, without its socket (RFC 9113): bytes in, calls of its owner; calls of its owner,
 * bytes out.
 */
import type { FieldList } from './field.ts';
import type { H2Head } from './head.ts';
import type { Stream } from './stream.ts';

/** What a session tells. No call is made before `start`, and none after `ended`. */
export interface SessionOwner<T> {
  /** The time in ms, monotonic; the same within a batch of events. */
  nowMs(): number;

  /**
   * A client has opened a stream. `head` and its fields hold until this returns.
   * @param end there is no content
   */
  requestHead(session: Session<T>, stream: Stream<T>, head: H2Head, end: boolean): void;
  /**
   * A client has opened a stream with a malformed head, or one over the limits. It may be answered with `sendHead` and content, all
   * within this call: when it returns the stream is reset, and nothing more is told of it.
   * @param problem a number for describeH2Problem
   */
  requestProblem(session: Session<T>, stream: Stream<T>, problem: number): void;
  /** A server answers; more heads follow one whose status is below 200. */
  responseHead(session: Session<T>, stream: Stream<T>, head: H2Head, end: boolean): void;
  /**
   * Content, valid until this returns; none when only the end is told. It counts as held until `consumed`.
   * @param end that was all, and there are no trailers
   */
  data(
    session: Session<T>,
    stream: Stream<T>,
    bytes: Uint8Array,
    from: number,
    to: number,
    end: boolean,
  ): void;
  /** Trailers, behind which nothing comes; without fields that have no meaning there. They hold until this returns. */
  trailers(session: Session<T>, stream: Stream<T>, fields: FieldList): void;
  /**
   * A stream has ended before its time: not told of those the owner resets. With REFUSED_STREAM nothing of a request has been
   * processed, and it may be sent again elsewhere; streams above the last one of a GOAWAY end so.
   * @param code one of H2_ERROR, or unknown
   * @param ours the session gave it up (`stream.problem` says why); the peer did otherwise
   */
  streamReset(session: Session<T>, stream: Stream<T>, code: number, ours: boolean): void;

  /** `sendData` of this stream, which had accepted less than all, will accept some; not called again before it was asked. */
  writable(session: Session<T>, stream: Stream<T>): void;
  /** `capacity`, which was 0, is not any more; or it will be 0 for ever (`draining`). Clients only. */
  capacityChanged(session: Session<T>): void;

  /** The answer to `ping`. */
  pong(session: Session<T>): void;
  /** The peer takes no streams above `lastStream`: those were reset before this is told. */
  goAway(session: Session<T>, lastStream: number, code: number, debug: string): void;
  /**
   * It is over, and all its streams were reset before this is told. What is in the output is still to be sent; then the socket
   * should be closed.
   * @param code NO_ERROR for an orderly end
   * @param reason for the log, the end of a sentence
   * @param ours we found the fault or wanted the end; the peer did otherwise
   */
  ended(session: Session<T>, code: number, reason: string, ours: boolean): void;

  /** There is something to send: call `flush` at the end of the batch. Not called again before that. */
  outputReady(session: Session<T>): void;
  /** Send these bytes. They hold until this returns; or longer when they are from a buffer the owner gave to `sendData`. */
  send(session: Session<T>, bytes: Uint8Array, from: number, to: number): void;
}

/** Limits of a session. */
export interface SessionOptions {
  /** Streams that the peer may have open at once. Servers only. */
  readonly maxStreams: number;
  /** What a stream may send before its reader has consumed any of it: at least 65,535 bytes. */
  readonly streamWindowBytes: number;
  /** What that may grow to while the reader keeps up. */
  readonly maxStreamWindowBytes: number;
  /** What may be on its way to us on all streams together. */
  readonly connectionWindowBytes: number;
  /** When readers hold more than this, the connection's window is not filled up any more. */
  readonly maxHeldBytes: number;
  /** Clients may use extended CONNECT (RFC 8441). Servers only. */
  readonly extendedConnect: boolean;
  /** `l5d-*` fields are taken from this peer. */
  readonly keepMesh: boolean;
}

/**
 * A connection. `role` is ours. Methods that take a stream do nothing when it is `closed`; none may be called before `start`.
 * Memory: no buffers while nothing is on its way; see `maxHeldBytes` for content, and MAX_BLOCK_BYTES for a head on its way.
 */
export interface Session<T> {
  readonly role: 'client' | 'server';
  /** It is over: bytes are ignored, and nothing is told any more. */
  readonly isEnded: boolean;
  /** No more streams will be opened, on either side's wish. */
  readonly draining: boolean;
  /** Streams that are not closed. */
  readonly streamCount: number;
  /** Streams that `open` would accept now. Clients only. */
  readonly capacity: number;

  /** Sends what comes first: the preface and SETTINGS. */
  start(): void;
  /** Takes what has arrived, in any pieces; all of it, though what comes behind an error is ignored. */
  receive(bytes: Uint8Array, from: number, to: number): void;
  /** The socket has ended, orderly or not: streams that are open end with `connectionLost`. */
  disconnected(): void;

  /**
   * Opens a stream. Clients only, while there is `capacity`.
   * @param fields the head, pseudo-header fields first
   * @param end there is no content
   */
  open(user: T, fields: FieldList, end: boolean): Stream<T>;
  /** Sends the head of a response; one whose status is below 200 is not `final`, and more follow. Servers only. */
  sendHead(stream: Stream<T>, fields: FieldList, end: boolean, final?: boolean): void;
  /**
   * Sends content.
   * @param end it is the last
   * @returns how many of the bytes were accepted; when not all, `writable` follows
   */
  sendData(stream: Stream<T>, bytes: Uint8Array, from: number, to: number, end: boolean): number;
  /** Sends trailers, which end the stream; all content must have been accepted. */
  sendTrailers(stream: Stream<T>, fields: FieldList): void;
  /** Gives a stream up: nothing more is told of it. */
  reset(stream: Stream<T>, code: number): void;
  /** Content that `data` gave has left: the peer may send as much again. */
  consumed(stream: Stream<T>, length: number): void;

  /** The socket's queue is long (true): no content is accepted until it is not. */
  setBlocked(blocked: boolean): void;
  /** Gives the output to `owner.send`, and its buffer back. */
  flush(): void;
  /** Asks for a sign of life: `pong`. */
  ping(): void;
  /**
   * Takes no more streams, in two steps (RFC 9113 section 6.8), and ends when those that are open have: `ended`. Clients just open no more.
   */
  drain(): void;
  /** Ends at once, with a GOAWAY that says why. */
  close(code: number, debug: string): void;
}
