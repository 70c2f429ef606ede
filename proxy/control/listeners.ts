/**
 * The listening sockets. Main binds them and holds them for its life; workers and their replacements get the descriptor
 * numbers, which all threads share.
 */
import { isLoopback, isUnspecified, type SocketAddress } from '../core/address.ts';
import { ERRNO, errnoName } from '../core/errno.ts';
import { EXIT, UserError } from '../core/errors.ts';
import { log } from '../core/log.ts';
import { type ListenerGrant, type ListenerRole, type Side, sideOf } from '../model/messages.ts';
import { closeListener, listenerPort, openListener } from '../native/listener.ts';

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
  private readonly open: ListenerGrant[] = [];

  /**
   * Binds everything, or nothing.
   * @throws UserError (exit 71) naming the address that could not be bound
   */
  constructor(requests: readonly ListenerRequest[], workers: number) {
    this.grants = Array.from({ length: workers }, () => []);
    try {
      for (const request of requests) {
        if (!this.bind(request, workers, hasIpv4Twin(request, requests))) {
          log.info('no IPv6 on this host: listening on IPv4 only', { skipped: request.address.toString() });
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Closes the listeners of one side, or all; workers must have let go of them. */
  close(side?: Side): void {
    for (const grant of this.open.splice(0)) {
      if (side === undefined || sideOf(grant.role) === side) closeListener(grant.descriptor);
      else this.open.push(grant);
    }
  }

  /**
   * One worker: a plain socket. Several: one each, with SO_REUSEPORT, between which the kernel spreads connections. That
   * option would also let a second instance of the proxy in: the plain socket bound first finds it out.
   * @returns false when it was skipped for want of IPv6
   */
  private bind({ address, role }: ListenerRequest, workers: number, skippable: boolean): boolean {
    const first = openListener(address);
    if (skippable && (first === -ERRNO.eafnosupport || first === -ERRNO.eaddrnotavail)) return false;
    const bound = address.withPort(listenerPort(opened(first, address)));
    this.addresses.push(bound);
    if (workers === 1) {
      this.grant(0, first, role);
      return true;
    }
    closeListener(first);
    for (let worker = 0; worker < workers; worker++) {
      this.grant(worker, opened(openListener(bound, true), bound), role);
    }
    return true;
  }

  private grant(worker: number, descriptor: number, role: ListenerRole): void {
    const grant = { descriptor, role };
    this.open.push(grant);
    this.grants[worker].push(grant);
  }
}

/** The default addresses come in pairs; on a host without IPv6 the IPv4 half is enough. */
function hasIpv4Twin({ address, role }: ListenerRequest, requests: readonly ListenerRequest[]): boolean {
  if (address.family !== 6 || !(isLoopback(address) || isUnspecified(address))) return false;
  return requests.some(
    (other) =>
      other.address.family === 4 && other.address.port === address.port && other.role.kind === role.kind,
  );
}

function opened(descriptor: number, address: SocketAddress): number {
  if (descriptor >= 0) return descriptor;
  throw new UserError(`cannot listen on ${address}: ${problem(-descriptor)}`, EXIT.os);
}

function problem(errno: number): string {
  switch (errno) {
    case ERRNO.eaddrinuse:
      return 'the address is in use; is another ferrule (or another program) running on it?';
    case ERRNO.eacces:
      return 'permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE';
    case ERRNO.eaddrnotavail:
      return 'this host has no such address';
    case ERRNO.eafnosupport:
      return 'this host has no IPv6; take the IPv6 address out of the configuration';
    default:
      return errnoName(errno);
  }
}
