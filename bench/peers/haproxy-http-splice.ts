/** HAProxy in mode http whose bodies go through pipes when HAProxy thinks it pays. */

import type { Peer } from '../harness/model.ts';
import { probeHaproxy } from './haproxy.ts';
import { launchHaproxyHttp } from './haproxy-mode-http.ts';

export const peer: Peer = {
  name: 'haproxy-http-splice',
  description: 'HAProxy, mode http, http-reuse always, option splice-auto',
  role: 'rival',
  probe: probeHaproxy,
  http: (route) => launchHaproxyHttp(route, { options: ['option splice-auto'] }),
};
