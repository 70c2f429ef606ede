/** Real servers that count what reaches them, each in its own way. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';
import { requirePeer } from './peers.ts';
import { eventually } from './proxy.ts';

/** A server, and what it says it was asked: `METHOD length-of-body` for each request that it has read to its end. */
export interface CountingServer {
  readonly name: string;
  readonly address: SocketAddress;
  asked(): readonly string[];
}

/** Node's own server. */
export async function startNode(
  t: Test,
  name = 'node',
): Promise<CountingServer & { readonly close: () => void }> {
  const asked: string[] = [];
  const server = createServer({ maxHeaderSize: 128 * 1024 }, (incoming, response) => {
    let length = 0;
    incoming.on('data', (bytes) => {
      length += bytes.length;
    });
    incoming.on('end', () => {
      asked.push(`${incoming.method} ${length}`);
      response.end('done');
    });
  });
  server.on('connect', (incoming, socket) => {
    asked.push(`${incoming.method} 0`);
    // The proxy has no use for the connection.
    socket.on('error', () => socket.destroy());
    socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
  });
  server.maxHeadersCount = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  t.teardown(close);
  const { port } = server.address() as AddressInfo;
  return { name, address: at(`127.0.0.1:${port}`), asked: () => asked, close };
}

/** nginx, by its access log; undefined when it is not installed. */
export async function startNginx(t: Test): Promise<CountingServer | undefined> {
  const nginx = requirePeer(t, 'nginx');
  if (nginx === undefined) return undefined;
  const [folder, port] = [folderFor(t), await freePort()];
  const log = join(folder, 'asked.log');
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
events {}
http {
  log_format asked '$request_method $status';
  access_log ${log} asked;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
  uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  large_client_header_buffers 8 128k; keepalive_requests 10000;
  server { listen 127.0.0.1:${port}; location / { return 200 done; } }
}
`,
  );
  await start(t, port, nginx, ['-p', folder, '-c', join(folder, 'nginx.conf')]);
  const asked = () =>
    readFileSync(log, 'utf8')
      .split('\n')
      // It logs what it refuses as well.
      .filter((line) => line.endsWith(' 200'));
  return { name: 'nginx', address: at(`127.0.0.1:${port}`), asked };
}

/** haproxy in front of Node, which counts what haproxy has let through; undefined when it is not installed. */
export async function startHaproxy(t: Test): Promise<CountingServer | undefined> {
  const haproxy = requirePeer(t, 'haproxy');
  if (haproxy === undefined) return undefined;
  const node = await startNode(t, 'haproxy');
  const [folder, port] = [folderFor(t), await freePort()];
  writeFileSync(
    join(folder, 'haproxy.cfg'),
    `global
  tune.bufsize 131072
  tune.http.maxhdr 512
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend f
  bind 127.0.0.1:${port}
  default_backend b
backend b
  server s ${node.address}
`,
  );
  await start(t, port, haproxy, ['-db', '-f', join(folder, 'haproxy.cfg')]);
  return { ...node, address: at(`127.0.0.1:${port}`) };
}

const PYTHON = `
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1
    def log_message(self, *args): pass
    def __getattr__(self, name):
        if name.startswith('do_'): return self.any
        raise AttributeError(name)
    def any(self):
        length = int(self.headers.get('Content-Length', '0'))
        body = self.rfile.read(length)
        if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
            while True:
                size = int(self.rfile.readline().split(b';')[0], 16)
                if size == 0: break
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b'\\r\\n', b''): pass
        print(self.command, len(body), flush=True)
        self.send_response(200)
        self.send_header('Content-Length', '4')
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(b'done')
http.client._MAXLINE = 131072
http.client._MAXHEADERS = 512
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
`;

/** The server of Python's library; undefined when it is not installed. */
export async function startPython(t: Test): Promise<CountingServer | undefined> {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return undefined;
  const port = await freePort();
  const said = await start(t, port, python, ['-c', PYTHON, String(port)]);
  const asked = () =>
    said()
      .split('\n')
      .filter((line) => line !== '');
  return { name: 'python', address: at(`127.0.0.1:${port}`), asked };
}

/** @returns what it has said on its standard output so far */
async function start(t: Test, port: number, path: string, args: readonly string[]): Promise<() => string> {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close');
  let [said, complained] = ['', ''];
  child.stdout.on('data', (text) => {
    said += text;
  });
  child.stderr.on('data', (text) => {
    complained += text;
  });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await eventually(`${path} listens`, async () => {
    if (child.exitCode !== null) throw new Error(`${path} ended with ${child.exitCode}: ${complained}`);
    return (await accepts(port)) ? true : undefined;
  });
  return () => said;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true));
    socket.on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

/** For programs that cannot be told to choose one. */
async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function folderFor(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-servers-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
