/** The engine's record layer without sockets, compiled for the test that asks for it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What opening a stretch of bytes came to. */
export interface Opened {
  readonly plain: Buffer;
  readonly consumed: number;
  /** 1 after a close_notify. */
  readonly closed: number;
  /** The alert to send, or -1. */
  readonly sendAlert: number;
  /** The alert that came, or -1. */
  readonly peerAlert: number;
}

/** The addon; connections are numbers. */
export interface RecordsAddon {
  /** `cipher` and `digest` as OpenSSL names them; `server` is 1 for the server's side. */
  records(cipher: string, digest: string, client: Buffer, server: Buffer, isServer: number): number;
  seal(connection: number, bytes: Buffer): Buffer;
  sealAlert(connection: number, alert: number): Buffer;
  open(connection: number, bytes: Buffer): Opened;
}

/** Compiles and loads it: with the sanitizers where this process runs under them. */
export function recordsAddon(t: Test): RecordsAddon {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-records-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const output = join(folder, 'records.node');
  const sanitized = process.env.FERRULE_SANITIZER !== undefined;
  const flags = sanitized
    ? ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-Wl,-z,nodelete']
    : ['-O2'];
  const headers = join(ROOT, 'node_modules', `node-linux-${process.arch}`, 'include', 'node');
  const native = join(ROOT, 'proxy', 'native');
  const sources = [join(native, 'tls_records.cc'), join(ROOT, 'test', 'support', 'tls-records-addon.cc')];
  const common = ['-std=c++20', '-shared', '-fPIC', '-fno-exceptions', '-DNAPI_VERSION=8'];
  const paths = ['-isystem', headers, '-I', native, ...sources, '-o', output];
  const compiled = spawnSync('g++', [...common, ...flags, ...paths], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(`g++: ${compiled.stderr}`);
  return createRequire(import.meta.url)(output) as RecordsAddon;
}
