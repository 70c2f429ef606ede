/** What the owners of HTTP/2 connections are told. `S` is the session, `T` the owner's record of a stream. */
import type { Block } from '../../core/block.ts';
import type { FieldList } from './field.ts';
import type { H2Head } from './head.ts';
import type { Stream } from './stream.ts';

/** What every session tells. No call is made before `start`, and none after `ended`. */
export interface SessionOwner<S, T> {
  /** The time in ms, monotonic; the same within a batch of events. */
  nowMs(): number;

  /**
   * Content, valid until this returns; none when only the end is told. It counts as held until `consumed`.
   * @param end that was all, and there are no trailers
   */
  data(session: S, stream: Stream<T>, bytes: Uint8Array, from: number, to: number, end: boolean): void;
  /** Trailers, behind which nothing comes; without fields that have no meaning there. They hold until this returns. */
  trailers(session: S, stream: Stream<T>, fields: FieldList): void;
  /**
   * A stream has ended before its time: not told of those the owner resets. With REFUSED_STREAM nothing of a request has been
   * processed, and it may be sent again elsewhere; streams above the last one of a GOAWAY end so.
   * @param code one of H2_ERROR, or unknown
   * @param ours the session gave it up (`stream.problem` says why, unless all were); the peer did otherwise
   */
  streamReset(session: S, stream: Stream<T>, code: number, ours: boolean): void;

  /** `sendData` of this stream, which had accepted less than all, will accept some; not called again before it was asked. */
  writable(session: S, stream: Stream<T>): void;

  /** The answer to `sendPing`. */
  pong(session: S): void;
  /** The peer takes no streams above `lastStream`: those were reset before this is told. */
  goAway(session: S, lastStream: number, code: number, debug: string): void;
  /**
   * It is over, and all its streams were reset before this is told; within `flush`, when all is sent that was to be, or within
   * `disconnected`. The socket should be closed.
   * @param code NO_ERROR for an orderly end
   * @param reason for the log, the end of a sentence
   * @param ours we found the fault or wanted the end; the peer did otherwise
   */
  ended(session: S, code: number, reason: string, ours: boolean): void;

  /** There is something to send: call `flush` at the end of the batch. Not called again before that. */
  outputReady(session: S): void;
  /** Send these bytes, which hold until this returns; `stay`: they are received ones, and hold as long as those. */
  send(session: S, bytes: Uint8Array, from: number, to: number, stay: boolean): void;
  /** Send the first `length` bytes of a block, which hold until this returns. */
  sendBlock(session: S, block: Block, length: number): void;
}

/** What the session of a server tells. */
export interface ServerOwner<S, T> extends SessionOwner<S, T> {
  /**
   * A client has opened a stream. `head` and its fields hold until this returns.
   * @param end there is no content
   */
  requestHead(session: S, stream: Stream<T>, head: H2Head, end: boolean): void;
  /**
   * A client has opened a stream with a malformed head, or one over the limits. It may be answered with `sendHead` and content, all
   * within this call: when it returns the stream is reset, and nothing more is told of it.
   * @param problem a number for describeH2Problem
   * @param fields what there is of the head, up to the limits
   */
  requestProblem(session: S, stream: Stream<T>, problem: number, fields: FieldList): void;
}

/** What the session of a client tells. */
export interface ClientOwner<S, T> extends SessionOwner<S, T> {
  /** The server answers. More heads follow one whose status is below 200. `head` and its fields hold until this returns. */
  responseHead(session: S, stream: Stream<T>, head: H2Head, end: boolean): void;
  /** `canOpen`, which was false, is not any more, or will be for ever (`draining`); or the server has said for the first time what it takes. */
  capacityChanged(session: S): void;
}
