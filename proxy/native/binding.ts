/** Loads the native socket engine, or says exactly what is missing. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EXIT, UserError } from '../core/errors.ts';

/** What the addon exports; see binding.cc. Failures of system calls are negative errno values. */
export interface Binding {
  start(metrics: Float64Array, onBatch: (buffer: number, records: number) => void): EngineBuffers;
  stop(): void;
  flush(operations: number): void;
  connect(track: number): number;
  addListener(descriptor: number, transparent: number): number;
  removeListener(listener: number): void;
  /** PEM texts in, the number of a TLS context out; throws what OpenSSL says. */
  makeContext(certificate: string, key: string, trustAnchors: string): number;
  dropContext(context: number): void;
  openListener(
    familyAndPort: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    backlog: number,
    reusePort: number,
  ): number;
  closeListener(descriptor: number): void;
  listenerPort(descriptor: number): number;
}

/** Memory shared with the engine of this thread. */
export interface EngineBuffers {
  readonly events0: ArrayBuffer;
  readonly events1: ArrayBuffer;
  readonly operations: ArrayBuffer;
  readonly slab: ArrayBuffer;
  readonly address: ArrayBuffer;
}

let loaded: Binding | undefined;

/**
 * The addon of this process, loaded at the first call.
 * `FERRULE_NATIVE` names another build of it (the sanitizer build of the tests).
 * @throws UserError (exit 69) naming the file and what the loader said.
 */
export function loadBinding(): Binding {
  if (loaded !== undefined) return loaded;
  const file = resolve(process.env.FERRULE_NATIVE ?? join(projectRoot(), 'build', 'ferrule.node'));
  if (!existsSync(file)) {
    throw new UserError(
      `the native socket engine is missing: ${file}; build it with: npm run build`,
      EXIT.unavailable,
    );
  }
  try {
    loaded = createRequire(import.meta.url)(file) as Binding;
    return loaded;
  } catch (error) {
    throw new UserError(
      `the native socket engine cannot be loaded: ${error instanceof Error ? error.message : String(error)}
It needs Linux, glibc, and Node.js 24 whose binary exports its libuv and OpenSSL (the official builds do; builds against shared libraries do not). This is Node.js ${process.version} on ${process.platform}-${process.arch}.`,
      EXIT.unavailable,
      { cause: error },
    );
  }
}

/** The folder with package.json above this module: the same from sources and from dist/. */
function projectRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}
