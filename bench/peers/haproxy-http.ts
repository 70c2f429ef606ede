/** HAProxy in mode http with nothing else than reuse of connections. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { haproxyHttpPair, launchHaproxyHttp } from './haproxy-mode-http.ts';

export const peer: Peer = {
  name: 'haproxy-http',
  description: 'HAProxy, mode http, http-reuse always',
  role: 'rival',
  probe: probeHaproxy,
  http: (route) => launchHaproxyHttp(route),
  httpPair: haproxyHttpPair({}),
};
