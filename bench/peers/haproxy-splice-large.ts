/**
 * HAProxy that splices whatever it can through pipes of 1 MiB, as large as they may be without privileges: half the CPU per
 * byte of its default pipes of 64 KiB, so leaving this out would flatter whoever uses large ones.
 */

import type { Peer } from '../harness/model.ts';
import { launchHaproxy, probeHaproxy } from './haproxy.ts';

export const peer: Peer = {
  name: 'haproxy-splice-large',
  description: 'HAProxy, mode tcp, option splice-request and splice-response, pipes of 1 MiB',
  role: 'rival',
  probe: probeHaproxy,
  one: (route) =>
    launchHaproxy(route, ['option splice-request', 'option splice-response'], ['tune.pipesize 1048576']),
};
