/** Who may connect to a port of the application. */

/**
 * Policies for ports no resource speaks of, under the names Linkerd gives them. `cluster-…` adds "from the
 * cluster's networks"; `audit` lets everyone in and logs who would have been refused.
 */
export const POLICIES = [
  'all-unauthenticated',
  'all-authenticated',
  'cluster-unauthenticated',
  'cluster-authenticated',
  'deny',
  'audit',
] as const;

/** One of `POLICIES`. */
export type Policy = (typeof POLICIES)[number];
