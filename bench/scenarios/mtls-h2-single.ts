/** As h2-single, through two proxies with mutual TLS between them. */

import type { Scenario } from '../harness/model.ts';
import { h2Case, openH2 } from './h2-multiplexed.ts';

export const scenario: Scenario = {
  name: 'mtls-h2-single',
  description:
    'HTTP/2 through two proxies and mutual TLS, one stream at a time on each connection: CPU microseconds of both',
  programs: ['h2load', 'nghttpd', 'openssl'],
  layout: 'h2Pair',
  hasControl: true,
  cases: [h2Case('get', 8, 1, 0.8), h2Case('unary', 8, 1, 0.8), h2Case('unary', 32, 1, 0.8)],
  open: openH2,
};
