/** The client's side of an HTTP/2 connection: streams are opened by the owner. */
import { METHOD } from '../names.ts';
import type { FieldList } from './field.ts';
import { H2_ERROR, MAX_31_BITS, PREFACE, SETTING } from './frames.ts';
import { type H2Head, methodOf, readResponse } from './head.ts';
import { DEFAULT_OPTIONS, type SessionOptions } from './options.ts';
import type { ClientOwner } from './owner.ts';
import { H2_PROBLEM, limitProblem } from './problems.ts';
import { Session } from './session.ts';
import type { Stream } from './stream.ts';
import { ENDED } from './streams.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { protocolError: PROTOCOL_ERROR, enhanceYourCalm: CALM, refusedStream: REFUSED_STREAM } = H2_ERROR;
const { head: HEAD, connect: CONNECT } = METHOD;

/** Most interim responses (1xx) of one stream: a server that reports progress sends some. */
const MAX_INTERIMS = 32;

/** A connection to a server. */
export class ClientSession<T> extends Session<T> {
  private readonly owner: ClientOwner<ClientSession<T>, T>;
  private nextStream = 1;
  /** What the owner last knew: a stream can be opened, and what the server takes. */
  private couldOpen = false;
  private wasKnown = false;

  constructor(owner: ClientOwner<ClientSession<T>, T>, options: SessionOptions = DEFAULT_OPTIONS) {
    super(false, owner, options);
    this.owner = owner;
  }

  /** How many more streams it takes, or probably will, before the server has said how many. */
  get capacity(): number {
    if (this.draining || this.nextStream > MAX_31_BITS) return 0;
    return Math.max(
      0,
      Math.min(this.peer.maxConcurrentStreams, this.options.maxStreams) - this.streams.count,
    );
  }

  /** The server's SETTINGS have come: it does speak HTTP/2, and has said how many streams it takes. */
  get isKnown(): boolean {
    return this.peer.known;
  }

  /** The server takes no streams at all just now (RFC 9113 section 5.1.2). */
  get takesNone(): boolean {
    return this.peer.known && this.peer.maxConcurrentStreams === 0;
  }

  /**
   * A stream may be opened now. None before the server has said what it takes: what a connection has brought that is lost before then, as one
   * is that a server leaves behind in its queue of new ones, would not be known to be unprocessed.
   */
  get canOpen(): boolean {
    return this.capacity > 0 && this.peer.known;
  }

  /** The server takes extended CONNECT (RFC 8441). */
  get takesExtendedConnect(): boolean {
    return this.peer.enableConnectProtocol;
  }

  start(): void {
    this.output.raw(PREFACE);
    this.sendSettings([[SETTING.enablePush, 0]]);
  }

  /**
   * Opens a stream, while there is `capacity`.
   * @param fields the head, pseudo-header fields first
   * @param end there is no content
   */
  open(user: T, fields: FieldList, end: boolean): Stream<T> {
    if (this.capacity === 0) throw new Error('the server takes no more streams');
    const stream = this.newStream(this.nextStream, methodOf(fields), this.owner.nowMs());
    this.nextStream += 2;
    if (!this.canOpen) this.couldOpen = false;
    stream.user = user;
    stream.headSent = true;
    stream.localDone = end;
    this.sendFields(stream, fields, end);
    return stream;
  }

  /** A client just opens no more streams. */
  drain(): void {
    this.draining = true;
    this.finishing = true;
    this.finishIfDone();
  }

  fields(id: number, end: boolean, head: H2Head, problem: number, dependsOnItself: boolean): void {
    const stream = this.streams.get(id);
    const limit = limitProblem(problem);
    if (stream === undefined) this.strayMessage(id);
    else if (stream.headReceived || stream.remoteDone)
      this.trailers(stream, end, head, limit || (dependsOnItself ? H2_PROBLEM.selfDependency : 0));
    else this.response(stream, end, head, limit);
  }

  protected isIdle(id: number): boolean {
    return id % 2 === 0 || id >= this.nextStream;
  }

  /** Nothing was pushed. */
  protected lastProcessed(): number {
    return 0;
  }

  /** Clients ask for no acknowledgement. */
  protected drainAcknowledged(): void {}

  protected refuseAbove(lastStream: number): void {
    for (const stream of this.streams.all()) {
      if (stream.id <= lastStream || stream.closed) continue;
      this.closeStream(stream, ENDED.unknown);
      this.owner.streamReset(this, stream, REFUSED_STREAM, false);
    }
  }

  protected settle(): void {
    const { canOpen, couldOpen, isKnown, wasKnown } = this;
    this.couldOpen = canOpen;
    this.wasKnown = isKnown;
    // Who waited for what the server would say is also told when it was nothing good.
    const isTold = isKnown !== wasKnown || (canOpen !== couldOpen && (canOpen || this.draining));
    if (isTold && !this.isEnded) this.owner.capacityChanged(this);
  }

  private response(stream: Stream<T>, end: boolean, head: H2Head, limit: number): void {
    if (!head.isLasting) head.keepMesh = this.options.keepMesh;
    const problem = limit || readResponse(head);
    if (problem !== 0) return this.streamError(stream, PROTOCOL_ERROR, problem);
    if (head.status < 200) {
      if (end) return this.streamError(stream, PROTOCOL_ERROR, H2_PROBLEM.interimEnd);
      if (++stream.interims > MAX_INTERIMS) return this.streamError(stream, CALM, H2_PROBLEM.interimFlood);
      return this.owner.responseHead(this, stream, this.incoming.judged(head), false);
    }
    stream.headReceived = true;
    stream.contentRemaining = contentOf(stream.method, head);
    if (end && stream.contentRemaining > 0) {
      return this.streamError(stream, PROTOCOL_ERROR, H2_PROBLEM.contentLengthMismatch);
    }
    if (end) this.finishRemote(stream);
    this.budgets.useful++;
    this.owner.responseHead(this, stream, this.incoming.judged(head), end);
    if (end) this.finishIfDone();
  }
}

/** Bytes of content that a response has, -1: it does not say (RFC 9110 section 6.4.1). */
function contentOf(method: number, head: H2Head): number {
  if (method === HEAD || head.status === 204 || head.status === 304) return 0;
  return method === CONNECT && head.status < 300 ? -1 : head.contentLength;
}
