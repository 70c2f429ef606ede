/** What the library inside node costs with the group that ferrule uses. */

import type { Peer } from '../harness/model.ts';
import { minimalPair, minimalTools, probeMinimal } from './minimal.ts';

export const peer: Peer = {
  name: 'minimal-node-mlkem',
  description: 'minimal relay in C++, mutual TLS 1.3 with X25519MLKEM768, OpenSSL of node',
  role: 'control',
  tools: minimalTools('node'),
  probe: () => probeMinimal('node'),
  pair: minimalPair('node', 'X25519MLKEM768'),
};
