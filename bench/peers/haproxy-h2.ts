/** HAProxy in mode http with HTTP/2 on both sides, or between two of it. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { haproxyH2Pair, launchHaproxyHttp } from './haproxy-mode-http.ts';

/** With prior knowledge. */
export const PLAIN_H2 = 'proto h2';

export const peer: Peer = {
  name: 'haproxy-h2',
  description: 'HAProxy, mode http, HTTP/2 on both sides, http-reuse always',
  role: 'rival',
  probe: probeHaproxy,
  h2: (route) => launchHaproxyHttp(route, {}, { bind: PLAIN_H2, server: PLAIN_H2 }),
  h2Pair: haproxyH2Pair({}, PLAIN_H2),
  httpOverH2: haproxyH2Pair({}, ''),
};
