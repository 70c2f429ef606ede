/** As http-request, through two proxies with mutual TLS between them, both of which understand HTTP/1. */

import type { Scenario } from '../harness/model.ts';
import { httpCase, openHttp } from './http-request.ts';

export const scenario: Scenario = {
  name: 'mtls-http',
  description:
    'HTTP/1 requests over kept connections through two proxies and mutual TLS: CPU microseconds of both',
  programs: ['nginx', 'wrk', 'openssl'],
  layout: 'httpPair',
  hasControl: true,
  cases: [
    httpCase(32, 100, 0.8),
    httpCase(32, 10_000, 0.8),
    httpCase(32, 1_000_000, 0.8),
    httpCase(1000, 100, 0.8),
  ],
  open: openHttp,
};
