/** Who may connect to a port of the application: known before the first byte is let through. */
import { type Cidr, isLoopback, type SocketAddress } from '../core/address.ts';
import type { Policy } from '../model/policy.ts';

/** `audit` lets in and says that another policy might not have. */
export type Verdict = 'allow' | 'deny' | 'audit';

/**
 * Judges a connection. Loopback is always allowed: whoever is there could dial the application itself.
 * @param authenticated the client has proved an identity by mutual TLS
 */
export function judge(
  policy: Policy,
  peer: SocketAddress,
  authenticated: boolean,
  clusterNetworks: readonly Cidr[],
): Verdict {
  if (policy === 'audit') return 'audit';
  if (policy === 'all-unauthenticated' || isLoopback(peer)) return 'allow';
  if (policy === 'deny') return 'deny';
  const needsIdentity = policy === 'all-authenticated' || policy === 'cluster-authenticated';
  if (needsIdentity && !authenticated) return 'deny';
  const anywhere = policy === 'all-authenticated';
  return anywhere || clusterNetworks.some((network) => network.contains(peer)) ? 'allow' : 'deny';
}
