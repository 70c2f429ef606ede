/** A destination as a worker keeps it: what discovery said, and what its own connections and requests have shown. */
import { parseIp, type SocketAddress } from '../core/address.ts';
import type { TransportSeries } from '../metrics/transport.ts';
import { PeakEwma } from './peak-ewma.ts';
import type { ApplicationProtocol, EndpointSnapshot } from './target.ts';

/**
 * How long an endpoint is passed over after a failure, in ms, while there is another: Linkerd's shortest back-off. A restart
 * takes longer, and then one try in a second is what it costs to notice the end of it.
 */
const AVOID_MS = 1_000;

/**
 * How long a newcomer gets less than its share, in ms: as long as averages remember (Linkerd's decay of 10 s), so that at the
 * end its own times speak for it; also what a JIT compiler or a cold cache needs at the least.
 */
export const SLOW_START_MS = 10_000;

/** Part of its share a newcomer begins with: Envoy's 10 %. Enough to warm up, too little to hurt when it fails. */
const SLOW_START_FROM = 0.1;

/** What it takes to reach an endpoint that has an identity. */
export interface EndpointTls {
  /** What it must prove to be, in SPIFFE or DNS form. */
  readonly identity: string;
  /** Server name and protocols of our hello; see `tlsParameters`. */
  readonly parameters: Uint8Array;
  /** Sent ahead of everything else; empty when the endpoint is dialled at its own port. */
  readonly header: Uint8Array;
}

/** What one kind of use, connections or requests, has shown of an endpoint. */
export class Load {
  /** Connections open or being opened; requests whose response has not ended. */
  inFlight = 0;
  /** Connect times, or times to the first byte of a response. */
  readonly time = new PeakEwma();
}

/** What was measured of an endpoint. Outlives the `Endpoint` when discovery gives it other labels. */
export class EndpointFigures {
  readonly connections = new Load();
  readonly requests = new Load();
  /** When a connect or a request failed last. */
  failedMs = Number.NEGATIVE_INFINITY;
  /** Its proxy has said that it takes HTTP/2 whatever its application speaks. */
  takesHttp2 = false;
  /** When it joined others that were there before; never for the first ones of a service. */
  readonly joinedMs: number;

  constructor(joinedMs = Number.NEGATIVE_INFINITY) {
    this.joinedMs = joinedMs;
  }

  /** It did not keep its word: another proxy may be there now. */
  forgetHttp2(): void {
    this.takesHttp2 = false;
  }
}

/** One endpoint. Lives as long as discovery lists it or a connection uses it. Times are of `performance.now()`, in ms. */
export class Endpoint {
  /** Where it is dialled: at the port of its proxy if that wants a transport header. */
  readonly address: SocketAddress;
  /** Undefined for an endpoint without an identity, the only kind that is dialled in plaintext. */
  readonly tls: EndpointTls | undefined;
  /** What its application speaks; undefined when nobody has said: then requests go out as they came. */
  readonly protocol: ApplicationProtocol | undefined;
  /** Metrics of the connections to it. */
  readonly series: TransportSeries;
  readonly figures: EndpointFigures;
  /** Newest of those that say the same of it, but for weight and zones; changed by `renew`. */
  snapshot: EndpointSnapshot;

  /** @param figures of its predecessor, if it had one */
  constructor(
    snapshot: EndpointSnapshot,
    series: TransportSeries,
    tls?: EndpointTls,
    figures = new EndpointFigures(),
  ) {
    const address = parseIp(snapshot.ip, snapshot.proxyPort ?? snapshot.port);
    if (address === undefined)
      throw new Error(`discovery gave an endpoint without an IP literal: ${snapshot.ip}`);
    this.address = address;
    this.snapshot = snapshot;
    this.tls = tls;
    this.protocol = snapshot.protocol;
    this.series = series;
    this.figures = figures;
  }

  /** Share relative to the others, above 0. */
  get weight(): number {
    return this.snapshot.weight;
  }

  /** Discovery has changed its weight or zones. */
  renew(snapshot: EndpointSnapshot): void {
    this.snapshot = snapshot;
  }

  /** A connection is being opened. It keeps the metrics too, should discovery drop the endpoint meanwhile. */
  hold(): void {
    this.figures.connections.inFlight++;
    this.series.retain();
  }

  /** That connection failed or ended. */
  letGo(): void {
    this.figures.connections.inFlight--;
    this.series.release();
  }

  /** Connecting took `ms`, TLS included. */
  connected(ms: number, nowMs: number): void {
    this.figures.connections.time.observe(ms, nowMs);
  }

  /** Connecting failed, which counts as having taken `ms` at the least: others are preferred until that fades. */
  connectFailed(ms: number, nowMs: number): void {
    this.figures.connections.time.penalize(ms, nowMs);
    this.figures.failedMs = nowMs;
  }

  /** A request is on its way; `endRequest` follows, whatever happens between. */
  beginRequest(): void {
    this.figures.requests.inFlight++;
  }

  /** The first byte of its final response came after `ms`. */
  answered(ms: number, nowMs: number): void {
    this.figures.requests.time.observe(ms, nowMs);
  }

  /**
   * It got no response, after `waitedMs`. A quick failure is not a short time; a long wait counts as the time it took at
   * least. Not for a kept connection that the server closed while it was idle: that says nothing of the endpoint.
   */
  requestFailed(waitedMs: number, nowMs: number): void {
    this.figures.requests.time.penalize(waitedMs, nowMs);
    this.figures.failedMs = nowMs;
  }

  /** The response has ended, or the request is given up. */
  endRequest(): void {
    this.figures.requests.inFlight--;
  }

  /** A connect or a request failed a moment ago. */
  isAvoided(nowMs: number): boolean {
    return nowMs - this.figures.failedMs < AVOID_MS;
  }

  /** Part of its share it may have: rises from 0.1 to 1 while it is new, else 1. */
  ramp(nowMs: number): number {
    const age = (nowMs - this.figures.joinedMs) / SLOW_START_MS;
    return age >= 1 ? 1 : SLOW_START_FROM + (1 - SLOW_START_FROM) * Math.max(age, 0);
  }
}
