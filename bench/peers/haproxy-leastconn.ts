/** HAProxy that gives each request to the server with the fewest connections. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { launchHaproxyHttp } from './haproxy-mode-http.ts';

export const peer: Peer = {
  name: 'haproxy-leastconn',
  description: 'HAProxy, mode http, balance leastconn',
  role: 'rival',
  probe: probeHaproxy,
  balance: (route) => launchHaproxyHttp(route, { options: ['balance leastconn'] }),
};
