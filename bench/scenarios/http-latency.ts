/** As tcp-latency, with proxies that understand HTTP/1. */

import type { Scenario } from '../harness/model.ts';
import { latencyCase, openLatency } from './tcp-latency.ts';

export const scenario: Scenario = {
  name: 'http-latency',
  description: 'open loop, HTTP/1 requests on a fixed schedule: 99th percentile',
  programs: ['nginx', 'g++'],
  layout: 'http',
  hasControl: true,
  // About a quarter and half of what the best rival carries on two cores with its load and its backend.
  cases: [latencyCase(5000, { kind: 'spread' }), latencyCase(10_000, { kind: 'spread' })],
  open: openLatency,
};
