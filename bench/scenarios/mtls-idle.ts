/** As tcp-idle, through two proxies with mutual TLS between them: the memory of both. */

import type { Scenario } from '../harness/model.ts';
import { IDLE_CASE, openIdle } from './tcp-idle.ts';

export const scenario: Scenario = {
  name: 'mtls-idle',
  description: 'memory of two proxies per idle connection with mutual TLS between them, after one exchange',
  programs: ['nginx', 'g++', 'openssl'],
  layout: 'pair',
  hasControl: false,
  cases: [IDLE_CASE],
  open: openIdle,
};
