/** Ferrule told to take one endpoint after the other: what its balancing is worth. */

import type { Peer } from '../harness/model.ts';
import { launchOne, probeFerrule } from './ferrule.ts';

export const peer: Peer = {
  name: 'ferrule-round-robin',
  description: 'Ferrule, linkerd.io/load-balancer: round-robin',
  role: 'rival',
  probe: probeFerrule,
  balance: (route) => launchOne(route, { annotations: 'linkerd.io/load-balancer: round-robin' }),
};
