/** Fields that concern one connection end with it, and nobody says for a client who it is. */
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { serve } from '../support/engine-peers.ts';
import { startBoth, startWay, talk, WAYS } from '../support/http-corpus-rig.ts';
import { makeIdentities } from '../support/identities.ts';
import { listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

/** A server that keeps the heads it is sent, and answers with `lines` in its own. */
async function serveHeads(t: Test, lines: readonly string[] = []) {
  const heads: string[] = [];
  const { address } = await serve(t, ({ socket }) => {
    socket.on('data', (bytes) => {
      heads.push(bytes.toString('latin1'));
      socket.write(['HTTP/1.1 200 OK', 'Content-Length: 0', ...lines, '', ''].join('\r\n'));
    });
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
  });
  return { heads, address };
}

async function ask(address: SocketAddress, lines: readonly string[]) {
  const request = ['GET / HTTP/1.1', 'Host: shop', ...lines, '', ''].join('\r\n');
  return talk(address, request, { end: true });
}

const FORGED = [
  'l5d-client-id: admin.forged',
  'L5D-Client-ID: admin.forged',
  'l5d_client_id: admin.forged',
  'l5d.client.id: admin.forged',
  'L5d-Orig-Proto: HTTP/2 forged',
  'l5d-anything: forged',
];

for (const way of WAYS) {
  t.test(`${way}: what a hop keeps to itself`, async (t) => {
    const { heads, address: server } = await serveHeads(t, [
      'Connection: X-Answer, Keep-Alive',
      'X-ANSWER: secret',
      'Keep-Alive: timeout=20',
      'Proxy-Connection: secret',
      'X-Kept: kept',
    ]);
    const { address } = await startWay(t, server, way);
    heads.length = 0;
    const { statuses, text } = await ask(address, [
      'Connection: x-one, , X-TWO',
      'connection: X-three',
      'X-One: secret',
      'x-two: secret',
      'X-THREE: secret',
      'Keep-Alive: secret',
      'Proxy-Connection: secret',
      'TE: secret',
      'Upgrade: secret',
      'X-Kept: kept',
      ...FORGED,
    ]);
    t.strictSame(statuses, [200]);
    t.equal(heads.length, 1);
    // What inbound says itself of a client that has proved who it is.
    const head = way === 'multiplexed' ? heads[0].replace(/l5d-client-id: web\..*\r\n/, '') : heads[0];
    t.notMatch(head, /secret|forged|l5d/i);
    t.match(head, /X-Kept: kept\r\n/i);
    t.notMatch(text, /secret|timeout=20/);
    t.match(text, /X-Kept: kept\r\n/i);
  });
}

t.test('l5d-client-id is said by inbound, of a client it has authenticated, once', async (t) => {
  const { heads, address: server } = await serveHeads(t);
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const inbound = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: server.port, policy: 'all-unauthenticated' }] },
  });
  const [port] = inbound.listeners;
  const outbound = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', [{ address: port, identity: api.spiffe }]) },
  });
  t.strictSame((await ask(outbound.listeners[0], FORGED)).statuses, [200]);
  const [authenticated] = heads;
  t.match(authenticated, new RegExp(`\r\nl5d-client-id: ${web.serverName.replaceAll('.', '\\.')}\r\n`));
  t.equal(authenticated.match(/l5d/gi)?.length, 1);
  t.notMatch(authenticated, /forged/);
  t.strictSame((await ask(port, FORGED)).statuses, [200], 'in plaintext');
  t.notMatch(heads[1], /l5d|forged/i);
});

t.test('no spelling of a first line carries forged fields past the codec', async (t) => {
  const { heads, address: server } = await serveHeads(t);
  const { inbound } = await startBoth(t, server);
  const lines = ['GET / HTTP/1.1', 'GET / HTTP/0.9', 'GET / HTTP/2.0', 'GET\t/\tHTTP/1.1', 'GET / HTTP/1.1 '];
  const firsts = [...lines, ...['\r\n', '\n', '\r', '\r\n\r\n'].map((empty) => `${empty}GET / HTTP/1.1`)];
  for (const first of firsts) {
    const request = [first, 'Host: shop', ...FORGED, '', ''].join('\r\n');
    const { statuses } = await talk(inbound, request, { end: true });
    t.equal(statuses.length, 1, JSON.stringify(first));
  }
  t.notMatch(heads.join(''), /forged/);
});
