/** HAProxy with mutual TLS and buffers of 16 KiB as by default. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { haproxyPair } from './haproxy-tls.ts';

export const peer: Peer = {
  name: 'haproxy-tls-16k',
  description: 'two HAProxy, mode tcp, mutual TLS 1.3 with X25519, buffers of 16 KiB as by default',
  role: 'rival',
  probe: probeHaproxy,
  pair: haproxyPair(16_384),
};
