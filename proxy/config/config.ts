/** The configuration as the rest of the proxy sees it: typed, complete, immutable. */
import { Cidr, SocketAddress } from '../core/address.ts';
import type { LogFormat, LogLevel } from '../core/log.ts';
import type { AccessLogSetting } from '../model/access.ts';
import type { Policy } from '../model/policy.ts';
import type { TargetKey } from '../model/target.ts';

/**
 * Where the destination of an accepted connection comes from: `auto` asks the kernel and takes the local
 * address where there was no redirect, `required` refuses connections that were not redirected, `off` always
 * takes the local address.
 */
export type OriginalDstMode = 'auto' | 'required' | 'off';

/** Everything the configuration decides. */
export interface Config {
  /** Absolute path of the file it came from; undefined when there was none. */
  readonly file: string | undefined;
  readonly workload: {
    readonly namespace: string;
    readonly serviceAccount: string;
    /** The host name unless configured. */
    readonly pod: string;
    readonly zone: string | undefined;
  };
  readonly trustDomain: string;
  readonly identity:
    | { readonly source: 'none' }
    /** Absolute paths of PEM files. */
    | {
        readonly source: 'files';
        readonly certificate: string;
        readonly key: string;
        readonly trustAnchors: string;
      };
  /** Asked in this order; paths are absolute. */
  readonly discovery: readonly { readonly source: 'file'; readonly path: string }[];
  readonly outbound: {
    /** Transparent listeners; ports are 1 to 65535. */
    readonly listen: readonly SocketAddress[];
    readonly originalDst: OriginalDstMode;
    /** Destination ports whose endpoint is dialled without waiting for the client, and without looking for HTTP. */
    readonly opaquePorts: readonly number[];
    /** Refuse endpoints that have no identity. */
    readonly requireIdentity: boolean;
    /** HTTP/1 requests go to sidecars that take it as streams of HTTP/2. */
    readonly multiplex: boolean;
    /** What happens to destinations every source says it does not know. */
    readonly unknown: 'forward' | 'refuse';
    /** Milliseconds a connection waits for discovery, 10 to 600,000. */
    readonly discoveryTimeoutMs: number;
    /** Explicit listeners; port 0 takes any free port. */
    readonly listeners: readonly { readonly listen: SocketAddress; readonly service: TargetKey }[];
  };
  readonly inbound: {
    /** Transparent listeners; ports are 1 to 65535. */
    readonly listen: readonly SocketAddress[];
    readonly originalDst: OriginalDstMode;
    readonly defaultPolicy: Policy;
    /** Ports whose application is dialled without waiting for the client, and without looking for HTTP. */
    readonly opaquePorts: readonly number[];
    /** What the `cluster-…` policies mean by the cluster. */
    readonly clusterNetworks: readonly Cidr[];
    /** Explicit listeners for the application's `port` on loopback; port 0 in `listen` is any free port. */
    readonly ports: readonly {
      readonly listen: SocketAddress;
      readonly port: number;
      /** The default policy unless configured. */
      readonly policy: Policy;
    }[];
  };
  readonly admin: {
    /** Port 0 takes any free port. */
    readonly listen: readonly SocketAddress[];
    /** Absolute; undefined lets the admin server choose. */
    readonly tokenFile: string | undefined;
  };
  /** Worker threads, 1 to 64. */
  readonly workers: number;
  readonly shutdown: {
    /** Milliseconds open connections may last after SIGTERM, 0 to a day. */
    readonly graceMs: number;
    /** Milliseconds new connections are still taken after SIGTERM, at most `graceMs`. */
    readonly drainDelayMs: number;
  };
  readonly log: {
    readonly level: LogLevel;
    readonly format: LogFormat;
    readonly access: AccessLogSetting;
  };
}

/** JSON, as `/config` shows it. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/**
 * `config` as plain JSON with addresses as text. It shows everything: a configuration holds the paths of
 * secrets, never secrets.
 */
export function describeConfig(config: Config): Json {
  return describe(config);
}

function describe(value: unknown): Json {
  if (value instanceof SocketAddress || value instanceof Cidr) return value.toString();
  if (Array.isArray(value)) return value.map(describe);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, describe(inner)]));
  }
  return value === undefined ? null : (value as Json);
}
