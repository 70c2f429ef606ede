/**
 * Opens a socket to an endpoint and secures it where the endpoint has an identity: what every forwarder needs before it can
 * send anything. An endpoint with an identity is never sent a byte in plaintext, its transport header included.
 */
import { ERRNO, errnoName } from '../core/errno.ts';
import type { RefusalReason } from '../metrics/refusals.ts';
import type { Dialling } from '../model/dialling.ts';
import type { Endpoint, EndpointTls } from '../model/endpoint.ts';
import type { ConnectionId, Engine } from '../native/engine.ts';
import type { TlsReport } from '../native/tls-report.ts';

/**
 * One try, TLS included, in ms: Linkerd's; a SYN that was lost is sent again after 1 s, so a fresh try loses nothing.
 */
const TRY_MS = 1_000;

/** Mutual TLS towards endpoints. */
export interface UpstreamTls {
  /** Why no handshake can start, our own certificate missing or expired; undefined when one can. */
  lack(): string | undefined;
  start(upstream: ConnectionId, tls: EndpointTls): void;
  /** What is wrong with the peer of a finished handshake; undefined when it is who it should be. */
  judge(report: TlsReport, tls: EndpointTls): string | undefined;
  /** Why a handshake failed; the report is undefined when its time was up. */
  explain(report: TlsReport | undefined): string;
}

/** Why an endpoint could not be reached. */
export interface DialFailure {
  /** 0 where it was not tried. */
  readonly errno: number;
  readonly detail: string;
  readonly reason: RefusalReason;
}

/** Dials for one worker. */
export class Dialler {
  private readonly engine: Engine;
  private readonly track: boolean;
  private readonly tls: UpstreamTls;

  /** @param track make outbound sockets recognisable should the redirect send them back to us */
  constructor(engine: Engine, track: boolean, tls: UpstreamTls) {
    this.engine = engine;
    this.track = track;
    this.tls = tls;
  }

  /** Starts. @returns undefined when the socket is on its way, and belongs to `dialling` */
  open(dialling: Dialling, endpoint: Endpoint, outbound: boolean): DialFailure | undefined {
    const lack = endpoint.tls === undefined ? undefined : this.tls.lack();
    if (lack !== undefined) {
      // Nothing is wrong with the endpoint; without TLS it is not an endpoint for us.
      return { errno: 0, detail: `${endpoint.address}: ${lack}`, reason: 'mtls_unavailable' };
    }
    const upstream = this.engine.connect(endpoint.address, this.track && outbound);
    if (upstream <= 0) {
      const errno = -upstream;
      this.recordFailure(endpoint, errno);
      return { errno, detail: `${endpoint.address}: ${errnoName(errno)}`, reason: 'connect' };
    }
    endpoint.hold();
    dialling.endpoint = endpoint;
    dialling.upstream = upstream;
    dialling.upstreamStage = 'connecting';
    this.engine.deadline(upstream, TRY_MS);
    return undefined;
  }

  /** The endpoint accepted. @returns whether the socket can carry bytes now */
  connected(dialling: Dialling, micros: number): boolean {
    const { endpoint, upstream } = dialling;
    if (endpoint === undefined) return false;
    if (endpoint.tls === undefined) return this.ready(dialling, endpoint, micros);
    dialling.upstreamStage = 'securing';
    this.tls.start(upstream, endpoint.tls);
    this.engine.deadline(upstream, Math.max(1, TRY_MS - micros / 1000));
    return false;
  }

  /** Its handshake succeeded. @returns whether it is who it should be, and the socket can carry bytes */
  secured(dialling: Dialling, report: TlsReport): boolean {
    const { endpoint, upstream, upstreamFault } = dialling;
    // Its time was up in the same batch, and its reset is on its way.
    if (endpoint?.tls === undefined || upstreamFault !== undefined) return false;
    const problem = this.tls.judge(report, endpoint.tls);
    if (problem !== undefined) {
      dialling.upstreamFault = { detail: problem, errno: ERRNO.eproto };
      this.engine.reset(upstream);
      return false;
    }
    this.engine.deadline(upstream, 0);
    if (endpoint.tls.header.length > 0) this.engine.send(upstream, endpoint.tls.header);
    return this.ready(dialling, endpoint, report.micros);
  }

  /** Its handshake failed; the socket ends next. */
  tlsFailed(dialling: Dialling, report: TlsReport): void {
    dialling.upstreamFault = { detail: this.tls.explain(report), errno: ERRNO.eproto };
  }

  /** Its handshake took too long. */
  timedOut(dialling: Dialling): void {
    if (dialling.upstreamStage !== 'securing') return;
    dialling.upstreamFault = { detail: this.tls.explain(undefined), errno: ERRNO.etimedout };
    this.engine.reset(dialling.upstream);
  }

  /**
   * The socket ended, or never was. `errno` is 0 for an orderly end.
   * @param blame count it against the endpoint when it never got to carry bytes
   */
  ended(dialling: Dialling, errno: number, blame: boolean): DialFailure | undefined {
    const { endpoint, upstreamFault } = dialling;
    dialling.endpoint = undefined;
    dialling.upstream = 0;
    dialling.upstreamStage = 'none';
    dialling.upstreamFault = undefined;
    if (endpoint === undefined) return undefined;
    const why = upstreamFault?.errno ?? errno;
    if (dialling.established) {
      dialling.established = false;
      endpoint.series.closed(errno);
    } else if (blame) {
      this.recordFailure(endpoint, why);
    }
    endpoint.letGo();
    return {
      errno: why,
      detail: `${endpoint.address}: ${upstreamFault?.detail ?? (errno === 0 ? 'closed' : errnoName(errno))}`,
      reason: upstreamFault === undefined ? 'connect' : 'upstream_tls',
    };
  }

  private ready(dialling: Dialling, endpoint: Endpoint, micros: number): boolean {
    endpoint.connected(micros / 1000, this.engine.nowMs());
    endpoint.series.opened();
    dialling.established = true;
    dialling.upstreamStage = 'ready';
    return true;
  }

  private recordFailure(endpoint: Endpoint, errno: number): void {
    // As if the connect had taken the whole time of a try: others are preferred until that fades.
    endpoint.connectFailed(TRY_MS, this.engine.nowMs());
    endpoint.series.connectFailed(errno);
  }
}
