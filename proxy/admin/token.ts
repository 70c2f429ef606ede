/**
 * The admin token: containers of a pod share loopback, so being local proves nothing; being able to read a 0600 file proves to
 * be the same user (or root).
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { EXIT, UserError } from '../core/errors.ts';
import { log } from '../core/log.ts';

/** A token in force. */
export interface AdminToken {
  /** Where it can be read; undefined when no file could be written, and nobody can know the token. */
  readonly file: string | undefined;
  /** True when `presented` is the token. Takes the same time whatever is presented. */
  matches(presented: string): boolean;
  /** Removes the file, unless another process has replaced it. */
  remove(): void;
}

/**
 * Where a proxy with this admin port writes its token when the configuration does not say, best first. A command that looks for
 * the token of a proxy of the same user tries them in this order.
 */
export function tokenFileCandidates(port: number, env: NodeJS.ProcessEnv): readonly string[] {
  const name = `admin-${port}.token`;
  const uid = process.getuid?.() ?? 0;
  const runtime = env.XDG_RUNTIME_DIR;
  return [
    ...(runtime?.startsWith('/') ? [join(runtime, 'ferrule', name)] : []),
    join('/run/ferrule', name),
    join(tmpdir(), `ferrule-${uid}`, name),
  ];
}

/**
 * Makes a token and writes it to `configured`, or to the first candidate that works. Where none works (a read-only file system) the
 * proxy still runs: what needs the token is then refused to everybody, and a warning says so.
 * @throws UserError (EXIT.os) when `configured` cannot be written
 */
export function createToken(
  configured: string | undefined,
  port: number,
  env: NodeJS.ProcessEnv,
): AdminToken {
  const token = randomBytes(32).toString('base64url');
  if (configured !== undefined) return tokenAt(token, writeToken(configured, token));
  const failures: string[] = [];
  for (const file of tokenFileCandidates(port, env)) {
    try {
      return tokenAt(token, writeToken(file, token));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      failures.push(error.message);
    }
  }
  log.warn(
    'no admin token could be written: only /ready, /live and /metrics will answer. Set admin.tokenFile',
    {
      reasons: failures.join('; '),
    },
  );
  return tokenAt(token, undefined);
}

function tokenAt(token: string, file: string | undefined): AdminToken {
  const expected = digest(token);
  return {
    file,
    // Digests, because timingSafeEqual wants equal lengths and the length of a guess must not show either.
    matches: (presented) => timingSafeEqual(digest(presented), expected),
    remove: () => {
      if (file !== undefined) removeOwn(file, token);
    },
  };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Writes the token to a new file of mode 0600 and returns its path. */
function writeToken(file: string, token: string): string {
  try {
    prepareFolder(dirname(file));
    removeStale(file);
    // O_EXCL: whatever appears at this path in the meantime, a symbolic link included, is not written to.
    const descriptor = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      writeSync(descriptor, `${token}\n`);
    } finally {
      closeSync(descriptor);
    }
    return file;
  } catch (error) {
    if (error instanceof UserError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new UserError(
      `the admin token cannot be written to ${file}: ${reason} (admin.tokenFile)`,
      EXIT.os,
      {
        cause: error,
      },
    );
  }
}

/** The folder exists or is made with mode 0700, belongs to us or root, and nobody else can put files into it. */
function prepareFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { mode, uid } = lstatSync(folder);
  if ((mode & constants.S_IFMT) !== constants.S_IFDIR) {
    throw new UserError(
      `the folder of the admin token, ${folder}, is not a folder (admin.tokenFile)`,
      EXIT.os,
    );
  }
  const writable = (mode & 0o022) !== 0;
  if (writable || (uid !== process.getuid?.() && uid !== 0)) {
    const fault = writable
      ? `can be written to by others (mode ${(mode & 0o777).toString(8)})`
      : 'is not ours';
    const remedy = 'name a file in a folder that does not exist yet, or make the folder 0700';
    throw new UserError(
      `the folder of the admin token, ${folder}, ${fault}: ${remedy} (admin.tokenFile)`,
      EXIT.os,
    );
  }
}

/** The port was free, so a file that is there was left by a process that could not clean up. */
function removeStale(file: string): void {
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isFile() || found.uid !== process.getuid?.()) {
    throw new UserError(
      `${file} is there already and is not an admin token of ours: remove it or choose another (admin.tokenFile)`,
      EXIT.os,
    );
  }
  unlinkSync(file);
}

function removeOwn(file: string, token: string): void {
  try {
    if (readFileSync(file, 'utf8').trim() === token) unlinkSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    log.warn('the admin token could not be removed', { file, error: String(error) });
  }
}
