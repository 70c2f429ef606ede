/**
 * The destinations a worker knows: looked up once through main, kept while in use, forgotten when idle. A connection to a
 * target whose first answer is not there yet is held here.
 */
import type { AddressKey, SocketAddress } from '../core/address.ts';
import { IdleCache } from '../core/idle-cache.ts';
import type { TransportSeries } from '../metrics/transport.ts';
import type { ProxyConnection } from '../model/connection.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointPicker } from '../model/pick.ts';
import type { TargetKey, TargetSnapshot } from '../model/target.ts';

/**
 * Targets per worker. Far above what an application talks to; a scanner that dials the whole Internet through the proxy
 * recycles the idle ones.
 */
const MAX_TARGETS = 10_000;

/** Connections held per target until discovery answers; more within one discovery timeout is a fault elsewhere. */
const MAX_WAITING = 1_000;

/** An unused target is forgotten after this time, in ms: Linkerd's 5 s make it ask again at every quiet moment. */
const IDLE_MS = 60_000;

/** One destination and what is known of it. */
export interface Target {
  readonly key: TargetKey;
  /** Undefined for the service of an explicit listener. */
  readonly destination: SocketAddress | undefined;
  /** Metrics of the connections accepted for it. */
  readonly series: TransportSeries;
  /** Undefined until discovery has answered. */
  snapshot: TargetSnapshot | undefined;
  /** Chooses among the endpoints, and stays when they change; undefined until discovery has answered. */
  picker: EndpointPicker | undefined;
  /** What the picker chooses from. */
  endpoints: readonly Endpoint[];
  /** What came last, and said something, was no HTTP. Only shortens the wait of what comes next. */
  opaque: boolean;
  /** Connections held for the first snapshot. */
  readonly waiting: Set<ProxyConnection>;
  /** Connections that have it as their target. */
  users: number;
  usedMs: number;
}

/** What the targets need from their owner. */
export interface TargetsOwner {
  /** Asks main to follow a target, or to stop. */
  lookUp(key: TargetKey): void;
  release(key: TargetKey): void;
  openSeries(key: TargetKey, destination: SocketAddress | undefined): TransportSeries;
  /** The target is forgotten; what it held can be released. */
  retire(target: Target): void;
}

/** All targets of a worker, by original destination or by service. */
export class Targets {
  private readonly owner: TargetsOwner;
  private readonly cache: IdleCache<AddressKey, Target>;
  private readonly byKey = new Map<TargetKey, Target>();

  constructor(owner: TargetsOwner) {
    this.owner = owner;
    this.cache = new IdleCache(MAX_TARGETS, IDLE_MS, (target) => {
      this.byKey.delete(target.key);
      owner.release(target.key);
      owner.retire(target);
    });
  }

  /** The target of an original destination; undefined when the cache is full of targets in use. */
  ofAddress(destination: SocketAddress, nowMs: number): Target | undefined {
    return this.cache.obtain(destination.key, nowMs, () => this.open(destination.toString(), destination));
  }

  /** The target of a listener's service; undefined when the cache is full of targets in use. */
  ofService(service: TargetKey, nowMs: number): Target | undefined {
    return this.cache.obtain(service, nowMs, () => this.open(service, undefined));
  }

  /** The target of a key; undefined when it was forgotten. */
  get(key: TargetKey): Target | undefined {
    return this.byKey.get(key);
  }

  /** Holds a connection until the target's first snapshot; false when too many wait already. */
  hold(target: Target, connection: ProxyConnection): boolean {
    if (target.waiting.size >= MAX_WAITING) return false;
    target.waiting.add(connection);
    return true;
  }

  /** Forgets targets that have been idle; call it every few seconds. */
  evict(nowMs: number): void {
    this.cache.evict(nowMs);
  }

  private open(key: TargetKey, destination: SocketAddress | undefined): Target {
    const target: Target = {
      key,
      destination,
      series: this.owner.openSeries(key, destination),
      snapshot: undefined,
      picker: undefined,
      endpoints: [],
      opaque: false,
      waiting: new Set(),
      users: 0,
      usedMs: 0,
    };
    this.byKey.set(key, target);
    this.owner.lookUp(key);
    return target;
  }
}
