/** nginx as HTTP backend: one worker, one short answer and files of several sizes, and counters that tell how many connections it took. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../proxy/core/errors.ts';
import { askH2 } from '../harness/h2-client.ts';
import { Job } from '../harness/job.ts';
import { freePort, needProgram } from '../harness/machine.ts';

/** What every answer says; the generator in bench/load/client.cc expects the same. */
export const BODY = 'hello world\n';

/** Sizes of the files, in bytes; each is called after its size. */
export const FILE_BYTES = [100, 10_000, 1_000_000] as const;

/** A request that takes longer on loopback hangs. */
const FETCH_TIMEOUT_MS = 5000;

/** A running backend. */
export interface HttpBackend {
  readonly port: number;
  /** Where it answers the same in HTTP/2, with prior knowledge. */
  readonly h2Port: number;
  /** Connections accepted on `port` so far. */
  accepted(): Promise<number>;
}

/** Starts the backend in a folder of its own. The harness ends it with all other processes. */
export async function startHttpBackend(folder: string): Promise<HttpBackend> {
  const port = await freePort();
  const [h2Port, statusPort] = [await freePort(), await freePort()];
  const files = join(folder, 'files');
  mkdirSync(files, { mode: 0o755 });
  for (const bytes of FILE_BYTES) writeFileSync(join(files, String(bytes)), fileText(bytes), { mode: 0o644 });
  const file = join(folder, 'backend.conf');
  writeFileSync(file, configuration(folder, { port, h2Port, statusPort }));
  const job = await Job.start(needProgram('nginx'), ['-e', 'stderr', '-c', file, '-p', folder]);
  await job.waitForPort(port);
  let statusConnections = 0;
  return {
    port,
    h2Port,
    async accepted() {
      const text = await fetchText(statusPort, '/');
      statusConnections++;
      // "server accepts handled requests" and the three numbers below it (ngx_http_stub_status_module).
      const accepts = /accepts handled requests\s+(\d+)/.exec(text)?.[1];
      if (accepts === undefined) throw new UserError(`nginx counts nothing: ${text}`);
      return Number(accepts) - statusConnections;
    },
  };
}

/** @throws UserError unless the answer that comes through `port` is exactly the expected one */
export async function verifyHttp(port: number): Promise<void> {
  const body = await fetchText(port, '/');
  if (body !== BODY) {
    throw new UserError(`wrong answer: ${JSON.stringify(body)} instead of ${JSON.stringify(BODY)}`);
  }
}

/** @throws UserError unless the file that comes through `port` is exactly the expected one */
export async function verifyFile(port: number, bytes: number): Promise<void> {
  const text = await fetchText(port, `/files/${bytes}`);
  if (text !== fileText(bytes)) {
    throw new UserError(`wrong answer: ${text.length} characters that are not the file of ${bytes}`);
  }
}

/** As `verifyFile`, in HTTP/2. */
export async function verifyFileInH2(port: number, bytes: number): Promise<void> {
  const { body } = await askH2(port, { ':path': `/files/${bytes}` });
  if (body.toString() !== fileText(bytes)) {
    throw new UserError(`wrong answer in HTTP/2: ${body.length} bytes that are not the file of ${bytes}`);
  }
}

/** No two places of it are alike within what any buffer holds. */
function fileText(bytes: number): string {
  const words = Array.from({ length: Math.ceil(bytes / 8) }, (_, index) => String(index).padStart(7, '0'));
  return words.join(' ').padEnd(bytes).slice(0, bytes);
}

async function fetchText(port: number, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
  });
  const text = await response.text();
  if (response.status !== 200) throw new UserError(`wrong answer: status ${response.status}: ${text}`);
  return text;
}

function configuration(
  folder: string,
  { port, h2Port, statusPort }: Readonly<Record<'port' | 'h2Port' | 'statusPort', number>>,
): string {
  return `
daemon off;
pid ${folder}/backend.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  access_log off;
  tcp_nodelay on;
  sendfile on;
  open_file_cache max=10;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  default_type text/plain;
  server { listen 127.0.0.1:${port} backlog=4096; listen 127.0.0.1:${h2Port} http2;
    location / { return 200 ${JSON.stringify(BODY)}; }
    location /files/ { root ${folder}; }
  }
  server { listen 127.0.0.1:${statusPort}; stub_status; }
}
`;
}
