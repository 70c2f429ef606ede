/** Servers that lie about their responses: a client gets its own response, a 502 or a cut, and never what was meant for another. */
import type { Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { MAX_HEAD_BYTES } from '../../proxy/http/problems.ts';
import { until } from '../support/engine.ts';
import { dial, serve } from '../support/engine-peers.ts';
import { forAll, startBoth, startSidecars, startWay, talk, WAYS } from '../support/http-corpus-rig.ts';
import { RESPONSE_CORPUS, type ResponseCase } from '../support/http-response-corpus.ts';

/** Bytes of a response by the number in the path. */
async function serveCases(t: Test, cases: readonly ResponseCase[]): Promise<SocketAddress> {
  const { address } = await serve(t, ({ socket }) => {
    socket.on('data', (bytes) => {
      const number = /^\w+ (?:\/case\/|case-)(\d+)/.exec(bytes.toString('latin1'))?.[1];
      const one = number === undefined ? undefined : cases[Number(number)];
      socket.write(one?.bytes ?? 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean', 'latin1');
      // What ends with the connection has to end.
      if (one?.close === true) socket.end();
    });
    socket.on('end', () => socket.end());
  });
  return address;
}

function requestFor({ method }: ResponseCase, index: number): string {
  if (method === 'CONNECT') return `CONNECT case-${index}:80 HTTP/1.1\r\nHost: case-${index}:80\r\n\r\n`;
  return `${method ?? 'GET'} /case/${index} HTTP/1.1\r\nHost: shop\r\n\r\n`;
}

const CLEAN = 'GET /clean HTTP/1.1\r\nHost: shop\r\n\r\n';

for (const way of WAYS) {
  t.test(`${way}: what is no response is a 502, and the client's next request is its own`, async (t) => {
    const { proxy, address } = await startWay(t, await serveCases(t, RESPONSE_CORPUS), way);
    const cases = [...RESPONSE_CORPUS.entries()];
    await forAll(cases, async ([index, one]) => {
      const { name, expected, method, bytes } = one;
      const { statuses, text, closed } = await talk(address, requestFor(one, index) + CLEAN, { end: true });
      const last = text.slice(text.lastIndexOf('HTTP/1.1 200 OK\r\n'));
      const tunnel = method === 'CONNECT';
      t.ok(closed, name);
      t.notMatch(text, /poison/, `${name}: what nobody asked for is nobody's`);
      if ('refused' in expected && expected.part === 'head') {
        t.strictSame(statuses, tunnel ? [502] : [502, 200], name);
        if (!tunnel) t.match(last, /\r\n\r\nclean$/, name);
      } else if ('refused' in expected) {
        t.strictSame(statuses, [200], `${name}: cut`);
        t.notMatch(text, /\r\n0\r\n/, `${name}: and seen to be cut`);
      } else if (bytes.startsWith('HTTP/1.1 101')) {
        t.strictSame(statuses, [502, 200], `${name}: nobody had asked for another protocol`);
      } else if (!tunnel) {
        t.match(last, /\r\n\r\nclean$/, `${name}: the next one is clean`);
        t.strictSame(statuses, [...(one.statuses ?? [statusOf(bytes)]), 200], name);
      }
    });
    // Many more, on whatever connections are left.
    await forAll(cases, async () => {
      const { text } = await talk(address, CLEAN + CLEAN + CLEAN, { end: true });
      t.match(text, /^(HTTP\/1\.1 200 OK\r\n[\s\S]*?\r\n\r\nclean){3}$/);
      t.notMatch(text, /poison|hello/);
    });
    await proxy.until('tcp_open_connections', { peer: 'src' }, (open) => open === 0);
    t.equal(await proxy.sum('ferrule_worker_restarts_total'), 0);
  });
}

function statusOf(bytes: string): number {
  return Number(/^HTTP\/1\.[01] (\d{3})/.exec(bytes)?.[1]);
}

const POISON = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';

t.test('bytes on a connection that waits destroy it', async (t) => {
  for (const unsolicited of [POISON, 'x', '\r\n', 'HTTP/1.1 408 Request Timeout\r\n\r\n']) {
    const sockets: Socket[] = [];
    const server = await serve(t, ({ socket }) => {
      sockets.push(socket);
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean'));
    });
    const { outbound } = await startBoth(t, server.address);
    const client = await dial(t, outbound);
    client.socket.write(CLEAN);
    await until(() => client.text.endsWith('clean'), 'the first response');
    sockets[0].write(unsolicited);
    const [first] = server.peers;
    await until(() => first.closed, 'the end of the connection');
    client.socket.write(CLEAN);
    await until(() => /clean[\s\S]*clean$/.test(client.text), 'the second response');
    t.equal(server.peers.length, 2, 'on a new connection');
    t.notMatch(client.text, /poison|408/);
  }
});

t.test('bytes that race with the next request cost nobody an answer', async (t) => {
  const server = await serve(t, ({ socket }) => {
    let asked = 0;
    socket.on('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean');
      if (asked++ === 0) setImmediate(() => socket.write(POISON));
    });
    socket.on('error', () => socket.destroy());
  });
  const { proxy, outbound } = await startBoth(t, server.address);
  let served = 0;
  for (let round = 0; round < 60; round++) {
    const { statuses } = await talk(outbound, CLEAN, { end: true });
    if (statuses[0] === 200) served++;
  }
  t.equal(served, 60);
  t.equal(await proxy.sum('ferrule_worker_restarts_total'), 0);
});

t.test('the longest head there may be leaves room for what sidecars say to each other', async (t) => {
  const bare = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nPad: \r\n\r\n';
  const longest = bare.replace('Pad: ', `Pad: ${'x'.repeat(MAX_HEAD_BYTES - bare.length)}`);
  const { address: server } = await serve(t, ({ socket }) => {
    socket.on('data', () => socket.write(`${longest}clean`));
    socket.on('end', () => socket.end());
  });
  const { address } = await startSidecars(t, server);
  const first = await talk(address, CLEAN, { end: true });
  t.strictSame(first.statuses, [200]);
  t.ok(first.text.length >= longest.length, 'all of it came');
  t.notMatch(first.text, /l5d-/i);
});
