/** What comes behind an Upgrade or CONNECT waits for the server's consent; refused, it is nobody's request. */

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { at, until } from '../support/engine.ts';
import { dial } from '../support/engine-peers.ts';
import { OPENING, startBoth, talk } from '../support/http-corpus-rig.ts';

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n';

const UPGRADE = 'GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
const CONNECT = 'CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n';

/** A server that answers each head with what `answer` says, at once or when told. */
class Scripted {
  readonly seen: string[] = [];
  readonly sockets: Socket[] = [];
  readonly server: Server;

  constructor(answer: (head: string) => string) {
    this.server = createServer({ allowHalfOpen: true }, (socket) => {
      const index = this.seen.push('') - 1;
      this.sockets.push(socket);
      let rest = '';
      socket.on('error', () => socket.destroy());
      socket.on('end', () => socket.end());
      socket.on('data', (bytes) => {
        this.seen[index] += bytes.toString('latin1');
        rest += bytes.toString('latin1');
        for (let end = rest.indexOf('\r\n\r\n'); end >= 0; end = rest.indexOf('\r\n\r\n')) {
          const head = rest.slice(0, end + 4);
          rest = rest.slice(end + 4);
          socket.write(answer(head));
        }
      });
    });
  }

  static async start(t: Test, answer: (head: string) => string) {
    const scripted = new Scripted(answer);
    scripted.server.listen(0, '127.0.0.1');
    await once(scripted.server, 'listening');
    t.teardown(() => {
      for (const socket of scripted.sockets) socket.destroy();
      scripted.server.close();
    });
    const { port } = scripted.server.address() as AddressInfo;
    return { scripted, address: at(`127.0.0.1:${port}`) };
  }
}

const EMPTY = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';

for (const [name, request] of [
  ['Upgrade', UPGRADE],
  ['CONNECT', CONNECT],
] as const) {
  for (const status of [200, 400, 403, 426, 500]) {
    if (name === 'CONNECT' && status === 200) continue;
    t.test(`${name} refused with ${status}`, async (t) => {
      const refusal = `HTTP/1.1 ${status} No\r\nContent-Length: 2\r\n\r\nno`;
      const { scripted, address } = await Scripted.start(t, (head) =>
        /^GET \/opening/.test(head) ? EMPTY : refusal,
      );
      const { proxy, outbound, inbound } = await startBoth(t, address);
      for (const side of [outbound, inbound]) {
        for (const opening of [undefined, OPENING]) {
          const { statuses, closed, text } = await talk(side, request + SMUGGLED, { opening });
          const wanted = opening === undefined ? [status] : [200, status];
          t.strictSame({ statuses, closed }, { statuses: wanted, closed: true });
          t.match(text, /no$/);
        }
      }
      // Whoever comes next gets a connection on which nothing of this was.
      t.strictSame((await talk(outbound, OPENING, { end: true })).statuses, [200]);
      t.notMatch(scripted.seen.join(''), /smuggled/);
      for (const text of scripted.seen) t.notMatch(text, /(chat|CONNECT)[\s\S]*opening/, 'never pooled');
      await proxy.until('tcp_open_connections', { peer: 'src' }, (open) => open === 0);
    });
  }

  t.test(`${name} accepted: what waited goes through, untouched and only then`, async (t) => {
    const { scripted, address } = await Scripted.start(t, () => '');
    const { outbound } = await startBoth(t, address);
    const client = await dial(t, outbound);
    client.socket.write(`${request}\0early\r\n\r\n`, 'latin1');
    await until(() => scripted.seen.length === 1 && scripted.seen[0].endsWith('\r\n\r\n'), 'the head');
    client.socket.write('more', 'latin1');
    t.equal((await talk(outbound, 'x / HTTP/1.1\r\n\r\n')).statuses[0], 400, 'time has passed in the proxy');
    t.notMatch(scripted.seen[0], /early|more/, 'held');
    const consent =
      name === 'CONNECT'
        ? 'HTTP/1.1 200 OK\r\n\r\n'
        : 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
    scripted.sockets[0].write(`${consent}\xff\0hello`, 'latin1');
    await until(() => scripted.seen[0].endsWith('\0early\r\n\r\nmore'), 'what was held');
    await until(() => client.text.endsWith('\r\n\r\n\xff\0hello'), 'the other way');
    scripted.sockets[0].end();
    await until(() => client.ended, 'the end');
  });
}

t.test('upgrades that are none: what follows are requests', async (t) => {
  const { scripted, address } = await Scripted.start(t, () => EMPTY);
  const { outbound } = await startBoth(t, address);
  for (const fields of [
    'Upgrade: websocket\r\n',
    'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n',
    'Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n',
    'Connection: Upgrade\r\n',
  ]) {
    const request = `GET /chat HTTP/1.1\r\nHost: shop\r\n${fields}\r\n`;
    const { statuses } = await talk(outbound, request + OPENING, { end: true });
    t.strictSame(statuses, [200, 200], fields);
  }
  t.notMatch(scripted.seen.join(''), /upgrade|http2-settings|h2c/i);
});
