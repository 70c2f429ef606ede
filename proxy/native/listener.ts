/** Listening sockets: bound by the main thread, accepted from by the engines of workers. */
import type { SocketAddress } from '../core/address.ts';
import { loadBinding } from './binding.ts';

/** Connections waiting to be accepted per listener; the kernel caps it at net.core.somaxconn (4096 by default). */
const BACKLOG = 4096;

/**
 * Binds a listening socket whose accepted connections have no delay and keep-alive set.
 * @param reusePort several sockets of this process share the address.
 * @returns the descriptor, for `Engine.listen` of any thread, to be ended with `closeListener`; or a negative errno.
 */
export function openListener(address: SocketAddress, reusePort = false): number {
  const { family, port, w0, w1, w2, w3 } = address;
  const first = (family << 16) | port;
  return loadBinding().openListener(first, w0 | 0, w1 | 0, w2 | 0, w3 | 0, BACKLOG, reusePort ? 1 : 0);
}

/** Closes what `openListener` gave. */
export function closeListener(descriptor: number): void {
  loadBinding().closeListener(descriptor);
}

/** The port a listening descriptor is bound to: where 0 was asked for, the one the kernel chose. */
export function listenerPort(descriptor: number): number {
  return loadBinding().listenerPort(descriptor);
}
