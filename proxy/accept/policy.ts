/** Who may connect to a port of the application: known before the first byte is let through. */
import { type Cidr, isLoopback, type SocketAddress } from '../core/address.ts';
import type { Policy } from '../model/policy.ts';

/** `audit` lets in and says that another policy might not have. */
export type Verdict = 'allow' | 'deny' | 'audit';

/**
 * Judges a connection without a verified client identity, the only kind there is without mutual TLS. Loopback is always
 * allowed: whoever is there could dial the application itself.
 */
export function judge(policy: Policy, peer: SocketAddress, clusterNetworks: readonly Cidr[]): Verdict {
  switch (policy) {
    case 'all-unauthenticated':
      return 'allow';
    case 'audit':
      return 'audit';
    case 'cluster-unauthenticated':
      return isLoopback(peer) || clusterNetworks.some((network) => network.contains(peer)) ? 'allow' : 'deny';
    case 'all-authenticated':
    case 'cluster-authenticated':
    case 'deny':
      return isLoopback(peer) ? 'allow' : 'deny';
  }
}
