/** The server's side of an HTTP/2 connection: streams are opened by the peer. */
import { METHOD } from '../names.ts';
import type { FieldList } from './field.ts';
import { H2_ERROR, MAX_31_BITS, SETTING } from './frames.ts';
import { type H2Head, readRequest, startsWithPseudo } from './head.ts';
import { DEFAULT_OPTIONS, type SessionOptions } from './options.ts';
import type { ServerOwner } from './owner.ts';
import { DRAIN_PING } from './pings.ts';
import { H2_PROBLEM, isTooLarge, limitProblem } from './problems.ts';
import { Session } from './session.ts';
import type { Stream } from './stream.ts';
import { ENDED } from './streams.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { noError: NO_ERROR, protocolError: PROTOCOL_ERROR, enhanceYourCalm: CALM } = H2_ERROR;
const { connect: CONNECT } = METHOD;

/** A connection from a client. */
export class ServerSession<T> extends Session<T> {
  private readonly owner: ServerOwner<ServerSession<T>, T>;
  /** The highest stream that the client has opened, and the highest that is served. */
  private lastOpened = 0;
  private lastServed = MAX_31_BITS;
  /** The client knows our SETTINGS. */
  private isKnown = false;

  constructor(owner: ServerOwner<ServerSession<T>, T>, options: SessionOptions = DEFAULT_OPTIONS) {
    super(true, owner, options);
    this.owner = owner;
  }

  start(): void {
    const settings: [number, number][] = [[SETTING.maxConcurrentStreams, this.options.maxStreams]];
    if (this.options.extendedConnect) settings.push([SETTING.enableConnectProtocol, 1]);
    this.sendSettings(settings);
  }

  /** Sends the head of a response; one whose status is below 200 is not `final`, and more follow. */
  sendHead(stream: Stream<T>, fields: FieldList, end: boolean, final = true): void {
    if (stream.closed || stream.localDone) return;
    stream.headSent = final;
    this.sendFields(stream, fields, end);
    if (end) this.finishLocal(stream);
  }

  /** In two steps (RFC 9113 section 6.8): what the client sent before it heard of the first is still served. */
  drain(): void {
    if (this.draining) return;
    this.draining = true;
    this.output.goAway(MAX_31_BITS, NO_ERROR, '');
    this.output.ping(DRAIN_PING, 0, false);
  }

  fields(id: number, end: boolean, head: H2Head, problem: number, dependsOnItself: boolean): void {
    const stream = this.streams.get(id);
    const wrong = limitProblem(problem) || (dependsOnItself ? H2_PROBLEM.selfDependency : 0);
    if (stream !== undefined) this.trailers(stream, end, head, wrong);
    else if (id % 2 === 0)
      this.connectionError(PROTOCOL_ERROR, `the client opened stream ${id}, which is even`);
    else if (id > this.lastOpened) this.opened(id, end, head, wrong);
    else this.late(id, head);
  }

  override settingsAck(): void {
    this.isKnown = true;
    super.settingsAck();
  }

  protected isIdle(id: number): boolean {
    return id % 2 === 0 || id > this.lastOpened;
  }

  protected lastProcessed(): number {
    return Math.min(this.lastOpened, this.lastServed);
  }

  protected drainAcknowledged(): void {
    if (this.finishing || !this.draining) return;
    this.finishing = true;
    this.lastServed = this.lastOpened;
    if (this.streams.count > 0) this.output.goAway(this.lastServed, NO_ERROR, '');
    this.finishIfDone();
  }

  /** Nothing was pushed. */
  protected refuseAbove(): void {}

  /** Owners of servers wait for no capacity. */
  protected settle(): void {}

  /** A client opens a stream. @param wrong what is wrong with its head already, 0: nothing */
  private opened(id: number, end: boolean, head: H2Head, wrong: number): void {
    this.lastOpened = id;
    // It was told in time that nobody serves this one, and sends it again elsewhere.
    if (id > this.lastServed) return this.charge(1);
    if (this.streams.count >= this.options.maxStreams) {
      this.output.rstStream(id, H2_ERROR.refusedStream);
      // Before it knows the limit it may well open too many.
      if (this.isKnown) this.chargeReset(0);
      return;
    }
    const problem = wrong || this.judge(head) || lengthProblem(end, head);
    const stream = this.newStream(id, head.method, this.receivedMs);
    stream.headReceived = true;
    if (problem !== 0) return this.refuse(stream, head, problem, end);
    stream.contentRemaining = head.method === CONNECT ? -1 : head.contentLength;
    stream.remoteDone = end;
    this.budgets.useful++;
    this.owner.requestHead(this, stream, this.incoming.judged(head), end);
  }

  private judge(head: H2Head): number {
    if (!head.isLasting) {
      head.keepMesh = this.options.keepMesh;
      head.extendedConnect = this.options.extendedConnect;
    }
    return readRequest(head);
  }

  /** The owner may answer a head that cannot be served; that it is malformed is told in any case (RFC 9113 section 8.1.1). */
  private refuse(stream: Stream<T>, head: H2Head, problem: number, end: boolean): void {
    stream.problem = problem;
    const tooLarge = isTooLarge(problem);
    if (tooLarge) stream.remoteDone = end;
    this.owner.requestProblem(this, stream, problem, head.fields);
    if (!stream.closed) {
      const code = stream.localDone ? NO_ERROR : CALM;
      this.output.rstStream(stream.id, tooLarge ? code : PROTOCOL_ERROR);
      this.closeStream(stream, ENDED.unknown);
    }
    if (!tooLarge) this.chargeReset(0);
    this.finishIfDone();
  }

  /** Fields on a stream that is not open any more, or that was passed over (RFC 9113 section 5.1.1). */
  private late(id: number, head: H2Head): void {
    if (this.streams.howEnded(id) === ENDED.unknown && startsWithPseudo(head.fields)) {
      this.connectionError(PROTOCOL_ERROR, `the client opened stream ${id} after stream ${this.lastOpened}`);
    } else this.strayMessage(id);
  }
}

/** Content was announced that does not follow. */
function lengthProblem(end: boolean, head: H2Head): number {
  return end && head.contentLength > 0 ? H2_PROBLEM.contentLengthMismatch : 0;
}
