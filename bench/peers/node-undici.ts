/** What a few lines of Node make: bench/load/node-proxy.ts. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { projectRoot } from '../harness/machine.ts';
import type { Peer } from '../harness/model.ts';

export const peer: Peer = {
  name: 'node-undici',
  description: "a small proxy of node's http and a pool of undici",
  role: 'rival',
  probe() {
    try {
      const entry = createRequire(import.meta.url).resolve('undici');
      const { version } = JSON.parse(readFileSync(join(dirname(entry), 'package.json'), 'utf8'));
      return { found: true, versions: [`undici ${version}`] };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
      return { found: false, reason: 'undici is not installed (npm install)' };
    }
  },
  http: (route) => ({
    command: process.execPath,
    args: [
      join(projectRoot(), 'bench/load/node-proxy.ts'),
      String(route.listenPort),
      String(route.backendPort),
    ],
    files: {},
  }),
};
