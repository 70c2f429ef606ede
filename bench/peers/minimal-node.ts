/** What the library inside node costs with the group that other proxies use. */

import type { Peer } from '../harness/model.ts';
import { minimalPair, minimalTools, probeMinimal } from './minimal.ts';

export const peer: Peer = {
  name: 'minimal-node',
  description: 'minimal relay in C++, mutual TLS 1.3 with X25519, OpenSSL of node',
  role: 'control',
  tools: minimalTools('node'),
  probe: () => probeMinimal('node'),
  pair: minimalPair('node', 'X25519'),
};
