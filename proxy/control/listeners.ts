/**
 * The listening sockets. Main binds them and holds them for its life; workers and their replacements get the descriptor
 * numbers, which all threads share.
 */
import type { SocketAddress } from '../core/address.ts';
import type { ListenerGrant, ListenerRole } from '../model/messages.ts';
import { closeListener, listenerPort, openListener } from '../native/engine.ts';

/** An address to bind and what it is for. */
export interface ListenerRequest {
  readonly address: SocketAddress;
  readonly role: ListenerRole;
}

/** All listeners of a proxy. */
export class Listeners {
  /** What they are bound to, in the order asked for; a port 0 has become the one the kernel chose. */
  readonly addresses: SocketAddress[] = [];
  /** Descriptors by worker. */
  readonly grants: ListenerGrant[][];
  private readonly descriptors: number[] = [];

  /**
   * Binds everything, or nothing.
   * @throws UserError (exit 71) naming the address that could not be bound
   */
  constructor(requests: readonly ListenerRequest[], workers: number) {
    this.grants = Array.from({ length: workers }, () => []);
    try {
      for (const request of requests) this.bind(request, workers);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const descriptor of this.descriptors.splice(0)) closeListener(descriptor);
  }

  /**
   * One worker: a plain socket. Several: one each, with SO_REUSEPORT, between which the kernel spreads connections. That
   * option would also let a second instance of the proxy in: the plain socket bound first finds it out.
   */
  private bind({ address, role }: ListenerRequest, workers: number): void {
    const first = openListener(address);
    const bound = address.withPort(listenerPort(first));
    this.addresses.push(bound);
    if (workers === 1) return this.grant(0, first, role);
    closeListener(first);
    for (let worker = 0; worker < workers; worker++) this.grant(worker, openListener(bound, true), role);
  }

  private grant(worker: number, descriptor: number, role: ListenerRole): void {
    this.descriptors.push(descriptor);
    this.grants[worker].push({ descriptor, role });
  }
}
