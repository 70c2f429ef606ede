/**
 * What a worker needs to know about a destination: flat, frozen snapshots that main publishes and workers swap whole.
 * Plain data only: they cross a MessagePort.
 */

/** One endpoint of a service, or a single known destination. */
export interface EndpointSnapshot {
  /** IP literal. */
  readonly ip: string;
  /** 1 to 65535. */
  readonly port: number;
  /** Relative share, above 0; 1 is normal. */
  readonly weight: number;
  /** Topology zones whose clients should prefer it: where it runs, unless discovery wants it otherwise. */
  readonly zones?: readonly string[];
  /** `dst_*` labels of this endpoint's metrics (`dst_pod`, `dst_zone`, …). */
  readonly labels: Labels;
  /**
   * The identity this endpoint must prove, in SPIFFE or DNS form; absent for an unmeshed endpoint. An endpoint with an
   * identity is never dialled in plaintext.
   */
  readonly identity?: string;
  /** SNI of the endpoint's proxy; goes with `identity`. */
  readonly serverName?: string;
  /** Port of the endpoint's own sidecar when it wants the transport header, 1 to 65535. */
  readonly proxyPort?: number;
  /** What its application speaks, where that is declared; requests that come in the other protocol are translated. */
  readonly protocol?: ApplicationProtocol;
}

/** HTTP as applications speak it in cleartext; HTTP/2 with prior knowledge (RFC 9113 section 3.3). */
export type ApplicationProtocol = 'http1' | 'http2';

/** Label names and values of a metric. */
export type Labels = Readonly<Record<string, string>>;

/**
 * `ewma`: least time and load of two drawn by weight; `least-request`: fewest in flight of two drawn by weight; `round-robin`:
 * turns by weight.
 */
export type BalancePolicy = 'ewma' | 'least-request' | 'round-robin';

/** What discovery says of one target. */
export type TargetSnapshot =
  /** A service: connections are balanced over its endpoints (possibly none). */
  | {
      readonly kind: 'service';
      /** `name.namespace:port`, as printed in logs and metrics. */
      readonly name: string;
      /** Labels common to every endpoint: `dst_service`, `dst_namespace`, … */
      readonly labels: Labels;
      readonly endpoints: readonly EndpointSnapshot[];
      /** How they are chosen; `ewma` when absent. */
      readonly balance?: BalancePolicy;
    }
  /** The address of one known endpoint, dialled as it is. */
  | { readonly kind: 'endpoint'; readonly endpoint: EndpointSnapshot }
  /** Two services claim the same address: refused, naming both. */
  | { readonly kind: 'conflict'; readonly services: readonly [string, string] }
  /** Every source answered: nobody knows this address. */
  | { readonly kind: 'unknown' };

/**
 * What a connection is going to, as text: `ip:port` / `[v6]:port` of an original destination, or
 * `name.namespace:port` of a listener's service. Also the key of look-ups and snapshots.
 */
export type TargetKey = string;
