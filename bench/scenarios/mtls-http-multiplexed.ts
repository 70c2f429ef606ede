/** As mtls-http, with HTTP/2 between the proxies: what comes over many connections goes over few. */

import type { Scenario } from '../harness/model.ts';
import { httpCase, openHttp } from './http-request.ts';

export const scenario: Scenario = {
  name: 'mtls-http-multiplexed',
  description:
    'HTTP/1 requests over kept connections through two proxies with HTTP/2 and mutual TLS between them: CPU microseconds of both',
  programs: ['nginx', 'wrk', 'openssl'],
  layout: 'httpOverH2',
  hasControl: true,
  cases: [httpCase(32, 100, 0.9), httpCase(32, 10_000, 0.9), httpCase(1000, 100, 0.9)],
  open: openHttp,
};
