/** One stream: an exchange on a connection that has many (RFC 9113 section 5). */

/** Why a stream waits to send. */
export const WAITING = {
  no: 0,
  /** In the session's queue: for the connection's window, for the socket, or for its turn. */
  turn: 1,
  /** For its own window. */
  window: 2,
} as const;

/**
 * The state of a stream. "idle" is before there is an object; an open one has neither `localDone` nor `remoteDone`, the
 * half-closed states one of them. Owners read it and set `user`; all else is the session's to write.
 */
export class Stream<T> {
  id = 0;
  /** The owner's record. */
  user: T | undefined = undefined;
  /** METHOD number of the request. */
  method = 0;
  /** We have sent END_STREAM. */
  localDone = false;
  /** The peer has. */
  remoteDone = false;
  /** It is over: both ends are done, or either reset it. Operations on it do nothing. */
  closed = false;
  /** The peer's head has come; interim responses (1xx) do not count. */
  headReceived = false;
  /** Ours has been sent; interim responses do not count. */
  headSent = false;
  /** Why the session itself gave it up: a number for describeH2Problem, 0: it did not. */
  problem = 0;
  /** Bytes of content still to come by the peer's Content-Length; -1: it did not say. */
  contentRemaining = -1;
  /** Bytes that may be sent to the peer; below 0 after it made its windows smaller (RFC 9113 section 6.9.2). */
  sendWindow = 0;
  /** Bytes that the peer may still send. */
  receiveWindow = 0;
  /** What receiveWindow is filled up to; grows while the reader keeps up. */
  windowSize = 0;
  /** Bytes that the owner was given and has not `consumed`. */
  held = 0;
  /** Bytes received since the window last grew. */
  sinceGrowth = 0;
  /** One of WAITING. */
  waiting: number = WAITING.no;
  /**
   * When it began to wait, as `openedMs`, and the bytes it has sent since: -1 while it does not. Begins anew when those are so many that
   * its reader does read.
   */
  waitingSinceMs = 0;
  waitingSent = -1;
  /** The one whose turn comes after it, while it waits for its turn. */
  next: Stream<T> | undefined = undefined;
  /** Interim responses so far. */
  interims = 0;
  /** When it was opened, in the owner's ms, whole and modulo 2^32: a small integer needs no object of its own. */
  openedMs = 0;

  /**
   * Begins anew as another one.
   * @param sendWindow, receiveWindow bytes that each side may send at first
   */
  begin(id: number, method: number, sendWindow: number, receiveWindow: number, openedMs: number): void {
    this.id = id;
    this.method = method;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
    this.windowSize = receiveWindow;
    this.openedMs = openedMs | 0;
    this.user = undefined;
    this.localDone = this.remoteDone = this.closed = this.headReceived = this.headSent = false;
    this.problem = 0;
    this.contentRemaining = -1;
    this.held = this.sinceGrowth = this.interims = 0;
    this.waiting = WAITING.no;
    this.waitingSent = -1;
  }
}
