/**
 * What lies in a directory of resource files (or is one file), told apart by signatures, and the reading of
 * one file.
 */

import type { BigIntStats } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../core/errors.ts';

/**
 * A directory with more is a mistake (a mount of something else), and would hold the main thread for minutes.
 */
const MAX_FILES = 10_000;
/**
 * 16 MB of YAML hold some 150,000 endpoints and take about 15 s to parse, during which main answers nothing
 * else.
 */
const MAX_FILE_BYTES = 16 * 1024 * 1024;

/** Files asked about at once: enough to keep the thread pool busy, few enough not to hold 10,000 promises. */
const STAT_BATCH = 64;

/** Tells whether a file may have changed: what it is, its size, and its times to the nanosecond. */
export type Signature = string;

/** A look at the files. */
export interface Scan {
  /** Signatures by path. */
  readonly files: ReadonlyMap<string, Signature>;
  /** The directory to watch for changes, and which one it was at the time of the scan. */
  readonly directory: { readonly path: string; readonly id: string };
  /**
   * Latest change of any file's content or name (ctime: copies that keep the mtime count), milliseconds since
   * the epoch.
   */
  readonly newestMs: number;
}

/** The text of a file, or why there is none. */
export type FileText =
  | { readonly kind: 'text'; readonly text: string }
  /** It is no longer what the scan saw. */
  | { readonly kind: 'changed' }
  | {
      readonly kind: 'refused';
      readonly reason: string;
      /** True when the next try may succeed although the file is the same. */
      readonly passing: boolean;
    };

/**
 * True for the names that are read in a directory: hidden files are what editors and rsync have not finished.
 */
export function isResourceFile(name: string): boolean {
  return /^[^.].*\.(yaml|yml|json)$/.test(name);
}

/**
 * Looks at `path`: a file, or a directory of `*.yaml`, `*.yml` and `*.json` that are not hidden (links are
 * followed, folders are not).
 * @throws UserError naming the path when it cannot be read or holds too many files.
 */
export async function scanFiles(path: string): Promise<Scan> {
  try {
    const own = await stat(path, { bigint: true });
    if (!own.isDirectory()) {
      const parent = join(path, '..');
      const directory = { path: parent, id: idOf(await stat(parent, { bigint: true })) };
      return { files: new Map([[path, signatureOf(own)]]), directory, newestMs: Number(own.ctimeMs) };
    }
    const names = (await readdir(path)).filter(isResourceFile).sort();
    if (names.length > MAX_FILES) {
      throw new UserError(`${path} holds ${names.length} resource files; at most ${MAX_FILES} are allowed`);
    }
    return { ...(await scanNames(path, names)), directory: { path, id: idOf(own) } };
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${path} ${explain(error)}`, undefined, { cause: error });
  }
}

async function scanNames(path: string, names: readonly string[]): Promise<Pick<Scan, 'files' | 'newestMs'>> {
  const files = new Map<string, Signature>();
  let newestMs = 0;
  for (let start = 0; start < names.length; start += STAT_BATCH) {
    const batch = names.slice(start, start + STAT_BATCH).map((name) => join(path, name));
    const stats = await Promise.all(
      batch.map((file) => stat(file, { bigint: true }).catch((error: Error) => error)),
    );
    for (const [index, result] of stats.entries()) {
      // A link to nothing is a file that cannot be read; its error comes up when it is read.
      if (result instanceof Error) files.set(batch[index], explain(result));
      else if (!result.isDirectory()) {
        files.set(batch[index], signatureOf(result));
        newestMs = Math.max(newestMs, Number(result.ctimeMs));
      }
    }
  }
  return { files, newestMs };
}

/** Reads one file of a scan, making sure that it is and stays what `signature` says. */
export async function readScanned(file: string, signature: Signature): Promise<FileText> {
  try {
    const seen = await stat(file, { bigint: true });
    // Opening a pipe would wait for its writer for ever.
    if (!seen.isFile()) return { kind: 'refused', reason: 'is not a regular file', passing: false };
    if (seen.size > MAX_FILE_BYTES) {
      return {
        kind: 'refused',
        reason: `has ${seen.size} bytes; at most ${MAX_FILE_BYTES} are allowed`,
        passing: false,
      };
    }
    await using handle = await open(file, 'r');
    if (signatureOf(await handle.stat({ bigint: true })) !== signature) return { kind: 'changed' };
    const text = await handle.readFile('utf8');
    if (signatureOf(await handle.stat({ bigint: true })) !== signature) return { kind: 'changed' };
    return { kind: 'text', text };
  } catch (error) {
    return { kind: 'refused', reason: explain(error), passing: true };
  }
}

/** True when both scans saw the same. */
export function sameFiles(a: ReadonlyMap<string, Signature>, b: ReadonlyMap<string, Signature>): boolean {
  if (a.size !== b.size) return false;
  for (const [file, signature] of a) if (b.get(file) !== signature) return false;
  return true;
}

function signatureOf(stats: BigIntStats): Signature {
  return `${idOf(stats)}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`;
}

function idOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}`;
}

/** Why the system refused, in words. */
function explain(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT') return 'is not there';
  if (code === 'EACCES') return 'cannot be read: permission denied';
  if (code === 'ELOOP') return 'is a link in a circle';
  return `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
}
