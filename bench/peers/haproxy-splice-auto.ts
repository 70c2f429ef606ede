/** HAProxy that decides by itself when to splice. */

import type { Peer } from '../harness/model.ts';
import { launchHaproxy, probeHaproxy } from './haproxy.ts';

export const peer: Peer = {
  name: 'haproxy-splice-auto',
  description: 'HAProxy, mode tcp, option splice-auto',
  role: 'rival',
  probe: probeHaproxy,
  one: (route) => launchHaproxy(route, ['option splice-auto']),
};
