/** Where an accepted connection wants to go, and whether it may. */
import {
  type LocalAddress,
  type OriginalDestination,
  type SocketAddress,
  sameSocketAddress,
} from '../core/address.ts';

/** `auto`: the original destination, else our own address; `required`: only the former; `off`: only the latter. */
export type OriginalDstMode = 'auto' | 'required' | 'off';

/**
 * The destination of a connection to a transparent listener; undefined when it was not redirected and must have been. A
 * connection that was not redirected has no original destination (ENOENT) or, where connection tracking is active, its
 * own local address as one.
 */
export function destinationOf(
  mode: OriginalDstMode,
  local: LocalAddress,
  original: OriginalDestination | undefined,
): SocketAddress | undefined {
  const redirected = original !== undefined && !sameSocketAddress(original, local);
  if (mode === 'off') return local;
  if (redirected) return original;
  return mode === 'auto' ? local : undefined;
}
