/** As tcp-request, through two proxies with mutual TLS between them. */

import type { Scenario } from '../harness/model.ts';
import { openRequest, requestCase } from './tcp-request.ts';

export const scenario: Scenario = {
  name: 'mtls-request',
  description:
    'short request and response over kept connections through two proxies and mutual TLS: CPU microseconds of both',
  programs: ['nginx', 'wrk', 'openssl'],
  layout: 'pair',
  hasControl: true,
  cases: [requestCase(32, 0.9), requestCase(4, 0.9)],
  open: openRequest,
};
