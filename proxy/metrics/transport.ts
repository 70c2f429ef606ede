/** The tcp_* series of connections that share their labels: resolved once, then only added to. */
import type { SocketAddress } from '../core/address.ts';
import { errnoName } from '../core/errno.ts';
import type { Labels } from '../model/target.ts';
import type { MetricsSlab, Slot } from './slab.ts';

/** Series of one side of a target: `src` for who connected to us, `dst` for whom we dialled. */
export class TransportSeries {
  /** Slots the engine counts bytes into. */
  readonly readSlot: Slot;
  readonly writeSlot: Slot;
  readonly labels: Labels;
  private readonly slab: MetricsSlab;
  private readonly openTotal: Slot;
  private readonly openNow: Slot;
  private readonly closeTotal = new Map<number, Slot>();
  private readonly connectFailures = new Map<number, Slot>();
  private users = 1;

  /** The caller is its first user; see `release`. */
  constructor(slab: MetricsSlab, labels: Labels) {
    this.slab = slab;
    this.labels = labels;
    this.openTotal = slab.counter('tcp_open_total', labels);
    this.openNow = slab.gauge('tcp_open_connections', labels);
    this.readSlot = slab.counter('tcp_read_bytes_total', labels);
    this.writeSlot = slab.counter('tcp_write_bytes_total', labels);
  }

  /** A connection opened; it uses the series until `closed`. */
  opened(): void {
    this.users++;
    this.slab.add(this.openTotal, 1);
    this.slab.add(this.openNow, 1);
  }

  /** A connection ended; `errno` is 0 for an orderly end. */
  closed(errno: number): void {
    this.slab.add(this.openNow, -1);
    let slot = this.closeTotal.get(errno);
    if (slot === undefined) {
      slot = this.slab.counter('tcp_close_total', { ...this.labels, errno: errnoName(errno) });
      this.closeTotal.set(errno, slot);
    }
    this.slab.add(slot, 1);
    this.release();
  }

  /** Bytes that were read before the engine was told to count. */
  received(bytes: number): void {
    this.slab.add(this.readSlot, bytes);
  }

  /** An attempt to connect failed. */
  connectFailed(errno: number): void {
    let slot = this.connectFailures.get(errno);
    if (slot === undefined) {
      const { direction, target_addr } = this.labels;
      slot = this.slab.counter('ferrule_tcp_connect_failures_total', {
        direction,
        target_addr,
        errno: errnoName(errno),
      });
      this.connectFailures.set(errno, slot);
    }
    this.slab.add(slot, 1);
  }

  /** One more user, to be given back by `release`. */
  retain(): void {
    this.users++;
  }

  /** A user goes: a target, an endpoint, or a connection. The last one lets the slots go. */
  release(): void {
    if (--this.users > 0) return;
    const always = [this.openTotal, this.openNow, this.readSlot, this.writeSlot];
    for (const slot of [...always, ...this.closeTotal.values(), ...this.connectFailures.values()]) {
      this.slab.release(slot);
    }
  }
}

/**
 * Labels of the accepted side. A service's listener has no address; its `target_addr` is the service.
 * @param tls `tls` and what goes with it
 */
export function sourceLabels(
  direction: string,
  destination: SocketAddress | undefined,
  key: string,
  tls: Labels,
): Labels {
  return { direction, peer: 'src', ...targetLabels(destination, key), ...tls };
}

/** Labels of the dialled side. `more`: `tls` and what goes with it, and what discovery says of the endpoint. */
export function destinationLabels(direction: string, address: SocketAddress, more: Labels): Labels {
  return { direction, peer: 'dst', ...targetLabels(address, address.toString()), ...more };
}

function targetLabels(address: SocketAddress | undefined, key: string): Labels {
  if (address === undefined) return { target_addr: key };
  return { target_addr: key, target_ip: address.ip, target_port: String(address.port) };
}
