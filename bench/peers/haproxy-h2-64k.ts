/** As haproxy-h2, reading as much at a time as its splitting of bodies into frames can use, with windows above what is on the way. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { PLAIN_H2 } from './haproxy-h2.ts';
import { type HaproxyHttpOptions, haproxyH2Pair, launchHaproxyHttp } from './haproxy-mode-http.ts';

const LARGE: HaproxyHttpOptions = {
  bufferBytes: 65_536,
  settings: ['tune.h2.initial-window-size 1048576', 'tune.h2.max-frame-size 65536'],
};

export const peer: Peer = {
  name: 'haproxy-h2-64k',
  description: 'HAProxy, mode http, HTTP/2 on both sides, buffers and frames of 64 KiB, windows of 1 MiB',
  role: 'rival',
  probe: probeHaproxy,
  h2: (route) => launchHaproxyHttp(route, LARGE, { bind: PLAIN_H2, server: PLAIN_H2 }),
  h2Pair: haproxyH2Pair(LARGE, PLAIN_H2),
};
