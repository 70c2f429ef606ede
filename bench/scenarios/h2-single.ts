/** As h2-multiplexed, with one stream at a time on each connection. */

import type { Scenario } from '../harness/model.ts';
import { h2Case, openH2 } from './h2-multiplexed.ts';

export const scenario: Scenario = {
  name: 'h2-single',
  description:
    'HTTP/2 on both sides, one stream at a time on each connection: CPU microseconds of the proxy per request',
  programs: ['h2load', 'nghttpd'],
  layout: 'h2',
  hasControl: true,
  cases: [h2Case('get', 8, 1, 0.8), h2Case('unary', 8, 1, 0.8), h2Case('unary', 32, 1, 0.8)],
  open: openH2,
};
