/** The endpoint's side of HTTP/1: sends requests on connections of its own, one at a time, and passes the responses back. */

import { takeAnnouncement } from '../http/announcement.ts';
import { isAccepted } from '../http/h2/websocket.ts';
import { BODY, FRAMING, type Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import { describeProblem } from '../http/problems.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { BodyWriter, Carrier, EndpointSide, Exchange } from '../model/exchange.ts';
import type { Engine } from '../native/engine.ts';
import type { HttpConnections } from './http-connections.ts';
import { passBody, passRest } from './http1-body.ts';
import { Http1Responses, type ResponseOwner } from './http1-responses.ts';
import { sendAgain } from './retained.ts';
import type { HttpUpstream } from './upstream.ts';

/** What becomes of responses and connections. */
export interface Http1UpstreamsOwner {
  /** The head of the final response is there. */
  answered(exchange: Exchange, carrier: Carrier, status: number): void;
  /** The response is complete. */
  responded(exchange: Exchange): void;
  /** Client and endpoint have agreed on another protocol. */
  switched(exchange: Exchange): void;
  /** The response cannot be understood. */
  spoiled(exchange: Exchange, carrier: Carrier, problem: string): void;
  /** Exchange and endpoint belong together no more. */
  detach(exchange: Exchange, endpoint: Endpoint | undefined): void;
  /** What its connections return to. */
  readonly connections: HttpConnections;
}

/** Connections of one worker that have a request, or wait for one. */
export class Http1Upstreams implements EndpointSide, ResponseOwner {
  private readonly engine: Engine;
  private readonly owner: Http1UpstreamsOwner;
  private readonly responses: Http1Responses;

  constructor(engine: Engine, owner: Http1UpstreamsOwner) {
    this.engine = engine;
    this.owner = owner;
    this.responses = new Http1Responses(this);
  }

  // --- requests

  sendRequest(exchange: Exchange, carrier: Carrier): void {
    const upstream = carrier as HttpUpstream;
    const { writer } = upstream;
    upstream.exchange = exchange;
    upstream.handedBefore = writer.handed;
    writer.framed = exchange.requestFraming === FRAMING.chunked;
    writer.handed += exchange.client.sendHead(exchange, upstream.upstream, !exchange.requestBody.done);
    if (exchange.replays > 0) sendAgain(exchange, writer);
    upstream.sentFlush = this.engine.flushes;
  }

  goOn(_exchange: Exchange, carrier: Carrier): void {
    this.unpause(carrier as HttpUpstream);
  }

  halfClosed(exchange: Exchange, carrier: Carrier): void {
    if (exchange.responseBody.done) this.responseDone(exchange, carrier as HttpUpstream, false);
  }

  abandon(exchange: Exchange, carrier: Carrier): void {
    const upstream = carrier as HttpUpstream;
    this.detach(exchange, upstream);
    // One that is not there yet is good for the next request.
    if (!upstream.isWaiting) this.owner.connections.discard(upstream);
  }

  // --- responses

  /** Bytes of an endpoint. */
  received(upstream: HttpUpstream, offset: number, length: number): void {
    const { exchange } = upstream;
    if (upstream.closing) return;
    // Nobody has asked, or what was asked is still here: whatever it answers, it is not this (response queue poisoning).
    if (exchange === undefined || upstream.sentFlush === this.engine.flushes) return this.poisoned(upstream);
    this.responses.received(exchange, upstream, this.engine.slab, offset, offset + length);
  }

  /** An endpoint will send no more. */
  endpointEnded(upstream: HttpUpstream): void {
    const { exchange } = upstream;
    if (upstream.closing) return;
    upstream.ended = true;
    if (!exchange?.responseStarted || exchange.responseBody.kind !== BODY.untilClose)
      return this.poisoned(upstream);
    exchange.responseBody.done = true;
    exchange.writer.end(undefined);
    // Each half of a tunnel ends by itself (RFC 9113 section 8.5).
    if (exchange.isOpenTunnel && !exchange.requestBody.done) return;
    this.responseDone(exchange, upstream, false);
  }

  /** The socket of a tunnel has ended in order, after our half of it: of that one nothing else tells. */
  tunnelEnded(exchange: Exchange, endpoint: Endpoint): void {
    exchange.responseBody.done = true;
    exchange.writer.end(undefined);
    this.owner.detach(exchange, endpoint);
    this.owner.responded(exchange);
  }

  /** The rest of the response's body has gone to the client, but for the last `rest` bytes: those will not. */
  passed(upstream: HttpUpstream, rest: number): void {
    const { exchange } = upstream;
    if (exchange?.responseBody.passing !== true || (rest === 0 && upstream.closing)) return;
    exchange.responseBody.passed(rest);
    if (rest === 0) this.responseDone(exchange, upstream, false);
  }

  responseHead(exchange: Exchange, upstream: HttpUpstream, head: Head): void {
    const { status } = head;
    if (status < 200) return this.interim(exchange, upstream, head);
    const { endpoint } = upstream;
    if (endpoint?.tls !== undefined && upstream.served === 0 && takeAnnouncement(head))
      endpoint.figures.takesHttp2 = true;
    // To a client of HTTP/2 this would be consent.
    if (exchange.isWebSocket && status < 300 && isStream(exchange))
      return this.owner.spoiled(exchange, upstream, `it answered ${status} to a WebSocket handshake`);
    this.owner.answered(exchange, upstream, status);
    if (exchange.method === METHOD.connect && status < 300) upstream.switching = true;
    // It is not certain that a server that refuses a tunnel reads requests again.
    upstream.reusable = !head.close && !upstream.ended && !exchange.isTunnel;
    upstream.saidMs = head.keepAliveTimeoutMs;
    exchange.responseBody.start(head.body, head.contentLength);
    exchange.client.respond(exchange, head);
    exchange.responseStarted = true;
  }

  responseBytes(
    exchange: Exchange,
    upstream: HttpUpstream,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): number {
    const { responseBody, writer } = exchange;
    const end = passBody(responseBody, bytes, from, to, writer);
    if (upstream.exchange === undefined) return end;
    if (!responseBody.done) this.slowDown(upstream, writer);
    passRest(this.engine, responseBody, upstream.upstream, writer);
    return end;
  }

  responseDone(exchange: Exchange, upstream: HttpUpstream, more: boolean): void {
    if (upstream.linked) {
      upstream.linked = false;
      this.engine.link(upstream.upstream, 0);
    }
    this.unpause(upstream);
    const requestDone = exchange.requestBody.done;
    const isTunnel = exchange.isOpenTunnel;
    this.detach(exchange, upstream);
    // `more`: something came behind it that nobody asked for. And an endpoint that did not want all of a request may get lost in it.
    const isUseless = more || !requestDone || !upstream.reusable || upstream.ended;
    if (isTunnel) this.owner.connections.finish(upstream);
    else if (isUseless) this.owner.connections.discard(upstream);
    else this.owner.connections.give(upstream, upstream.saidMs);
    this.owner.responded(exchange);
  }

  responseProblem(exchange: Exchange, upstream: HttpUpstream, problem: number, seenBytes: number): void {
    this.owner.spoiled(exchange, upstream, describeProblem(problem, seenBytes).text);
  }

  switched(exchange: Exchange, upstream: HttpUpstream, bytes: Uint8Array, from: number, to: number): void {
    if (isStream(exchange)) return this.openTunnel(exchange, upstream, bytes, from, to);
    const socket = upstream.upstream;
    upstream.closing = true;
    this.detach(exchange, upstream);
    this.engine.deadline(socket, 0);
    if (to > from) this.engine.unread(socket, bytes.slice(from, to));
    this.owner.switched(exchange);
    exchange.client.switched(exchange, socket);
  }

  /** The client has no socket to join: what both sides say is the content of its stream. */
  private openTunnel(
    exchange: Exchange,
    upstream: HttpUpstream,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): void {
    exchange.responseBody.start(BODY.untilClose, 0);
    exchange.responseStarted = true;
    upstream.writer.endsSide = true;
    this.owner.switched(exchange);
    // With its head: nothing that is held ends it.
    const { done } = exchange.requestBody;
    exchange.client.goOn(exchange);
    if (done) upstream.writer.end(undefined);
    if (to > from) this.responseBytes(exchange, upstream, bytes, from, to);
  }

  /** An endpoint that sends faster than the client reads waits. */
  private slowDown(upstream: HttpUpstream, writer: BodyWriter): void {
    if (writer.socket === 0) {
      if (!writer.full || upstream.paused) return;
      upstream.paused = true;
      this.engine.pause(upstream.upstream);
    } else if (!upstream.linked) {
      upstream.linked = true;
      this.engine.link(upstream.upstream, writer.socket);
    }
  }

  private unpause(upstream: HttpUpstream): void {
    if (!upstream.paused) return;
    upstream.paused = false;
    this.engine.resume(upstream.upstream);
  }

  private detach(exchange: Exchange, upstream: HttpUpstream): void {
    this.owner.detach(exchange, upstream.endpoint);
    upstream.exchange = undefined;
  }

  /** It sent what cannot be a response to a request of ours, or ended: what we asked is asked elsewhere. */
  private poisoned(upstream: HttpUpstream): void {
    upstream.pool.remove(upstream);
    if (upstream.exchange === undefined) return this.owner.connections.discard(upstream);
    // Its end is told by the engine, with how much of the request it has seen.
    upstream.closing = true;
    this.engine.reset(upstream.upstream);
  }

  private interim(exchange: Exchange, upstream: HttpUpstream, head: Head): void {
    if (head.status !== 101) return exchange.client.respond(exchange, head);
    if (!exchange.isTunnel || exchange.method === METHOD.connect)
      return this.owner.spoiled(exchange, upstream, 'it switched protocols, which nobody had asked for');
    // The key was ours.
    if (isStream(exchange) && !isAccepted(head, exchange.webSocketKey))
      return this.owner.spoiled(exchange, upstream, 'its Sec-WebSocket-Accept does not belong to our key');
    this.owner.answered(exchange, upstream, head.status);
    upstream.switching = true;
    exchange.client.respond(exchange, head);
  }
}

/** It came on a stream, which shares its socket with others. */
function isStream({ writer }: Exchange): boolean {
  return writer.socket === 0;
}
