/**
 * One HTTP/2 connection without its socket (RFC 9113): bytes in, calls of its owner; calls of its owner, bytes out. What clients
 * and servers have in common; what they do not is in client-session.ts and server-session.ts.
 */
import type { Block } from '../../core/block.ts';
import { Budgets, MIN_USEFUL_BYTES, SETTINGS_COST } from './budgets.ts';
import { type FieldList, MAX_LIST_BYTES } from './field.ts';
import { DEFAULT_WINDOW_BYTES, errorName, H2_ERROR, MIN_FRAME_SIZE, SETTING } from './frames.ts';
import { H2Head, readTrailers } from './head.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import { type FrameEvents, Incoming, MAX_DEBUG_BYTES } from './incoming.ts';
import type { SessionOptions } from './options.ts';
import { Output, type OutputSink } from './output.ts';
import type { SessionOwner } from './owner.ts';
import { DRAIN_PING, isPing, KEEP_ALIVE_PING } from './pings.ts';
import { H2_PROBLEM } from './problems.ts';
import { Receiving } from './receiving.ts';
import { Sending, type SendingSink } from './sending.ts';
import { PeerSettings } from './settings.ts';
import { type Stream, WAITING } from './stream.ts';
import { ENDED, Streams } from './streams.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { noError: NO_ERROR, protocolError: PROTOCOL_ERROR, flowControlError: FLOW_CONTROL_ERROR } = H2_ERROR;
const { streamClosed: STREAM_CLOSED, enhanceYourCalm: CALM } = H2_ERROR;

/** Most answers to PING and SETTINGS that wait in a socket whose peer does not read: 70 KB. */
const MAX_BLOCKED_REPLIES = 4096;

/** What messages of this thread are decoded to and judged in that did not come before: it is done with when an owner has heard of it. */
const sharedHead = new H2Head();

/**
 * A connection. Methods that take a stream do nothing when it is `closed`; none may be called before `start`. The public methods
 * from `connectionError` on are for what the session is made of, not for its owner.
 *
 * Memory: what `windows` say of content, which is the owner's to hold; MAX_BLOCK_BYTES and a frame for a head on its way, 4 KB for
 * each of the two tables of header fields, 30 KB at the most for blocks that came or were made before, and a buffer for output while there is some.
 */
export abstract class Session<T> implements FrameEvents, OutputSink, SendingSink<T> {
  /** It is over: bytes are ignored, and nothing but `ended` is told any more. */
  isEnded = false;
  /** No more streams will be opened, on either side's wish. */
  draining = false;
  protected readonly isServer: boolean;
  protected readonly options: SessionOptions;
  protected readonly output: Output;
  protected readonly sending: Sending<T>;
  protected readonly receiving: Receiving<T>;
  protected readonly peer = new PeerSettings();
  protected readonly streams: Streams<T>;
  protected readonly budgets: Budgets;
  /** The owner's time when bytes came last. */
  receivedMs: number;
  /** It ends when no stream is open any more, and why that is so. */
  protected finishing = false;
  private finishReason = 'it was drained';
  private peerWentAway = false;
  private readonly listener: SessionOwner<Session<T>, T>;
  protected readonly incoming: Incoming;
  private readonly encoder = new HpackEncoder();
  /** Whose DATA frame is being read; undefined: nobody wants it. Its length, and how much of that was content. */
  private dataStream: Stream<T> | undefined = undefined;
  private dataLength = 0;
  private dataGiven = 0;
  /** Replies since the socket takes no more. */
  private blockedReplies = 0;
  /** What `ended` is told. */
  private endCode: number = NO_ERROR;
  private endReason = '';
  private endIsOurs = false;
  private endTold = false;

  constructor(isServer: boolean, owner: SessionOwner<Session<T>, T>, options: SessionOptions) {
    this.isServer = isServer;
    this.listener = owner;
    this.options = options;
    this.streams = new Streams<T>(options.maxStreams);
    this.output = new Output(this);
    this.sending = new Sending<T>(this.output, this);
    this.receiving = new Receiving<T>(options.windows, this.output);
    this.incoming = new Incoming(this, isServer, options.maxFrameBytes, sharedHead);
    this.receivedMs = owner.nowMs();
    this.budgets = new Budgets(this.receivedMs);
  }

  /** Streams that are not closed. */
  get streamCount(): number {
    return this.streams.count;
  }

  /** The socket's queue is long; see `setBlocked`. */
  get isBlocked(): boolean {
    return this.sending.blocked;
  }

  /** Those streams. */
  openStreams(): readonly Stream<T>[] {
    return this.streams.all();
  }

  /** Sends what comes first (RFC 9113 section 3.4). */
  abstract start(): void;

  /** Takes no more streams, and ends when those that are open have: `ended`. */
  abstract drain(): void;

  /** Takes what has arrived, in any pieces; all of it, though what comes behind an error is ignored. `hasRoom`: see FrameReader. */
  receive(bytes: Uint8Array, from: number, to: number, hasRoom = false): void {
    if (this.isEnded) return;
    this.receivedMs = this.listener.nowMs();
    this.incoming.read(bytes, from, to, hasRoom);
    this.settle();
  }

  /** The socket has ended, orderly or not: streams that are open end with `connectionLost`, and `ended` is told. */
  disconnected(): void {
    this.end(H2_ERROR.connectionLost, 'the connection was lost', false);
    this.output.discard();
    this.tellEnded();
  }

  /**
   * Sends content.
   * @param end it is the last
   * @returns how many of the bytes were accepted; when not all, `writable` follows. All, when the stream is closed
   */
  sendData(stream: Stream<T>, bytes: Uint8Array, from: number, to: number, end: boolean): number {
    const wanted = to - from;
    if (stream.closed || stream.localDone) return wanted;
    const sent = this.sending.send(stream, bytes, from, to, end);
    if (sent === wanted || sent >= MIN_USEFUL_BYTES) this.budgets.useful++;
    if (end && sent === wanted) this.finishLocal(stream);
    return sent;
  }

  /** Sends trailers, which end the stream; all content must have been accepted. */
  sendTrailers(stream: Stream<T>, fields: FieldList): void {
    if (stream.closed || stream.localDone) return;
    this.sendFields(stream, fields, true);
    this.finishLocal(stream);
  }

  /** Gives a stream up: nothing more is told of it. */
  reset(stream: Stream<T>, code: number): void {
    if (stream.closed) return;
    this.output.rstStream(stream.id, code);
    this.closeStream(stream, ENDED.unknown);
    this.finishIfDone();
  }

  /** The owner is done with a stream that is closed, and knows it no longer: it becomes another. */
  release(stream: Stream<T>): void {
    if (stream !== this.dataStream) this.streams.give(stream);
  }

  /** Content that `data` gave has left: the peer may send as much again. Also for streams that are closed. */
  consumed(stream: Stream<T>, length: number): void {
    this.receiving.consumed(stream, length, !stream.closed && !stream.remoteDone);
  }

  /** The socket's queue is long (true): no content is accepted until it is not. */
  setBlocked(blocked: boolean): void {
    this.sending.blocked = blocked;
    this.blockedReplies = 0;
    if (!blocked) this.sending.serve();
  }

  /** Gives the output to `owner.send`, and its buffer back. */
  flush(): void {
    this.output.flush();
    this.settle();
    if (this.isEnded) this.tellEnded();
  }

  /** Asks for a sign of life: `pong`. */
  sendPing(): void {
    if (!this.isEnded) this.output.ping(KEEP_ALIVE_PING, 0, false);
  }

  /** Ends at once, with a GOAWAY that says why. */
  close(code: number, debug: string): void {
    this.end(code, debug.slice(0, MAX_DEBUG_BYTES), true);
  }

  /** Resets streams that have been waiting for windows of the peer since before that time, in the owner's ms: `streamReset`. */
  resetStalled(sinceMs: number): void {
    if (this.sending.blocked) return;
    for (const stream of this.streams.all()) {
      const isStalled = stream.waiting !== WAITING.no && ((sinceMs - stream.waitingSinceMs) | 0) > 0;
      // Its owner may have reset it when it heard of another.
      if (isStalled && !stream.closed) this.streamError(stream, H2_ERROR.cancel, H2_PROBLEM.stalled);
    }
  }

  /** Whether a frame or header block was not whole when this was asked last, and still is not; content need not be. */
  isStuck(): boolean {
    return !this.isEnded && this.incoming.isStuck();
  }

  connectionError(code: number, text: string): void {
    this.end(code, text, true);
  }

  outputReady(): void {
    this.listener.outputReady(this);
  }

  send(bytes: Uint8Array, from: number, to: number, stay: boolean): void {
    this.listener.send(this, bytes, from, to, stay);
  }

  sendBlock(block: Block, length: number): void {
    this.listener.sendBlock(this, block, length);
  }

  writable(stream: Stream<T>): void {
    this.listener.writable(this, stream);
  }

  nowMs(): number {
    return this.listener.nowMs();
  }

  abstract fields(id: number, end: boolean, head: H2Head, problem: number, dependsOnItself: boolean): void;

  dataBegins(id: number, length: number): void {
    this.dataLength = length;
    this.dataGiven = 0;
    if (!this.receiving.frameBegins(length)) {
      return this.connectionError(
        FLOW_CONTROL_ERROR,
        'there is more content than the window of the connection allows',
      );
    }
    const stream = this.streams.get(id);
    if (stream === undefined) return this.strayMessage(id);
    if (stream.remoteDone) return this.streamError(stream, STREAM_CLOSED, H2_PROBLEM.afterEnd);
    if (!stream.headReceived) return this.streamError(stream, PROTOCOL_ERROR, H2_PROBLEM.headMissing);
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      return this.streamError(stream, FLOW_CONTROL_ERROR, H2_PROBLEM.windowOverrun);
    }
    this.dataStream = stream;
  }

  data(bytes: Uint8Array, from: number, to: number, last: boolean, end: boolean): void {
    const stream = this.dataStream;
    const length = to - from;
    this.dataGiven += length;
    if (last) this.dataEnds(end);
    if (stream === undefined || stream.closed || this.isEnded) return;
    if (stream.contentRemaining >= 0) {
      stream.contentRemaining -= length;
      if (stream.contentRemaining < 0 || (end && stream.contentRemaining > 0)) {
        return this.streamError(stream, PROTOCOL_ERROR, H2_PROBLEM.contentLengthMismatch);
      }
    }
    this.receiving.given(stream, length);
    if (end) this.finishRemote(stream);
    if (length > 0 || end) this.listener.data(this, stream, bytes, from, to, end);
    // Nobody else would say that padding has been consumed.
    if (last && this.dataGiven < this.dataLength) this.consumed(stream, 0);
    if (end) this.finishIfDone();
  }

  streamReset(id: number, code: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined) return this.stray(id);
    const { headSent, openedMs } = stream;
    this.closeStream(stream, ENDED.byPeer);
    // From here on it may be another stream.
    this.listener.streamReset(this, stream, code, false);
    if (!headSent) this.chargeReset((this.receivedMs - openedMs) | 0);
    this.finishIfDone();
  }

  windowUpdate(id: number, increment: number): void {
    this.charge(1);
    if (id === 0) {
      if (increment === 0)
        return this.connectionError(PROTOCOL_ERROR, 'the window of the connection was opened by nothing');
      if (this.sending.openConnection(increment)) return;
      const beyond = 'the window of the connection was opened beyond 2^31-1 bytes';
      return this.connectionError(FLOW_CONTROL_ERROR, beyond);
    }
    const stream = this.streams.get(id);
    if (stream === undefined) this.stray(id);
    else if (increment === 0) this.streamError(stream, PROTOCOL_ERROR, H2_PROBLEM.windowIncrement);
    else if (!this.sending.openStream(stream, increment)) {
      this.streamError(stream, FLOW_CONTROL_ERROR, H2_PROBLEM.windowOverflow);
    }
  }

  settings(bytes: Uint8Array, from: number, to: number): void {
    const { peer } = this;
    const error = peer.read(bytes, from, to, !this.isServer);
    if (error !== undefined) return this.connectionError(error.code, error.text);
    this.encoder.peerTableSize(peer.leastTableSize);
    this.encoder.peerTableSize(peer.headerTableSize);
    this.sending.peerMaxFrame(peer.maxFrameSize);
    this.output.settingsAck();
    this.replied();
    if (!this.sending.resize(this.streams.all(), peer.initialWindowSize)) {
      this.connectionError(
        FLOW_CONTROL_ERROR,
        'SETTINGS_INITIAL_WINDOW_SIZE opens a window beyond 2^31-1 bytes',
      );
    }
    this.charge(SETTINGS_COST);
  }

  settingsAck(): void {
    this.charge(1);
  }

  ping(bytes: Uint8Array, from: number, ack: boolean): void {
    if (!ack) {
      this.output.ping(bytes, from, true);
      this.replied();
    } else if (isPing(bytes, from, KEEP_ALIVE_PING)) this.listener.pong(this);
    else if (isPing(bytes, from, DRAIN_PING)) this.drainAcknowledged();
    this.charge(1);
  }

  goAway(lastStream: number, code: number, debug: string): void {
    this.charge(1);
    // Before anybody hears of it, who might open another stream for what was refused.
    this.draining = true;
    this.refuseAbove(lastStream);
    this.finishing = true;
    this.peerWentAway = true;
    this.finishReason = `the peer said GOAWAY (${errorName(code)}${debug === '' ? '' : `: ${debug}`})`;
    if (!this.isEnded) this.listener.goAway(this, lastStream, code, debug);
    this.finishIfDone();
  }

  priority(id: number, wrongLength: boolean, dependsOnItself: boolean): void {
    this.charge(1);
    if (!wrongLength && !dependsOnItself) return;
    const code = wrongLength ? H2_ERROR.frameSizeError : PROTOCOL_ERROR;
    const stream = this.streams.get(id);
    // There is nothing to reset of a stream that is not open.
    if (stream === undefined) this.connectionError(code, 'a PRIORITY frame is malformed');
    else this.streamError(stream, code, wrongLength ? H2_PROBLEM.priorityLength : H2_PROBLEM.selfDependency);
  }

  ignored(): void {
    this.charge(1);
  }

  /** Whether nobody has opened that stream yet. */
  protected abstract isIdle(id: number): boolean;
  /** The highest stream of the peer that was or may have been processed. */
  protected abstract lastProcessed(): number;
  /** The peer processes no stream above this one. */
  protected abstract refuseAbove(lastStream: number): void;
  /** All that the peer sent before it heard of the drain has come. */
  protected abstract drainAcknowledged(): void;
  /** Tells what may have changed since the last time. */
  protected abstract settle(): void;

  /** Sends what both roles begin with. */
  protected sendSettings(settings: [setting: number, value: number][]): void {
    const { maxFrameBytes, windows } = this.options;
    settings.push([SETTING.maxHeaderListSize, MAX_LIST_BYTES]);
    if (windows.streamWindowBytes !== DEFAULT_WINDOW_BYTES) {
      settings.push([SETTING.initialWindowSize, windows.streamWindowBytes]);
    }
    if (maxFrameBytes !== MIN_FRAME_SIZE) settings.push([SETTING.maxFrameSize, maxFrameBytes]);
    this.output.settings(settings);
    if (this.receiving.firstUpdate > 0) this.output.windowUpdate(0, this.receiving.firstUpdate);
  }

  protected newStream(id: number, method: number, nowMs: number): Stream<T> {
    const { streamWindowBytes } = this.options.windows;
    return this.streams.open(id, method, this.sending.streamWindow, streamWindowBytes, nowMs);
  }

  protected sendFields(stream: Stream<T>, fields: FieldList, end: boolean): void {
    this.budgets.useful++;
    this.output.headers(stream.id, fields, this.encoder, end);
  }

  /** Fields behind the head of a message: trailers. @param wrong what is wrong with them already, 0: nothing */
  protected trailers(stream: Stream<T>, end: boolean, head: H2Head, wrong: number): void {
    if (stream.remoteDone) return this.streamError(stream, STREAM_CLOSED, H2_PROBLEM.afterEnd);
    const problem = wrong || readTrailers(head) || (end ? 0 : H2_PROBLEM.trailersEnd);
    if (problem !== 0) return this.streamError(stream, PROTOCOL_ERROR, problem);
    if (stream.contentRemaining > 0) {
      return this.streamError(stream, PROTOCOL_ERROR, H2_PROBLEM.contentLengthMismatch);
    }
    this.finishRemote(stream);
    this.listener.trailers(this, stream, this.incoming.judged(head).fields);
    this.finishIfDone();
  }

  /** DATA or HEADERS of a stream that is not open (RFC 9113 section 5.1). */
  protected strayMessage(id: number): void {
    const how = this.streams.howEnded(id);
    if (how === ENDED.orderly) {
      return this.connectionError(STREAM_CLOSED, `there is a message on stream ${id}, which has ended`);
    }
    if (how === ENDED.byPeer) this.output.rstStream(id, STREAM_CLOSED);
    this.stray(id);
  }

  /** Any frame of a stream that is not open: the peer may not know yet, or it never was. */
  protected stray(id: number): void {
    if (this.isIdle(id)) this.connectionError(PROTOCOL_ERROR, `stream ${id} has not been opened`);
    else this.charge(1);
  }

  /** We have ended a stream. */
  protected finishLocal(stream: Stream<T>): void {
    stream.localDone = true;
    if (!stream.remoteDone) return;
    this.closeStream(stream, ENDED.orderly);
    this.finishIfDone();
  }

  /** The peer has. Whoever calls this lets `finishIfDone` follow when it is told. */
  protected finishRemote(stream: Stream<T>): void {
    stream.remoteDone = true;
    if (stream.localDone) this.closeStream(stream, ENDED.orderly);
  }

  /** The one way in which a stream closes. */
  protected closeStream(stream: Stream<T>, how: number): void {
    stream.closed = true;
    this.streams.remove(stream, how);
    const isOrderly = how === ENDED.orderly;
    this.receiving.closed(stream, !isOrderly);
    if (isOrderly) this.budgets.completed++;
  }

  /** The peer has done something with a stream that it must not (RFC 9113 section 5.4.2). */
  protected streamError(stream: Stream<T>, code: number, problem: number): void {
    stream.problem = problem;
    this.output.rstStream(stream.id, code);
    this.closeStream(stream, ENDED.unknown);
    this.listener.streamReset(this, stream, code, true);
    this.chargeReset(0);
    this.finishIfDone();
  }

  /** Ends the connection when that is wanted and nothing is on its way any more. */
  protected finishIfDone(): void {
    if (this.finishing && this.streams.count === 0) this.end(NO_ERROR, this.finishReason, !this.peerWentAway);
  }

  /** A frame without a use of its own. */
  protected charge(cost: number): void {
    if (this.budgets.noisy(cost, this.receivedMs)) return;
    this.connectionError(
      CALM,
      'there are too many control frames (PING, SETTINGS, WINDOW_UPDATE, empty or ignored ones)',
    );
  }

  /** A stream was reset, by the peer or because of it. Only clients can make us work in vain. */
  protected chargeReset(openMs: number): void {
    if (!this.isServer || this.budgets.reset(openMs, this.receivedMs)) return;
    this.connectionError(CALM, 'there are too many streams that are reset before they are answered');
  }

  private dataEnds(end: boolean): void {
    this.dataStream = undefined;
    this.receiving.frameEnded(this.dataLength);
    if (this.dataLength > 0) this.budgets.useful++;
    else if (!end) this.charge(1);
  }

  /** A reply of ours is in the output. */
  private replied(): void {
    if (!this.sending.blocked || ++this.blockedReplies <= MAX_BLOCKED_REPLIES) return;
    this.connectionError(CALM, `more than ${MAX_BLOCKED_REPLIES} answers to PING and SETTINGS are not read`);
  }

  private end(code: number, reason: string, ours: boolean): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.draining = true;
    this.endCode = code;
    this.endReason = reason;
    this.endIsOurs = ours;
    if (code !== H2_ERROR.connectionLost) this.output.goAway(this.lastProcessed(), code, reason);
    for (const stream of this.streams.all()) {
      if (stream.closed) continue;
      this.closeStream(stream, ENDED.unknown);
      this.listener.streamReset(this, stream, code, ours);
    }
  }

  private tellEnded(): void {
    if (this.endTold) return;
    this.endTold = true;
    this.listener.ended(this, this.endCode, this.endReason, this.endIsOurs);
  }
}
