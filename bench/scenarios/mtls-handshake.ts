/** As tcp-connect, through two proxies with mutual TLS between them: every connection takes a full handshake. */

import type { Scenario } from '../harness/model.ts';
import { connectCase, openConnect } from './tcp-connect.ts';

export const scenario: Scenario = {
  name: 'mtls-handshake',
  description:
    'a new connection for every short exchange through two proxies, a full handshake each: CPU microseconds of both',
  programs: ['nginx', 'g++', 'openssl'],
  layout: 'pair',
  hasControl: true,
  cases: [connectCase(0.85)],
  open: (workshop) => openConnect(workshop),
};
