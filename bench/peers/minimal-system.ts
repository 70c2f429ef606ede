/** What the library of other proxies costs. */

import type { Peer } from '../harness/model.ts';
import { minimalPair, minimalTools, probeMinimal } from './minimal.ts';

export const peer: Peer = {
  name: 'minimal-system',
  description: 'minimal relay in C++, mutual TLS 1.3 with X25519, OpenSSL of the system',
  role: 'control',
  tools: minimalTools('system'),
  probe: () => probeMinimal('system'),
  pair: minimalPair('system', 'X25519'),
};
