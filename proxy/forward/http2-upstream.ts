/** An HTTP/2 connection to an endpoint, which carries many requests at once, each on a stream of its own. */
import { Spares } from '../core/spares.ts';
import { codeOfHttpStatus, codeOfReset, grpcStatus } from '../http/grpc.ts';
import { ClientSession } from '../http/h2/client-session.ts';
import type { FieldList } from '../http/h2/field.ts';
import { errorName, H2_ERROR } from '../http/h2/frames.ts';
import type { H2Head } from '../http/h2/head.ts';
import { DEFAULT_OPTIONS } from '../http/h2/options.ts';
import type { ClientOwner } from '../http/h2/owner.ts';
import { describeH2Problem } from '../http/h2/problems.ts';
import type { Stream } from '../http/h2/stream.ts';
import { unprocessedReason } from '../http/h2/unprocessed.ts';
import { BODY } from '../http/head.ts';
import type { HttpPoolSeries } from '../metrics/http-pool.ts';
import type { UpstreamFault, UpstreamStage } from '../model/dialling.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Carrier, EndpointSide, Exchange, RequestFate } from '../model/exchange.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import { StreamWriter } from './http2-body.ts';
import { Http2Socket } from './http2-socket.ts';
import { sendAgain } from './retained.ts';

/** Carriers that are kept to be used again: as many as there are streams at most, since what comes in one batch goes to one connection. */
const SPARE = 128;

/**
 * Streams that are reset on a connection before new ones go out on another: the clients that cancel are many, and a server takes them for one
 * attacker. Envoy ends connections at 500, we do at 512, nghttp2 (Node.js, nghttpd) at 1,000, with all that is on its way; 128 more may be
 * open here.
 */
export const MOST_RESETS = 300;
/** Of those, so many a second are forgotten. nghttp2 forgets 33. */
const RESETS_PER_SECOND = 20;

/** How long a request waits for an endpoint that takes no streams, in ms: as long as nginx gives a server that is silent. */
const QUEUED_MS = 60_000;

type Session = ClientSession<Http2Carrier>;
type UpstreamStream = Stream<Http2Carrier>;

/** What becomes of requests and connections. */
export interface Http2UpstreamOwner {
  /** The head of the final response is there. */
  answered(exchange: Exchange, carrier: Carrier, status: number): void;
  /** The response is complete. */
  responded(exchange: Exchange): void;
  /** The response cannot be understood. */
  spoiled(exchange: Exchange, carrier: Carrier, problem: string): void;
  /** Its stream ended before its response did. */
  streamLost(
    exchange: Exchange,
    carrier: Http2Carrier,
    endpoint: Endpoint,
    what: string,
    fate: RequestFate,
  ): void;
  /** A connection has ended; see `SessionOwner.ended`. */
  sessionEnded(endpoint: Endpoint, code: number, reason: string, ours: boolean): void;
  /** The endpoint's proxy says that it could not reach its application. */
  unreached(exchange: Exchange, upstream: Http2Upstream, endpoint: Endpoint, reason: string): void;
  /** Exchange and endpoint belong together no more. */
  detach(exchange: Exchange, endpoint: Endpoint | undefined): void;
  /** A request that waited for its connection can be sent. */
  carried(exchange: Exchange, carrier: Http2Carrier): void;
  /** Client and endpoint have agreed on another protocol, which they speak on the stream. */
  switched(exchange: Exchange): void;
  /** The connection takes fewer requests than wait for it, or none of this kind. */
  turnedAway(exchange: Exchange, upstream: Http2Upstream, endpoint: Endpoint): void;
  /** A request has waited too long for a connection that takes none. */
  waitedTooLong(exchange: Exchange, endpoint: Endpoint, afterMs: number): void;
}

/** A request on its stream. Used again for another one on the same connection. */
export class Http2Carrier implements Carrier {
  readonly upstream: Http2Upstream;
  readonly writer = new StreamWriter<Http2Carrier>();
  exchange: Exchange | undefined;
  /** Undefined while it waits for the connection. */
  stream: UpstreamStream | undefined;
  /** Content that came and that the endpoint has not been told may come again, in bytes. */
  owed = 0;
  /** It is in the queue of its connection. */
  isWaiting = false;
  /** Bytes handed to the engine for the connection before the request. */
  handedBefore = 0;

  constructor(upstream: Http2Upstream) {
    this.upstream = upstream;
  }

  get side(): EndpointSide {
    return this.upstream;
  }

  get endpoint(): Endpoint | undefined {
    return this.upstream.endpoint;
  }

  get isReady(): boolean {
    return this.stream !== undefined;
  }

  get served(): number {
    return this.upstream.served;
  }
}

/** See above. */
export class Http2Upstream
  extends Http2Socket<Session>
  implements ClientOwner<Session, Http2Carrier>, EndpointSide
{
  readonly kind = 'upstream';
  readonly metrics: HttpPoolSeries;
  readonly session: Session;
  upstream: ConnectionId = 0;
  endpoint: Endpoint | undefined;
  upstreamStage: UpstreamStage = 'none';
  upstreamFault: UpstreamFault | undefined;
  established = false;
  /** Streams it has completed. */
  served = 0;
  /** When a request went to it last, in ms of `performance.now()`. */
  chosenMs = Number.NEGATIVE_INFINITY;
  /** Why its server is taken for one that does not speak HTTP/2, as the end of a sentence; empty when it is not. */
  misunderstood = '';
  /** Requests that wait until it can carry them. */
  readonly queue: Http2Carrier[] = [];
  private readonly owner: Http2UpstreamOwner;
  private readonly spares = new Spares<Http2Carrier>(SPARE);
  private readonly keepMesh: boolean;
  private howLost = '';
  /** Streams that were given up lately, and when the last one was. */
  private resets = 0;
  private resetMs = Number.NEGATIVE_INFINITY;
  /** Bytes that the kernel took, when it is lost. */
  private written = 0;
  /** Those to the same endpoint that take new requests. */
  private readonly siblings: Http2Upstream[];

  /** @param keepMesh `l5d-*` fields are taken from the endpoint */
  constructor(
    engine: Engine,
    metrics: HttpPoolSeries,
    siblings: Http2Upstream[],
    owner: Http2UpstreamOwner,
    keepMesh: boolean,
  ) {
    super(engine);
    this.metrics = metrics;
    this.siblings = siblings;
    this.owner = owner;
    this.keepMesh = keepMesh;
    this.session = new ClientSession<Http2Carrier>(this, { ...DEFAULT_OPTIONS, keepMesh });
  }

  get socket(): ConnectionId {
    return this.upstream;
  }

  /** Requests it could take now, or when it is there. */
  get room(): number {
    return this.session.capacity - this.queue.length;
  }

  /** It takes a request at once. */
  get canSend(): boolean {
    return this.upstreamStage === 'ready' && this.session.canOpen;
  }

  // --- requests

  /** A place for a request. It waits while the connection is not there, to be `carried`; otherwise `send` it. */
  carry(exchange: Exchange): Http2Carrier {
    const carrier = this.spares.take() ?? new Http2Carrier(this);
    carrier.exchange = exchange;
    carrier.owed = 0;
    carrier.isWaiting = !this.canCarry(exchange);
    if (carrier.isWaiting) this.queue.push(carrier);
    return carrier;
  }

  /** It takes this request at once. An extended CONNECT has to wait until the server has said that it takes it (RFC 8441 section 3). */
  canCarry(exchange: Exchange | undefined): boolean {
    const { session } = this;
    if (!this.canSend) return false;
    return session.takesExtendedConnect || exchange?.isExtendedConnect !== true;
  }

  sendRequest(exchange: Exchange, carrier: Carrier): void {
    const { session } = this;
    const place = carrier as Http2Carrier;
    const { requestBody, keptBytes, keptTrailers } = exchange;
    const isWhole = requestBody.done && keptBytes === 0 && keptTrailers === undefined;
    // Before the stream opens: a long head is handed over at once.
    place.handedBefore = this.handed;
    const stream = session.open(place, exchange.client.headFields(exchange), isWhole);
    place.stream = stream;
    place.writer.begin(session, stream);
    if (exchange.replays > 0) sendAgain(exchange, place.writer);
  }

  goOn(_exchange: Exchange, carrier: Carrier): void {
    this.credit(carrier as Http2Carrier);
  }

  halfClosed(exchange: Exchange, carrier: Carrier): void {
    this.endTunnel(exchange, carrier as Http2Carrier);
  }

  abandon(exchange: Exchange, carrier: Carrier): void {
    const place = carrier as Http2Carrier;
    const { stream } = place;
    this.owner.detach(exchange, this.endpoint);
    if (stream !== undefined) this.reset(stream, H2_ERROR.cancel);
    else this.leaveQueue(place);
    this.recycle(place);
  }

  // --- responses

  responseHead(_session: Session, { user: carrier }: UpstreamStream, head: H2Head, end: boolean): void {
    const exchange = carrier?.exchange;
    if (carrier === undefined || exchange === undefined) return;
    const { client } = exchange;
    if (this.keepMesh && (end || head.status >= 500) && this.askElsewhere(exchange, carrier, head)) return;
    if (head.status < 200) return client.respondFields(exchange, head, false);
    this.owner.answered(exchange, carrier, head.status);
    exchange.responseBody.start(end ? BODY.none : BODY.untilClose, 0);
    client.respondFields(exchange, head, end);
    exchange.responseStarted = true;
    if (exchange.isOpenTunnel) {
      this.owner.switched(exchange);
      client.goOn(exchange);
    }
    if (!end) return;
    exchange.grpcStatus = grpcStatus(head.fields);
    this.responseEnded(exchange, carrier);
  }

  data(
    _session: Session,
    stream: UpstreamStream,
    bytes: Uint8Array,
    from: number,
    to: number,
    end: boolean,
  ): void {
    const carrier = stream.user;
    const exchange = carrier?.exchange;
    if (carrier === undefined || exchange === undefined) return this.session.consumed(stream, to - from);
    exchange.responseBody.content += to - from;
    carrier.owed += to - from;
    exchange.writer.write(bytes, from, to, end);
    this.credit(carrier);
    if (end) this.responseEnded(exchange, carrier);
  }

  trailers(_session: Session, { user: carrier }: UpstreamStream, fields: FieldList): void {
    const exchange = carrier?.exchange;
    if (carrier === undefined || exchange === undefined) return;
    exchange.grpcStatus = grpcStatus(fields);
    exchange.writer.end(fields);
    this.responseEnded(exchange, carrier);
  }

  streamReset(_session: Session, stream: UpstreamStream, code: number, ours: boolean): void {
    const carrier = stream.user;
    const exchange = carrier?.exchange;
    const { endpoint, session } = this;
    if (carrier === undefined || exchange === undefined || endpoint === undefined) return;
    // A server that has said all in a tunnel may want no more of what its client says (RFC 9113 section 8.1): it has ended in order.
    if (code === H2_ERROR.noError && !ours && exchange.isOpenTunnel && exchange.responseBody.done)
      return this.done(exchange, carrier);
    if (ours && stream.problem !== 0)
      return this.owner.spoiled(exchange, carrier, describeH2Problem(stream.problem).text);
    const isLost = code === H2_ERROR.connectionLost;
    const undone = isLost ? this.written <= carrier.handedBefore : code === H2_ERROR.refusedStream;
    const fate = undone ? 'unprocessed' : isLost || ours ? 'unknown' : 'given up';
    // One that ends resets what it did not come to; otherwise the client is told what it would hear without us.
    if (fate === 'given up' && exchange.grpc && !session.draining) exchange.grpcStatus = codeOfReset(code);
    this.recycle(carrier);
    let what = `${endpoint.address} reset the stream (${errorName(code)})`;
    if (isLost) {
      what = `the connection to ${endpoint.address} was lost (${this.howLost}) before a response came`;
    } else if (ours) what = `the connection to ${endpoint.address} was given up (${errorName(code)})`;
    this.owner.streamLost(exchange, carrier, endpoint, what, fate);
  }

  writable(_session: Session, { user: carrier }: UpstreamStream): void {
    const exchange = carrier?.exchange;
    if (carrier === undefined || exchange === undefined) return;
    if (!carrier.writer.drain()) return;
    exchange.client.goOn(exchange);
    if (exchange.isOpenTunnel) this.endTunnel(exchange, carrier);
  }

  // --- the connection

  /** It can carry bytes. */
  ready(): void {
    this.handed = this.endpoint?.tls?.header.length ?? 0;
    this.session.start();
    this.watch();
    this.capacityChanged();
  }

  capacityChanged(): void {
    const { session, queue } = this;
    for (let at = 0; at < queue.length && this.canSend; ) {
      const carrier = queue[at];
      const { exchange } = carrier;
      if (this.canCarry(exchange)) {
        queue.splice(at, 1);
        carrier.isWaiting = false;
        if (exchange !== undefined) this.owner.carried(exchange, carrier);
      } else at++;
    }
    if (session.draining) this.retire();
    else if (session.isKnown) this.turnAway();
  }

  /** It takes no new requests; those it has end as they do. */
  retire(): void {
    this.withdraw();
    if (this.upstreamStage !== 'ready') return;
    if (!this.session.draining) this.session.drain();
    this.turnAway();
  }

  /** It is no longer one of those that take requests. */
  withdraw(): void {
    const at = this.siblings.indexOf(this);
    if (at >= 0) this.siblings.splice(at, 1);
  }

  /** Its socket has ended. `written`: bytes that the kernel took. */
  lost(how: string, written: number): void {
    this.howLost = how;
    if (this.established && !this.session.isKnown) this.endpoint?.figures.forgetHttp2();
    this.written = written;
    this.upstreamStage = 'none';
    this.session.disconnected();
  }

  /** Nothing has passed for a while. */
  timedOut(): void {
    // It does not even fetch what ends the connection, or is not there any more.
    if (this.session.isEnded || this.isSilent()) return this.engine.reset(this.upstream);
    // A service that is asked less often than this is not worth a connection.
    if (this.session.streamCount === 0) this.retire();
    this.watch();
  }

  goAway(): void {
    this.retire();
  }

  /** Answers requests that wait for streams which do not come; about every ten seconds. */
  endQueued(): void {
    const { endpoint, queue } = this;
    // While it is being opened, that has a limit of its own.
    if (this.upstreamStage !== 'ready' || endpoint === undefined || queue.length === 0) return;
    const sinceMs = this.nowMs() - QUEUED_MS;
    const late = queue.flatMap(({ exchange }) => exchange ?? []).filter((one) => one.attemptedMs <= sinceMs);
    for (const exchange of late) this.owner.waitedTooLong(exchange, endpoint, QUEUED_MS);
  }

  ended(_session: Session, code: number, reason: string, ours: boolean): void {
    if (this.endpoint !== undefined) this.owner.sessionEnded(this.endpoint, code, reason, ours);
    if (ours && code !== H2_ERROR.noError && !this.session.isKnown) this.misunderstood = ` (${reason})`;
    this.withdraw();
    if (this.upstreamStage === 'ready') this.engine.close(this.upstream);
  }

  /** @returns whether the endpoint's proxy could not reach its application, and the request has gone elsewhere */
  private askElsewhere(exchange: Exchange, carrier: Http2Carrier, { fields }: H2Head): boolean {
    const { endpoint } = this;
    const { stream } = carrier;
    const reason = unprocessedReason(fields);
    if (reason === undefined || stream === undefined || endpoint === undefined) return false;
    this.reset(stream, H2_ERROR.cancel);
    this.recycle(carrier);
    this.owner.unreached(exchange, this, endpoint, reason);
    return true;
  }

  /** Gives a stream up. */
  private reset(stream: UpstreamStream, code: number): void {
    // One that has ended by itself is no reset to its server.
    if (!stream.closed) this.countReset();
    this.session.reset(stream, code);
    if (this.resets >= MOST_RESETS) this.retire();
  }

  private countReset(): void {
    const nowMs = this.nowMs();
    const forgotten = ((nowMs - this.resetMs) / 1000) * RESETS_PER_SECOND;
    this.resets = Math.max(0, this.resets - forgotten) + 1;
    this.resetMs = nowMs;
  }

  /** Requests that wait are not to wait for the end of those that are under way: some last for hours. */
  private turnAway(): void {
    const { endpoint, queue, session } = this;
    // One that was of no use to anybody: those who wait must not dial again and again.
    const takesNone = session.draining && session.streamCount === 0 && this.served === 0;
    for (const carrier of queue.splice(0)) {
      const { exchange } = carrier;
      if (exchange === undefined || endpoint === undefined) continue;
      this.recycle(carrier);
      if (!takesNone) this.owner.turnedAway(exchange, this, endpoint);
      else
        this.owner.streamLost(
          exchange,
          carrier,
          endpoint,
          `${endpoint.address} ${session.isKnown ? 'takes no streams' : 'says nothing'}`,
          'unprocessed',
        );
    }
  }

  /** It may not be there any more: all are taken out at once when the connection ends. */
  private leaveQueue(carrier: Http2Carrier): void {
    const at = this.queue.indexOf(carrier);
    if (at >= 0) this.queue.splice(at, 1);
  }

  /** The client has taken what was passed on: the endpoint may send as much again. */
  private credit(carrier: Http2Carrier): void {
    const { exchange, stream, owed } = carrier;
    if (owed === 0 || stream === undefined || exchange?.writer.full === true) return;
    carrier.owed = 0;
    this.session.consumed(stream, owed);
  }

  /** All of the response is there. */
  private responseEnded(exchange: Exchange, carrier: Http2Carrier): void {
    exchange.responseBody.done = true;
    if (exchange.isOpenTunnel) this.endTunnel(exchange, carrier);
    else this.done(exchange, carrier);
  }

  /** Each half of a tunnel ends by itself (RFC 9113 section 8.5); the exchange with the second. */
  private endTunnel(exchange: Exchange, carrier: Http2Carrier): void {
    const { requestBody, responseBody } = exchange;
    const isOver = requestBody.done && responseBody.done && !carrier.writer.full;
    if (isOver && carrier.exchange === exchange) this.done(exchange, carrier);
  }

  /** The response is complete. */
  private done(exchange: Exchange, carrier: Http2Carrier): void {
    const { stream } = carrier;
    this.served++;
    if (exchange.grpc && exchange.grpcStatus < 0) exchange.grpcStatus = codeOfHttpStatus(exchange.status);
    this.owner.detach(exchange, this.endpoint);
    // It was answered before its end, which nobody wants any more.
    if (stream !== undefined && !stream.localDone) this.reset(stream, H2_ERROR.noError);
    this.recycle(carrier);
    this.owner.responded(exchange);
  }

  private recycle(carrier: Http2Carrier): void {
    const { stream, owed } = carrier;
    if (stream !== undefined) {
      stream.user = undefined;
      // The connection has room for as much again, whatever became of it.
      if (owed > 0) this.session.consumed(stream, owed);
      this.session.release(stream);
    }
    carrier.stream = carrier.exchange = undefined;
    carrier.writer.forget();
    this.spares.give(carrier);
  }
}
