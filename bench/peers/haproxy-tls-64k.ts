/** HAProxy with mutual TLS and buffers of 64 KiB. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { haproxyPair } from './haproxy-tls.ts';

export const peer: Peer = {
  name: 'haproxy-tls-64k',
  description: 'two HAProxy, mode tcp, mutual TLS 1.3 with X25519, buffers of 64 KiB',
  role: 'rival',
  probe: probeHaproxy,
  pair: haproxyPair(65_536),
};
