/** Programs a demo may use when they are installed. */

import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Where Debian keeps the servers of PostgreSQL, a folder per version. */
const POSTGRES_VERSIONS = '/usr/lib/postgresql';

/**
 * The path of a program: looked for in PATH, in the folders of system programs (missing from many a PATH), and with PostgreSQL.
 * @returns undefined when it is not installed
 */
export function programPath(name: string): string | undefined {
  const system = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'];
  const folders = [...(process.env.PATH ?? '').split(':'), ...system, ...postgresFolders()];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
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
  try {
    return readdirSync(POSTGRES_VERSIONS).map((version) => join(POSTGRES_VERSIONS, version, 'bin'));
  } catch (error) {
    if (error instanceof Error && 'code' in error) return [];
    throw error;
  }
}
