/** What main and workers say to each other over their MessagePort. Plain data only. */

import type { LogFormat, LogLevel } from '../core/log.ts';
import type { SeriesDefinition, Slot } from '../metrics/slab.ts';
import type { AccessLogSetting } from './access.ts';
import type { Explanation } from './explanation.ts';
import type { Policy } from './policy.ts';
import type { TargetKey, TargetSnapshot } from './target.ts';

/** Place of an explicit listener in `inbound.ports`. */
export type PortPlace = number;

/** How a listener is to be served. Addresses are text: `ip:port`. */
export type ListenerRole =
  | { readonly kind: 'outbound' }
  | { readonly kind: 'outbound-service'; readonly service: TargetKey }
  | { readonly kind: 'inbound' }
  | { readonly kind: 'inbound-port'; readonly place: PortPlace };

/** The two sides of a proxy, which stop accepting one after the other. */
export type Side = 'inbound' | 'outbound';

/** Which side a listener belongs to. */
export function sideOf(role: ListenerRole): Side {
  return role.kind === 'inbound' || role.kind === 'inbound-port' ? 'inbound' : 'outbound';
}

/** A listening descriptor of main's, for a worker to accept from. */
export interface ListenerGrant {
  readonly descriptor: number;
  readonly role: ListenerRole;
}

/** Who may connect. */
export interface PolicyMessage {
  readonly defaultPolicy: Policy;
  /** Of explicit listeners, by their place; the first of a port holds for whatever else leads to that port. */
  readonly ports: readonly { readonly port: number; readonly policy: Policy }[];
  /** CIDR text. */
  readonly clusterNetworks: readonly string[];
}

/** Our own certificate and whom we trust, checked: PEM texts and what they say. */
export interface OwnIdentity {
  /** Grows with every reload. */
  readonly version: number;
  /** The certificate with its intermediates. */
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly trustAnchorsPem: string;
  /** The certificate's SPIFFE ID, or its DNS name when it has none. */
  readonly identity: string;
  /** The SNI that means us. */
  readonly serverName: string;
  /** Validity of the certificate, in ms since 1970. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** When the last of the trust anchors ends. */
  readonly trustAnchorNotAfterMs: number;
}

/** What a worker is told once, at its start. */
export interface WorkerSettings {
  /** 0 and up; a replacement has a number of its own. */
  readonly worker: number;
  readonly metrics: SharedArrayBuffer;
  readonly listeners: readonly ListenerGrant[];
  /** Every address this proxy listens on, the admin port included: never dialled. */
  readonly ownAddresses: readonly string[];
  /** False for a proxy that has no identity: then all TLS is the application's. */
  readonly identityEnabled: boolean;
  /** The newest one; undefined while there is none. */
  readonly identity: OwnIdentity | undefined;
  readonly outbound: {
    readonly originalDst: 'auto' | 'required' | 'off';
    readonly opaquePorts: readonly number[];
    readonly requireIdentity: boolean;
    readonly multiplex: boolean;
    readonly unknown: 'forward' | 'refuse';
    readonly discoveryTimeoutMs: number;
    /** Topology zone of this proxy; undefined when it is in none. */
    readonly zone: string | undefined;
  };
  readonly inbound: {
    readonly originalDst: 'auto' | 'required' | 'off';
    readonly opaquePorts: readonly number[];
    readonly policies: PolicyMessage;
  };
  readonly log: {
    readonly level: LogLevel;
    readonly format: LogFormat;
    readonly access: AccessLogSetting;
  };
}

/** Main to worker. */
export type ToWorker =
  /** The newest snapshot of a target the worker looked up; to be acknowledged. */
  | {
      readonly type: 'target';
      readonly key: TargetKey;
      readonly version: number;
      readonly snapshot: TargetSnapshot;
    }
  /** Main has dropped its definition of a slot: it may be used again. */
  | { readonly type: 'forgotten'; readonly slot: Slot }
  | { readonly type: 'log-level'; readonly level: LogLevel }
  /** Requests that begin from now on are logged so. */
  | { readonly type: 'access-log'; readonly access: AccessLogSetting }
  /** The batch of lines that was sent last is written, or is lost. */
  | { readonly type: 'access-written'; readonly whole: boolean }
  /** The proxy ends: send the last lines. */
  | { readonly type: 'access-end' }
  /** Handshakes from now on use it. */
  | { readonly type: 'identity'; readonly identity: OwnIdentity }
  /** Open connections are judged again. */
  | { readonly type: 'policies'; readonly policies: PolicyMessage }
  /** Stop accepting on the listeners of one side; open connections go on. */
  | { readonly type: 'unlisten'; readonly side: Side }
  /** Clients of these sides are told to let go of their HTTP connections. */
  | { readonly type: 'draining'; readonly sides: readonly Side[] }
  /** Tell what was decided: for one request, by the second number of its id, or for the latest ones. */
  | { readonly type: 'explain'; readonly call: number; readonly sequence: number | undefined };

/** Worker to main. */
export type FromWorker =
  | { readonly type: 'ready' }
  /** It has stopped accepting on one side: main may close those listeners. */
  | { readonly type: 'unlistened'; readonly side: Side }
  /** A connection wants this target: watch it until released. */
  | { readonly type: 'look-up'; readonly key: TargetKey }
  | { readonly type: 'release'; readonly key: TargetKey }
  | { readonly type: 'applied'; readonly key: TargetKey; readonly version: number }
  /** Our newest identity is in use. */
  | { readonly type: 'identity-taken' }
  /** Our identity of that version cannot be used; the one before it goes on until then (ms since 1970), 0 when there is none. */
  | {
      readonly type: 'identity-refused';
      readonly version: number;
      readonly problem: string;
      readonly untilMs: number;
    }
  /** The answer to `explain`, newest first; empty when nothing is known of it any more. */
  | { readonly type: 'explained'; readonly call: number; readonly explanations: readonly Explanation[] }
  | { readonly type: 'define'; readonly definition: SeriesDefinition }
  | { readonly type: 'undefine'; readonly slot: Slot }
  /** Lines of the access log; `last`: the answer to `access-end`, possibly empty. The others come one at a time. */
  | { readonly type: 'access'; readonly lines: string; readonly last: boolean }
  | { readonly type: 'log'; readonly line: string };
