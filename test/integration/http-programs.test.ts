/** HTTP clients and servers of others through every route: ab, wrk, h2load, fetch, WebSocket; nginx, Apache, haproxy. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { pieces, startApplication, streamDigest } from '../support/http-application.ts';
import { run, startServer } from '../support/http-programs.ts';
import { startRoutes } from '../support/http-routes.ts';
import { requirePeer } from '../support/peers.ts';

/** Of the handshake (RFC 6455 section 1.3). */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** Clients that make load: their arguments, and what they say when nothing failed. */
const LOADS: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['ab', ['-q', '-n', '300', '-c', '4'], /Complete requests: +300\nFailed requests: +0\n/],
  ['ab', ['-q', '-k', '-n', '300', '-c', '4'], /Failed requests: +0\nKeep-Alive requests: +300\n/],
  ['wrk', ['-d', '1', '-c', '8', '-t', '1'], /^(?![\s\S]*(Socket errors|Non-2xx))[\s\S]*requests in/],
  ['h2load', ['--h1', '-D', '1', '-c', '8'], / 0 failed, 0 errored, 0 timeout/],
];

t.test('clients', async (t) => {
  const application = await startApplication(t);
  application.server.on('upgrade', ({ headers }, socket: Duplex) => {
    const accept = createHash('sha1')
      .update(`${headers['sec-websocket-key']}${WEBSOCKET_GUID}`)
      .digest('base64');
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n');
    // A text frame of two bytes, in one piece with the head.
    socket.write(Buffer.from(`Sec-WebSocket-Accept: ${accept}\r\n\r\n\x81\x02hi`, 'latin1'));
    // The first frame is the client's close.
    socket.on('error', () => socket.destroy()).once('data', () => socket.end());
  });
  const { routes, idle } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    for (const [program, args, right] of LOADS) {
      const path = requirePeer(t, program);
      if (path === undefined) continue;
      const { stdout, stderr } = await run(path, [...args, `http://${address}/body?n=1000&framing=length`]);
      t.match(stdout, right, `${name}: ${program} ${args.join(' ')} ${stderr}`);
    }
    const body = new Uint8Array(100_000);
    const answer = await fetch(`http://${address}/echo`, { method: 'POST', body });
    t.strictSame(new Uint8Array(await answer.arrayBuffer()), body, `${name}: fetch`);
    t.equal(await greeting(address), 'hi', `${name}: WebSocket`);
  }
  await idle();
});

function greeting(address: SocketAddress): Promise<string> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://${address}/`);
    socket.addEventListener('error', () => resolve('an error'));
    socket.addEventListener('message', ({ data }) => {
      resolve(String(data));
      socket.close();
    });
  });
}

const FILE_BYTES = 1_000_000;

/** A file of that many bytes by `pieces` of stream 0. */
function writeFile(folder: string): void {
  writeFileSync(join(folder, 'file'), Buffer.concat([...pieces(FILE_BYTES)]));
}

async function throughAll(t: Test, address: SocketAddress): Promise<void> {
  const { routes, idle } = await startRoutes(t, address);
  for (const route of routes) {
    for (let n = 0; n < 5; n++) {
      const answer = await fetch(`http://${route.address}/file`);
      const hash = createHash('sha256').update(new Uint8Array(await answer.arrayBuffer()));
      t.equal(hash.digest('hex'), streamDigest(FILE_BYTES), route.name);
    }
    t.equal((await fetch(`http://${route.address}/file`, { method: 'HEAD' })).status, 200);
    t.equal((await fetch(`http://${route.address}/none`)).status, 404);
  }
  await idle();
}

t.test('nginx', async (t) => {
  const nginx = requirePeer(t, 'nginx');
  if (nginx === undefined) return;
  const configure = (folder: string, port: number) => {
    writeFile(folder);
    return `user root; daemon off; pid ${folder}/pid; error_log stderr; events {}
http { access_log off; keepalive_timeout 2s 2s; server { listen 127.0.0.1:${port}; root ${folder}; } }`;
  };
  const args = (folder: string) => ['-p', folder, '-c', `${folder}/server.conf`];
  await throughAll(t, await startServer(t, nginx, configure, args));
});

t.test('Apache', async (t) => {
  const apache = requirePeer(t, 'apache2');
  if (apache === undefined) return;
  const configure = (folder: string, port: number) => {
    writeFile(folder);
    const modules = ['mpm_event', 'authz_core'].map(
      (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
    );
    return `${modules.join('\n')}
Listen 127.0.0.1:${port}
ServerName app
PidFile ${folder}/pid
ErrorLog ${folder}/error
DocumentRoot ${folder}
KeepAliveTimeout 2
`;
  };
  const args = (folder: string) => ['-f', `${folder}/server.conf`, '-D', 'FOREGROUND'];
  await throughAll(t, await startServer(t, apache, configure, args));
});

t.test('haproxy', async (t) => {
  const haproxy = requirePeer(t, 'haproxy');
  if (haproxy === undefined) return;
  const configure = (folder: string, port: number) => {
    writeFile(folder);
    return `defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  timeout http-keep-alive 4s
global
  tune.bufsize 1100000
frontend f
  bind 127.0.0.1:${port}
  http-request return status 200 content-type application/octet-stream file ${folder}/file if { path /file }
  http-request return status 404
`;
  };
  await throughAll(t, await startServer(t, haproxy, configure, (folder) => ['-f', `${folder}/server.conf`]));
});
