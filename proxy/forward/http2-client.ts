/** A client's HTTP/2 connection: each of its streams is an exchange of its own. */
import { emptyList, Spares } from '../core/spares.ts';
import type { LocalAnswer } from '../http/answer.ts';
import { answerFields, GRPC_OF_REASON, grpcAnswerFields, grpcTrailerFields } from '../http/answer-fields.ts';
import { GRPC, grpcTimeoutMs, renewGrpcTimeout } from '../http/grpc.ts';
import { FieldList } from '../http/h2/field.ts';
import { H2_ERROR } from '../http/h2/frames.ts';
import { FieldOptions, responseFields } from '../http/h2/from-http1.ts';
import type { H2Head } from '../http/h2/head.ts';
import { DEFAULT_OPTIONS } from '../http/h2/options.ts';
import { dropOriginalProtocol, originalProtocol } from '../http/h2/original-protocol.ts';
import type { OwnFields } from '../http/h2/own-fields.ts';
import type { ServerOwner } from '../http/h2/owner.ts';
import { describeH2Problem, isTooLarge } from '../http/h2/problems.ts';
import { ServerSession } from '../http/h2/server-session.ts';
import type { Stream } from '../http/h2/stream.ts';
import { fieldsRoom, LineOptions, writeRequestFields } from '../http/h2/to-http1.ts';
import { UNPROCESSED } from '../http/h2/unprocessed.ts';
import { makeWebSocketKey } from '../http/h2/websocket.ts';
import { BODY, type Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import { CONNECTION } from '../http/write.ts';
import type { HttpSeries } from '../metrics/http.ts';
import { hostOf, joined, NO_BYTES, type ProxyConnection } from '../model/connection.ts';
import type { ClientSide } from '../model/exchange.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import type { Exchanges } from './exchanges.ts';
import { StreamWriter } from './http2-body.ts';
import { Http2Exchange } from './http2-exchange.ts';
import { forwardedFields } from './http2-heads.ts';
import { Http2Socket } from './http2-socket.ts';

/** Exchanges that are kept to be used again: as many streams as most connections have at once. */
const SPARE = 32;

/** How long a connection may be without streams, in ms, as between requests of HTTP/1. */
const IDLE_MS = 10 * 60_000;

/** How long a client may leave a stream without a window, in ms: what it has asked for waits in memory. */
const STALLED_MS = 5 * 60_000;

/**
 * A call that has waited for less than this, in ms, goes on with the `grpc-timeout` it came with: that is often the same as the last
 * one's, which connections have in their compression tables, and the network takes as long.
 */
const MIN_WAITED_MS = 1;

/** Heads on their way, which are sent before the next ones come. */
const outgoing = new FieldList();
/**
 * Requests of the connection that is being read, in their order: they are sent when content or trailers of any stream come, which is then not
 * held, or when the read is over. One that is reset before that costs no endpoint anything. The array never shrinks: `freshCount` are meant.
 */
const fresh: (Http2Exchange | undefined)[] = emptyList();
let freshCount = 0;
const fieldOptions = new FieldOptions();
const lineOptions = new LineOptions();

type Session = ServerSession<Http2Exchange>;
type ClientStream = Stream<Http2Exchange>;

/** See above. */
export class Http2Client
  extends Http2Socket<Session>
  implements ServerOwner<Session, Http2Exchange>, ClientSide
{
  readonly connection: ProxyConnection;
  readonly session: Session;
  private readonly exchanges: Exchanges;
  private readonly own: OwnFields | undefined;
  private readonly clientSeries: HttpSeries | undefined;
  private readonly spares = new Spares<Http2Exchange>(SPARE);
  /** For requests that name none and go on as HTTP/1. */
  private host: Uint8Array | null = null;
  /** It has had no streams for a while: it is not asked for signs of life, and wakes nobody, as even a far deadline would. */
  private isResting = false;
  /** It is the authenticated proxy of somebody else's application. */
  private readonly isMesh: boolean;

  /**
   * @param own added to each of its requests
   * @param clientSeries metrics of its requests, where they are counted by who sends them
   */
  constructor(
    engine: Engine,
    exchanges: Exchanges,
    connection: ProxyConnection,
    own: OwnFields | undefined,
    clientSeries: HttpSeries | undefined,
  ) {
    super(engine);
    this.exchanges = exchanges;
    this.connection = connection;
    this.own = own;
    this.clientSeries = clientSeries;
    this.isMesh = connection.direction === 'inbound' && connection.clientIdentity !== undefined;
    this.session = new ServerSession<Http2Exchange>(this, { ...DEFAULT_OPTIONS, keepMesh: this.isMesh });
  }

  get socket(): ConnectionId {
    return this.connection.client;
  }

  /** Exchanges under way. */
  get underWay(): readonly Http2Exchange[] {
    return this.session.openStreams().flatMap(({ user }) => user ?? []);
  }

  // --- the connection

  /** Begins with what detection has read. */
  start(): void {
    const { connection, session, socket } = this;
    const { held } = connection;
    connection.held = NO_BYTES;
    session.start();
    if (this.exchanges.isDraining(connection)) session.drain();
    this.received(held, 0, held.length, false);
    this.watch();
    if (connection.clientEnded) this.clientEnded();
    else this.engine.resume(socket, true);
  }

  /** Bytes of the client; for `hasRoom` see FrameReader. */
  received(bytes: Uint8Array, from: number, to: number, hasRoom: boolean): void {
    this.session.receive(bytes, from, to, hasRoom);
    if (freshCount > 0) this.sendFresh();
  }

  /** It will send no more, and nothing that it must say can follow: nobody is there any more. */
  clientEnded(): void {
    this.engine.reset(this.socket);
  }

  /** Its socket has ended. */
  gone(): void {
    this.session.disconnected();
  }

  /** Nothing has passed for a while. */
  timedOut(): void {
    const { session } = this;
    // It does not even fetch what ends the connection, or is not there any more.
    if (session.isEnded || this.isSilent()) return this.engine.reset(this.socket);
    if (session.streamCount > 0 || session.draining) return this.watch();
    this.isResting = true;
    this.engine.deadline(this.socket, 0);
  }

  /** The client is told that the connection does not last. */
  drain(): void {
    this.session.drain();
    this.stir();
  }

  /** Ends the connection when what was not whole the last time still is not: it takes memory. About every ten seconds. */
  endStuck(): void {
    if (!this.session.isStuck()) return;
    this.session.close(H2_ERROR.enhanceYourCalm, 'a frame or header block did not become whole within 10 s');
    this.stir();
  }

  /**
   * Gives streams up that the client has left without a window for too long, whatever else it says, and a client that has said nothing
   * for longer; about once a minute.
   */
  sweep(): void {
    const { session } = this;
    const nowMs = this.nowMs();
    session.resetStalled(nowMs - STALLED_MS);
    if (this.isResting && nowMs - session.receivedMs >= IDLE_MS) this.drain();
  }

  ended(_session: Session, code: number, reason: string, ours: boolean): void {
    const { direction, peer } = this.connection;
    this.exchanges.sessionEnded(direction, 'src', peer.toString(), code, reason, ours);
    if (code === H2_ERROR.connectionLost) return;
    // It may not even fetch what it is told.
    this.watch();
    // To read on what a flood brings would be half of the work that it makes.
    this.engine.close(this.socket, ours && code === H2_ERROR.enhanceYourCalm ? 'unread' : 'discarded');
  }

  goAway(): void {}

  // --- requests

  requestHead(_session: Session, stream: ClientStream, head: H2Head, end: boolean): void {
    const nowMs = this.nowMs();
    const exchange = this.obtain(stream);
    if (this.isResting) this.stir();
    exchange.begin(head, forwardedFields(head, this.own, exchange.ownFields), end, nowMs);
    this.exchanges.begin(exchange, head, nowMs);
    if (exchange.grpc) this.limit(exchange);
    fresh[freshCount++] = exchange;
  }

  requestProblem(_session: Session, stream: ClientStream, problem: number, fields: FieldList): void {
    const { status, text } = describeH2Problem(problem);
    const exchange = this.obtain(stream);
    exchange.beginUnread(fields, this.nowMs());
    if (exchange.grpc && isTooLarge(problem)) exchange.grpcStatus = GRPC.resourceExhausted;
    this.exchanges.failed(exchange, status, 'bad_request', text);
    // Of a longer answer the client gets what its windows allow: the session resets the stream next.
    this.recycle(exchange);
  }

  data(
    _session: Session,
    stream: ClientStream,
    bytes: Uint8Array,
    from: number,
    to: number,
    end: boolean,
  ): void {
    if (freshCount > 0) this.sendFresh();
    const exchange = stream.user;
    if (exchange === undefined || exchange.finishing) return this.session.consumed(stream, to - from);
    exchange.owed += to - from;
    if (exchange.carrier?.isReady === true && !exchange.isHolding)
      return this.passOn(exchange, bytes, from, to, end);
    exchange.held = joined(exchange.held, bytes.subarray(from, to));
    exchange.heldLast = end;
  }

  trailers(_session: Session, stream: ClientStream, fields: FieldList): void {
    if (freshCount > 0) this.sendFresh();
    const exchange = stream.user;
    if (exchange === undefined || exchange.finishing) return;
    if (exchange.carrier?.isReady === true && !exchange.isHolding) return this.endWith(exchange, fields);
    exchange.heldLast = true;
    exchange.heldTrailers = fields.copy();
  }

  streamReset(_session: Session, { user: exchange }: ClientStream): void {
    if (exchange === undefined) return;
    if (freshCount > 0) forgetFresh(exchange);
    if (!exchange.finishing) this.exchanges.clientLeft(exchange);
    this.recycle(exchange);
  }

  writable(_session: Session, { user: exchange }: ClientStream): void {
    if (exchange === undefined || !exchange.writer.drain()) return;
    const { carrier } = exchange;
    if (exchange.finishing) this.finish(exchange);
    else carrier?.side.goOn(exchange, carrier);
  }

  sendHead(exchange: Http2Exchange, socket: ConnectionId): number {
    const { engine } = this;
    lineOptions.framing = exchange.requestFraming;
    lineOptions.contentLength = exchange.requestLength;
    exchange.webSocketKey = exchange.isWebSocket ? makeWebSocketKey() : undefined;
    lineOptions.webSocketKey = exchange.webSocketKey ?? null;
    lineOptions.connection = exchange.isWebSocket ? CONNECTION.upgrade : CONNECTION.none;
    lineOptions.extra = this.own?.lines ?? null;
    this.host ??= hostOf(this.connection);
    lineOptions.host = this.host;
    const fields = this.headFields(exchange);
    const at = engine.reserve(fieldsRoom(fields, lineOptions));
    const end = writeRequestFields(fields, lineOptions, engine.slab, at);
    engine.sendBuilt(socket, end);
    return end - at;
  }

  /** A call that has waited has less time left. */
  headFields(exchange: Http2Exchange): FieldList {
    const { deadlinePlace, startedMs, dueMs, carrier } = exchange;
    if (deadlinePlace >= 0) {
      const nowMs = this.nowMs();
      if (nowMs - startedMs >= MIN_WAITED_MS)
        renewGrpcTimeout(exchange.changeableFields(), Math.max(0, dueMs - nowMs));
    }
    const { fields } = exchange;
    if (carrier?.endpoint?.protocol !== 'http1') return fields;
    // Where it goes on as a stream all the same, it is to another proxy, which is to write it as HTTP/1.
    outgoing.take(fields);
    outgoing.push(originalProtocol(1, false));
    return outgoing;
  }

  releaseHead(exchange: Http2Exchange): void {
    exchange.forgetFields();
  }

  goOn(exchange: Http2Exchange): void {
    const { carrier, held, heldLast, heldTrailers } = exchange;
    if (carrier?.isReady !== true) return;
    if (exchange.isHolding) {
      exchange.held = NO_BYTES;
      exchange.heldLast = false;
      exchange.heldTrailers = undefined;
      const last = heldLast && heldTrailers === undefined;
      if (held.length > 0 || last) this.passOn(exchange, held, 0, held.length, last);
      if (heldTrailers !== undefined) this.endWith(exchange, heldTrailers);
    }
    this.credit(exchange);
  }

  /** No socket was linked to anything. */
  unlink(): void {}

  // --- responses

  respond(exchange: Http2Exchange, head: Head): void {
    const isUpgrade = head.status === 101;
    fieldOptions.original = exchange.originalMinor >= 0;
    fieldOptions.webSocket = isUpgrade;
    responseFields(head, fieldOptions, outgoing);
    if (isUpgrade) exchange.status = 200;
    const status = isUpgrade ? 200 : head.status;
    const isConsent = exchange.isTunnel && status >= 200 && status < 300;
    this.sendResponse(exchange, outgoing, status, status >= 200 && head.body === BODY.none && !isConsent);
  }

  respondFields(exchange: Http2Exchange, head: H2Head, end: boolean): void {
    let { fields } = head;
    if (exchange.carrier?.endpoint?.protocol === 'http1') {
      fields = outgoing;
      fields.take(head.fields);
      dropOriginalProtocol(fields);
    }
    this.sendResponse(exchange, fields, head.status, end);
  }

  finished(exchange: Http2Exchange): void {
    exchange.finishing = true;
    if (!exchange.writer.full) this.finish(exchange);
  }

  /** A stream has no socket of its own. */
  switched(): void {}

  answer(exchange: Http2Exchange, answer: LocalAnswer): number {
    const { session } = this;
    const { stream, grpc, method, json } = exchange;
    if (stream === undefined) return 0;
    if (grpc) {
      // What the client sees: it knows no other status.
      exchange.status = 200;
      exchange.grpcStatus = codeOf(exchange);
      grpcAnswerFields(answer, exchange.grpcStatus, outgoing);
      this.sayUnprocessed(exchange);
      session.sendHead(stream, outgoing, true);
      return 0;
    }
    const body = answerFields(answer, json, method === METHOD.head, outgoing);
    this.sayUnprocessed(exchange);
    session.sendHead(stream, outgoing, body.length === 0);
    if (body.length > 0) exchange.writer.write(body, 0, body.length, true);
    return body.length;
  }

  /** The proxy of a client is told that it may ask another endpoint. */
  private sayUnprocessed({ decision }: Http2Exchange): void {
    if (this.isMesh && decision?.error === 'connect') outgoing.push(UNPROCESSED);
  }

  /** A gRPC client is told why in trailers, which it gets behind what came so far. */
  breakOff(exchange: Http2Exchange, why: string): void {
    const { stream, grpc, decision } = exchange;
    if (stream === undefined) return;
    if (grpc && decision !== undefined) {
      const answer = { status: 0, message: why, decision: this.exchanges.idOf(decision) };
      exchange.grpcStatus = codeOf(exchange);
      grpcTrailerFields(answer, exchange.grpcStatus, outgoing);
      exchange.writer.end(outgoing);
      return this.finished(exchange);
    }
    this.session.reset(stream, exchange.isTunnel ? H2_ERROR.connectError : H2_ERROR.internalError);
    this.recycle(exchange);
  }

  /** Sends what came, in its order. */
  private sendFresh(): void {
    const nowMs = this.nowMs();
    for (let at = 0; at < freshCount; at++) {
      const exchange = fresh[at];
      fresh[at] = undefined;
      if (exchange !== undefined) this.exchanges.send(exchange, nowMs);
    }
    freshCount = 0;
  }

  private limit(exchange: Http2Exchange): void {
    const timeoutMs = grpcTimeoutMs(exchange.fields);
    if (timeoutMs >= 0) this.exchanges.limit(exchange, timeoutMs);
  }

  /** There is something to wait for again. */
  private stir(): void {
    this.isResting = false;
    this.watch();
  }

  private sendResponse(exchange: Http2Exchange, fields: FieldList, status: number, end: boolean): void {
    const { stream } = exchange;
    if (stream !== undefined) this.session.sendHead(stream, fields, end, status >= 200);
  }

  /** Passes content on to the endpoint. */
  private passOn(exchange: Http2Exchange, bytes: Uint8Array, from: number, to: number, last: boolean): void {
    const { carrier, requestBody } = exchange;
    requestBody.content += to - from;
    if (last) requestBody.done = true;
    carrier?.writer.write(bytes, from, to, last);
    this.exchanges.keep(exchange, bytes, from, to);
    this.credit(exchange);
    if (last) this.halfClose(exchange);
  }

  private endWith(exchange: Http2Exchange, trailers: FieldList): void {
    exchange.requestBody.done = true;
    exchange.carrier?.writer.end(trailers);
    this.exchanges.keepTrailers(exchange, trailers);
    this.halfClose(exchange);
  }

  /** The client has ended its half of what may be a tunnel. */
  private halfClose(exchange: Http2Exchange): void {
    const { carrier } = exchange;
    if (exchange.isOpenTunnel && carrier !== undefined) carrier.side.halfClosed(exchange, carrier);
  }

  /** The client may send as much again as has been passed on. */
  private credit(exchange: Http2Exchange): void {
    const { owed, stream, carrier } = exchange;
    if (owed === 0 || stream === undefined || carrier?.writer.full === true) return;
    exchange.owed = 0;
    this.session.consumed(stream, owed);
  }

  /** The client has everything. Of a request that was answered before its end we do not want the rest (RFC 9113 section 8.1). */
  private finish(exchange: Http2Exchange): void {
    const { stream } = exchange;
    if (stream !== undefined && !stream.remoteDone && !exchange.isUnread)
      this.session.reset(stream, H2_ERROR.noError);
    this.recycle(exchange);
  }

  private obtain(stream: ClientStream): Http2Exchange {
    const exchange =
      this.spares.take() ??
      new Http2Exchange(this.connection, this, new StreamWriter<Http2Exchange>(), this.clientSeries);
    exchange.stream = stream;
    stream.user = exchange;
    exchange.writer.begin(this.session, stream);
    return exchange;
  }

  private recycle(exchange: Http2Exchange): void {
    const { stream, owed } = exchange;
    if (stream === undefined) return;
    stream.user = undefined;
    // The connection has room for as much again, whatever became of it.
    if (owed > 0) this.session.consumed(stream, owed);
    exchange.stream = undefined;
    exchange.held = NO_BYTES;
    exchange.writer.forget();
    this.session.release(stream);
    this.spares.give(exchange);
  }
}

/** It will not be sent, if it was to be. */
function forgetFresh(exchange: Http2Exchange): void {
  let at = freshCount - 1;
  while (at >= 0 && fresh[at] !== exchange) at--;
  if (at >= 0) fresh[at] = undefined;
  while (freshCount > 0 && fresh[freshCount - 1] === undefined) freshCount--;
}

/** What a gRPC client is told: what its endpoint said by a reset, or what the proxy found. */
function codeOf({ grpcStatus, decision }: Http2Exchange): number {
  return grpcStatus >= 0 ? grpcStatus : GRPC_OF_REASON[decision?.error ?? 'i/o'];
}
