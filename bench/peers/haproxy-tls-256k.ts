/**
 * HAProxy with mutual TLS and buffers of 256 KiB: the least CPU per byte of all sizes from 16 to 256 KiB, at the price of memory per
 * busy connection, so leaving this out would flatter whoever reads as much at a time.
 */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { haproxyPair } from './haproxy-tls.ts';

export const peer: Peer = {
  name: 'haproxy-tls-256k',
  description: 'two HAProxy, mode tcp, mutual TLS 1.3 with X25519, buffers of 256 KiB',
  role: 'rival',
  probe: probeHaproxy,
  pair: haproxyPair(262_144),
};
