#!/usr/bin/env node
/**
 * The executable. Commands are imported only when they are called: start-up of a sidecar is time without traffic.
 * Nothing heavier than the dispatcher may be imported here.
 */

import { readFileSync } from 'node:fs';
import { dispatch, type Registry } from './dispatch.ts';

const COMMANDS: Registry = {
  proxy: () => import('./proxy.ts'),
  init: () => import('./init.ts'),
  identity: () => import('./identity.ts'),
  await: () => import('./await.ts'),
  explain: () => import('./explain.ts'),
  demo: () => import('./demo.ts'),
};

/** What a shell reports for a program that died of SIGPIPE, which Node turns into EPIPE: 128 + 13. */
const EXIT_BROKEN_PIPE = 141;

/** Reads the version from the nearest package.json that is ours: one folder higher in `dist/` than in the sources. */
function version(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const found = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8'));
      if (found.name === 'ferrule') return found.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return 'of unknown version';
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `ferrule … | head`: the reader has what it wanted.
  if (error.code === 'EPIPE') process.exit(EXIT_BROKEN_PIPE);
  throw error;
});
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  // A proxy whose log reader went away goes on serving traffic.
  if (error.code !== 'EPIPE') throw error;
});

const status = await dispatch(process.argv.slice(2), COMMANDS, {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  version,
});
// Through the stream's queue: what was written before comes first, and if that failed the handler above has the word.
process.stdout.write('', (error) => {
  if (error == null) process.exit(status);
});
