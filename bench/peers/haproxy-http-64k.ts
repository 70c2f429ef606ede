/** HAProxy in mode http with buffers of 64 KiB, for large bodies. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { type HaproxyHttpOptions, haproxyHttpPair, launchHaproxyHttp } from './haproxy-mode-http.ts';

const LARGE: HaproxyHttpOptions = { bufferBytes: 65_536 };

export const peer: Peer = {
  name: 'haproxy-http-64k',
  description: 'HAProxy, mode http, http-reuse always, buffers of 64 KiB',
  role: 'rival',
  probe: probeHaproxy,
  http: (route) => launchHaproxyHttp(route, LARGE),
  httpPair: haproxyHttpPair(LARGE),
};
