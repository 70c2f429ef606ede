/** HAProxy that splices whatever it can, both ways. */

import type { Peer } from '../harness/model.ts';
import { launchHaproxy, probeHaproxy } from './haproxy.ts';

export const peer: Peer = {
  name: 'haproxy-splice-full',
  description: 'HAProxy, mode tcp, option splice-request and splice-response',
  role: 'rival',
  probe: probeHaproxy,
  one: (route) => launchHaproxy(route, ['option splice-request', 'option splice-response']),
};
