/** As tcp-bulk, through two proxies with mutual TLS between them. */

import type { Scenario } from '../harness/model.ts';
import { bulkCases, GB, openBulk } from './tcp-bulk.ts';

export const scenario: Scenario = {
  name: 'mtls-bulk',
  description:
    'bulk transfer over one connection through two proxies and mutual TLS: CPU seconds of both per gigabyte',
  programs: ['g++', 'openssl'],
  layout: 'pair',
  hasControl: true,
  cases: bulkCases(0.7),
  open: (workshop) => openBulk(workshop, 0.5 * GB),
};
