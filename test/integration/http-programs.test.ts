/** HTTP clients and servers of others through every route: ab, wrk, h2load, fetch, WebSocket; nginx, Apache, haproxy. */
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { pieces, startApplication, streamDigest } from '../support/http-application.ts';
import { run, startServer } from '../support/http-programs.ts';
import { startRoutes } from '../support/http-routes.ts';
import { FILE_BYTES, HTTP_SERVERS, LOADS } from '../support/http-servers.ts';
import { requirePeer } from '../support/peers.ts';

/** Of the handshake (RFC 6455 section 1.3). */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

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
    await loadAll(t, name, `http://${address}/body?n=1000&framing=length`);
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

/** Every client that makes load, one after the other. */
async function loadAll(t: Test, what: string, url: string): Promise<void> {
  for (const { program, args, right } of LOADS) {
    const path = requirePeer(t, program);
    if (path === undefined) continue;
    const { stdout, stderr } = await run(path, [...args, url]);
    t.match(stdout, right, `${what}: ${program} ${args.join(' ')} ${stderr}`);
  }
}

for (const server of HTTP_SERVERS) {
  t.test(server.name, async (t) => {
    const command = requirePeer(t, server.program);
    const curl = requirePeer(t, 'curl');
    if (command === undefined || curl === undefined) return;
    const { address: application } = await startServer(t, command, server);
    const { routes, idle } = await startRoutes(t, application);
    for (const { name, address } of routes) {
      const url = `http://${address}/file`;
      for (let n = 0; n < 5; n++) {
        const answer = await fetch(url);
        const hash = createHash('sha256').update(new Uint8Array(await answer.arrayBuffer()));
        t.equal(hash.digest('hex'), streamDigest(FILE_BYTES), name);
      }
      t.equal((await fetch(url, { method: 'HEAD' })).status, 200);
      t.equal((await fetch(`http://${address}/none`)).status, 404);
      await unwanted(t, name, curl, url, server.statusOfPost);
      await loadAll(t, name, `http://${address}/small`);
    }
    await idle();
  });
}

/** A body nobody wants, answered while it may still be on its way, and the client's next request. */
async function unwanted(t: Test, what: string, curl: string, url: string, status: number): Promise<void> {
  const quiet = ['-sS', '-o', '/dev/null', '-w', '%{http_code} '];
  const post = ['-H', 'Expect:', '--data-binary', '@-', url];
  for (const framing of [[], ['-H', 'Transfer-Encoding: chunked'], ['-0']]) {
    const args = [...quiet, ...framing, ...post, '--next', ...quiet, url];
    const { stdout, stderr } = await run(curl, args, Buffer.concat([...pieces(FILE_BYTES)]));
    t.equal(stdout, `${status} 200 `, `${what}: a body nobody wants ${framing} ${stderr}`);
  }
}
