/** As tcp-connect, with proxies that understand HTTP/1 and keep their own connections to the backend. */

import type { Scenario } from '../harness/model.ts';
import { connectCase, openConnect } from './tcp-connect.ts';

export const scenario: Scenario = {
  name: 'http-connect',
  description: 'a new connection for every HTTP/1 request: CPU microseconds of the proxy per request',
  programs: ['nginx', 'g++'],
  layout: 'http',
  hasControl: true,
  cases: [connectCase(0.95)],
  open: (workshop) => openConnect(workshop, true),
};
