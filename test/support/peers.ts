/** Programs that tests need and npm does not bring: found, or skipped aloud. */

import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';

/**
 * The path of a program; looked for in PATH, in the folders of system programs, and where Debian keeps PostgreSQL.
 * @returns undefined when it is not installed
 */
export function findPeer(name: string): string | undefined {
  const folders = [
    ...(process.env.PATH ?? '').split(':'),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    ...postgresFolders(),
  ];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/**
 * The path of a program the test cannot do without. When it is missing the test is skipped with that reason, or fails
 * where FERRULE_REQUIRE_PEERS=1 promises that everything is installed; either way the caller returns on undefined.
 */
export function requirePeer(t: Test, name: string): string | undefined {
  const path = findPeer(name);
  if (path === undefined) missing(t, `${name} is not installed`);
  return path;
}

/** Skips the test for a reason, or fails it where FERRULE_REQUIRE_PEERS=1 promises that there is none. */
export function missing(t: Test, reason: string): void {
  if (process.env.FERRULE_REQUIRE_PEERS === '1') t.fail(`${reason}, and FERRULE_REQUIRE_PEERS is 1`);
  else t.pass(reason, { skip: reason });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error) return false;
    throw error;
  }
}

function postgresFolders(): string[] {
  const root = '/usr/lib/postgresql';
  try {
    return readdirSync(root).map((version) => join(root, version, 'bin'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
