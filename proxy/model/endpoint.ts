/** A destination as a worker keeps it: what discovery said, and what its own connections have shown. */
import { parseIp, type SocketAddress } from '../core/address.ts';
import type { TransportSeries } from '../metrics/transport.ts';
import type { EndpointSnapshot } from './target.ts';

/**
 * Connect time assumed of an endpoint nobody has reached yet, in ms: what Linkerd assumes of a round trip. It only matters
 * until the first connection; among known endpoints a newcomer starts with their mean.
 */
export const DEFAULT_CONNECT_MS = 30;

/** Time constant of the connect-time average in ms: Linkerd's decay of 10 s. */
const DECAY_MS = 10_000;

/** What it takes to reach an endpoint that has an identity. */
export interface EndpointTls {
  /** What it must prove to be, in SPIFFE or DNS form. */
  readonly identity: string;
  /** Server name and protocols of our hello; see `tlsParameters`. */
  readonly parameters: Uint8Array;
  /** Sent ahead of everything else; empty when the endpoint is dialled at its own port. */
  readonly header: Uint8Array;
}

/** One endpoint. Lives as long as discovery lists it or a connection uses it. */
export class Endpoint {
  /** Where it is dialled: at the port of its proxy if that wants a transport header. */
  readonly address: SocketAddress;
  readonly snapshot: EndpointSnapshot;
  /** Undefined for an endpoint without an identity, the only kind that is dialled in plaintext. */
  readonly tls: EndpointTls | undefined;
  /** Metrics of the connections to it. */
  readonly series: TransportSeries;
  /** Share relative to the others, above 0. */
  readonly weight: number;
  /** Connections open or being opened; changed by `hold` and `letGo` only. */
  inFlight = 0;
  /** Peak-sensitive moving average of the connect time in ms. */
  private averageMs: number;
  private updatedMs: number;

  /** @param initialMs connect time assumed until the first one is measured */
  constructor(
    snapshot: EndpointSnapshot,
    series: TransportSeries,
    initialMs: number,
    nowMs: number,
    tls?: EndpointTls,
  ) {
    const address = parseIp(snapshot.ip, snapshot.proxyPort ?? snapshot.port);
    if (address === undefined)
      throw new Error(`discovery gave an endpoint without an IP literal: ${snapshot.ip}`);
    this.address = address;
    this.snapshot = snapshot;
    this.tls = tls;
    this.series = series;
    this.weight = snapshot.weight;
    this.averageMs = initialMs;
    this.updatedMs = nowMs;
  }

  /** A connection is being opened. It keeps the metrics too, should discovery drop the endpoint meanwhile. */
  hold(): void {
    this.inFlight++;
    this.series.retain();
  }

  /** That connection failed or ended. */
  letGo(): void {
    this.inFlight--;
    this.series.release();
  }

  /**
   * Records how long a connect took, or how long one was waited for in vain. Peak EWMA (as in Finagle and Linkerd): a slower
   * one counts at once, faster ones pull the average down over DECAY_MS.
   */
  observe(connectMs: number, nowMs: number): void {
    if (connectMs > this.averageMs) {
      this.averageMs = connectMs;
    } else {
      const keep = Math.exp(-Math.max(nowMs - this.updatedMs, 0) / DECAY_MS);
      this.averageMs = this.averageMs * keep + connectMs * (1 - keep);
    }
    this.updatedMs = nowMs;
  }

  /** The average in ms as of now: a penalty fades also while nobody dares to connect. */
  connectMs(nowMs: number): number {
    return this.averageMs * Math.exp(-Math.max(nowMs - this.updatedMs, 0) / DECAY_MS);
  }
}

/** Gives the endpoints of a target one after the other. */
export interface EndpointPicker {
  /** The best endpoint that is not in `tried`; undefined when all were tried. */
  pick(tried: readonly Endpoint[], nowMs: number): Endpoint | undefined;
}
