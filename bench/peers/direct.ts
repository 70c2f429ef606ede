/** No proxy: what the machine, the generator and the backend can do by themselves. */

import type { Peer } from '../harness/model.ts';

export const peer: Peer = {
  name: 'direct',
  description: 'no proxy between client and backend',
  role: 'control',
  probe: () => ({ found: true, versions: [] }),
};
