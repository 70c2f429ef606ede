/** nghttpd as HTTP/2 backend: one that serves a file, and one that answers calls of gRPC, by a file as well. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../proxy/core/errors.ts';
import { askH2 } from '../harness/h2-client.ts';
import type { H2Load } from '../harness/h2load.ts';
import { Job } from '../harness/job.ts';
import { freePort, needProgram } from '../harness/machine.ts';

/** What is asked for, and where. */
export interface H2Service {
  readonly port: number;
  readonly load: Pick<H2Load, 'path' | 'bytes' | 'body'>;
  /** @throws when the answer that comes through `port` is not exactly the expected one */
  verify(port: number): Promise<void>;
}

const FILE =
  'a small answer that says nothing of interest, and is as long as the one that wrk gets with HTTP/1.\n';
const FILE_BYTES = 100;

/** A message of a few fields, and its gRPC frame: not compressed, its length (gRPC over HTTP2, Length-Prefixed-Message). */
const MESSAGE_BYTES = 200;
const MESSAGE = Buffer.concat([
  Buffer.from([0, 0, 0, 0, MESSAGE_BYTES]),
  Buffer.alloc(MESSAGE_BYTES, 'message '),
]);

/** The ending tells nghttpd the type of the content. */
const CALL_PATH = '/bench.Echo/Unary.grpc';
const CALL_HEADERS = [
  'content-type: application/grpc',
  'te: trailers',
  'user-agent: grpc-bench/1.0',
  'grpc-timeout: 20S',
  'grpc-accept-encoding: identity,deflate,gzip',
  'x-request-id: 6f1c1c9e-6d2b-4b7e-9d0e-0d5a3c1f7a11',
];

/** Serves a file of 100 bytes. The harness ends it with all other processes. */
export async function startFiles(folder: string): Promise<H2Service> {
  const root = folderIn(folder, 'h2-files');
  writeFileSync(join(root, 'file'), FILE.padEnd(FILE_BYTES).slice(0, FILE_BYTES), { mode: 0o644 });
  const port = await startNghttpd(root, []);
  return {
    port,
    load: { path: '/file', bytes: FILE_BYTES },
    async verify(through) {
      const { headers, body } = await askH2(through, { ':path': '/file' });
      expectEqual('status', headers[':status'], 200);
      expectEqual('body', body.toString('latin1'), FILE.padEnd(FILE_BYTES).slice(0, FILE_BYTES));
    },
  };
}

/** Answers unary calls whose messages and answers are of 200 bytes; the status comes in trailers. */
export async function startCalls(folder: string): Promise<H2Service> {
  const root = folderIn(folder, 'h2-calls');
  const types = join(folder, 'mime.types');
  const file = join(root, CALL_PATH);
  mkdirSync(join(root, 'bench.Echo'), { mode: 0o755 });
  writeFileSync(types, 'application/grpc grpc\n');
  writeFileSync(file, MESSAGE, { mode: 0o644 });
  const port = await startNghttpd(root, [`--mime-types-file=${types}`, '--trailer', 'grpc-status: 0']);
  return {
    port,
    load: { path: CALL_PATH, bytes: MESSAGE.length, body: { file, headers: CALL_HEADERS } },
    async verify(through) {
      const fields = Object.fromEntries(CALL_HEADERS.map((line) => line.split(': ')));
      const asked = { ...fields, ':method': 'POST', ':path': CALL_PATH };
      const { headers, body, trailers } = await askH2(through, asked, MESSAGE);
      expectEqual('status', headers[':status'], 200);
      expectEqual('content type', headers['content-type'], 'application/grpc');
      expectEqual('message', body.toString('latin1'), MESSAGE.toString('latin1'));
      expectEqual('gRPC status', trailers['grpc-status'], '0');
    },
  };
}

/** @throws UserError unless both are the same */
export function expectEqual(what: string, found: unknown, expected: unknown): void {
  if (found === expected) return;
  throw new UserError(
    `wrong answer: ${what} ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`,
  );
}

function folderIn(folder: string, name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { mode: 0o755 });
  return path;
}

/** As many streams on a connection as anybody wants; what is sent to it is dropped. */
async function startNghttpd(root: string, options: readonly string[]): Promise<number> {
  const port = await freePort();
  const args = ['--no-tls', '-a', '127.0.0.1', '-d', root, '-m', '10000', '-w', '20', '-W', '24', ...options];
  const job = await Job.start(needProgram('nghttpd'), [...args, String(port)]);
  await job.waitForPort(port);
  return port;
}
