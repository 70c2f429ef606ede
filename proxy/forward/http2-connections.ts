/** Connections to endpoints for HTTP/2: dialled when no other has room for a request, and given up when they are of no use. */
import { errnoName } from '../core/errno.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Exchange } from '../model/exchange.ts';
import type { Engine } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';
import type { DialFailure, Dialler } from './dial.ts';
import { Http2Upstream, type Http2UpstreamOwner } from './http2-upstream.ts';
import type { HttpPool } from './upstream.ts';

/** Who uses the connections. */
export interface Http2ConnectionsOwner extends Http2UpstreamOwner {
  /** Remembers whose socket this is. */
  adoptUpstream(upstream: Http2Upstream): void;
  /** The endpoint has said that it takes HTTP/2 and does not any more: nothing was sent of a request that waited. */
  tookBackHttp2(exchange: Exchange, endpoint: Endpoint, detail: string): void;
  /** A connection that a request waits for could not be opened. */
  dialFailed(exchange: Exchange, endpoint: Endpoint, failure: DialFailure): void;
}

/** The connections of one worker. */
export class Http2Connections {
  private readonly engine: Engine;
  private readonly dialler: Dialler;
  private readonly owner: Http2ConnectionsOwner;

  constructor(engine: Engine, dialler: Dialler, owner: Http2ConnectionsOwner) {
    this.engine = engine;
    this.dialler = dialler;
    this.owner = owner;
  }

  /**
   * One with room for another request, though it may still be on its way; undefined when none has any. What comes in one batch goes to the
   * same one, as far as it has room and is read from: that is one send, and later one read. The first of a batch goes to the one with the most.
   */
  withRoom({ shared, metrics }: HttpPool, nowMs: number): Http2Upstream | undefined {
    let best: Http2Upstream | undefined;
    let most = 0;
    for (const upstream of shared) {
      const { room, chosenMs, session } = upstream;
      const isOfBatch = chosenMs === nowMs && room > 0 && !session.isBlocked;
      if (room <= most && !isOfBatch) continue;
      best = upstream;
      most = room;
      if (isOfBatch) break;
    }
    if (best === undefined) return undefined;
    best.chosenMs = nowMs;
    metrics.shared();
    return best;
  }

  /** One whose endpoint takes no streams just now, and would say so on another one, too. */
  withoutStreams({ shared }: HttpPool): Http2Upstream | undefined {
    return shared.find(({ session }) => session.takesNone);
  }

  /** A new one; or why there cannot be one. */
  open(pool: HttpPool, endpoint: Endpoint, outbound: boolean): Http2Upstream | DialFailure {
    const keepMesh = endpoint.tls !== undefined;
    const upstream = new Http2Upstream(this.engine, pool.metrics, pool.shared, this.owner, keepMesh);
    const failure = this.dialler.open(upstream, endpoint, outbound);
    if (failure !== undefined) return failure;
    pool.shared.push(upstream);
    pool.metrics.opened();
    this.owner.adoptUpstream(upstream);
    return upstream;
  }

  connected(upstream: Http2Upstream, micros: number): void {
    if (this.dialler.connected(upstream, micros)) this.ready(upstream);
  }

  secured(upstream: Http2Upstream, report: TlsReport): void {
    if (this.dialler.secured(upstream, report)) this.ready(upstream);
  }

  timedOut(upstream: Http2Upstream): void {
    if (upstream.upstreamStage === 'ready') upstream.timedOut();
    else this.dialler.timedOut(upstream);
  }

  /** The socket ended, or never was. `written`: bytes that the kernel took. */
  closed(upstream: Http2Upstream, errno: number, written: number): void {
    const { endpoint, queue } = upstream;
    const tookHttp2 = endpoint?.figures.takesHttp2 === true;
    upstream.metrics.closed(false);
    upstream.withdraw();
    upstream.lost(errno === 0 ? 'closed' : errnoName(errno), written);
    const waiting = queue.splice(0);
    const failure = this.dialler.ended(upstream, errno, waiting.length > 0);
    if (endpoint === undefined || failure === undefined) return;
    const detail = `${failure.detail}${upstream.misunderstood}`;
    const isTakenBack = tookHttp2 && !endpoint.figures.takesHttp2;
    for (const { exchange } of waiting) {
      if (exchange === undefined) continue;
      if (isTakenBack) this.owner.tookBackHttp2(exchange, endpoint, detail);
      else this.owner.dialFailed(exchange, endpoint, { ...failure, detail });
    }
  }

  private ready(upstream: Http2Upstream): void {
    const { endpoint, upstream: socket } = upstream;
    if (endpoint === undefined) return;
    this.engine.count(socket, endpoint.series.readSlot, endpoint.series.writeSlot);
    this.engine.resume(socket, true);
    upstream.ready();
  }
}
