/** As h2-multiplexed, through two proxies with mutual TLS between them. */

import type { Scenario } from '../harness/model.ts';
import { h2Case, openH2 } from './h2-multiplexed.ts';

export const scenario: Scenario = {
  name: 'mtls-h2-multiplexed',
  description:
    'HTTP/2 through two proxies and mutual TLS, many streams on each connection: CPU microseconds of both',
  programs: ['h2load', 'nghttpd', 'openssl'],
  layout: 'h2Pair',
  hasControl: true,
  cases: [h2Case('get', 8, 32, 0.45), h2Case('unary', 8, 32, 0.45)],
  open: openH2,
};
