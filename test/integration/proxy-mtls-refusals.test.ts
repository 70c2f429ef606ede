/** What mutual TLS refuses, in both roles: each with a reset or an alert, one log line and one count that say why. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { encodeTransportHeader, TRANSPORT_ALPN } from '../../proxy/tls/transport-header.ts';
import { at } from '../support/engine.ts';
import { type PeerServer, serve } from '../support/engine-peers.ts';
import { exchange, serveEcho } from '../support/exchange.ts';
import {
  makeIdentities,
  newAuthority,
  type TestIdentities,
  type TestIdentity,
  type Variation,
} from '../support/identities.ts';
import { requirePeer } from '../support/peers.ts';
import { listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';
import { runTlsClient, startTlsServer, type TlsClientOptions } from '../support/tls-peer.ts';

const HOUR_MS = 3_600_000;
const ACCOUNT = 'spiffe://cluster.local/ns/default/sa';
const WEB_DNS = 'web.default.serviceaccount.identity.linkerd.cluster.local';
const API_DNS = 'api.default.serviceaccount.identity.linkerd.cluster.local';

/** Certificates nobody may accept: what is wrong with them, and how it is said. */
interface BadCertificate {
  readonly name: string;
  readonly variation: Variation;
  /** Signed by somebody nobody trusts. */
  readonly stranger?: boolean;
  readonly fault: string;
  readonly says: RegExp;
}

function badCertificates(dns: string): readonly BadCertificate[] {
  const spiffe = `${ACCOUNT}/${dns.slice(0, 3)}`;
  const nowMs = Date.now();
  return [
    { name: 'wrong CA', variation: {}, stranger: true, fault: 'unknown_ca', says: /issuer|trust|chain/ },
    {
      name: 'expired',
      variation: { nowMs: nowMs - 2 * HOUR_MS, lifetimeMs: HOUR_MS },
      fault: 'expired',
      says: /expired .*our clock says/,
    },
    {
      name: 'not yet valid',
      variation: { notBeforeMs: nowMs + HOUR_MS },
      fault: 'not_yet_valid',
      says: /not yet valid .*our clock says/,
    },
    {
      name: 'two URI names',
      variation: {
        names: [
          { type: 'dns', value: dns },
          { type: 'url', value: spiffe },
          { type: 'url', value: `${ACCOUNT}/admin` },
        ],
      },
      fault: 'name',
      says: /more than one URI name/,
    },
    {
      name: 'NUL in a name',
      variation: { names: [{ type: 'dns', value: `${dns}\0.evil.example` }] },
      fault: 'name',
      says: /NUL/,
    },
    { name: 'CA flag', variation: { isCa: true }, fault: 'certificate', says: /authority/ },
    {
      name: 'key usage',
      variation: { keyUsages: ['keyAgreement'] },
      fault: 'certificate',
      says: /key usage/,
    },
    {
      name: 'two accounts',
      variation: {
        names: [
          { type: 'dns', value: dns },
          { type: 'url', value: `${ACCOUNT}/admin` },
        ],
      },
      fault: 'name',
      says: /different accounts/,
    },
  ];
}

t.test('endpoints that are not who they should be get nothing, and the next one is tried', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const identities = await makeIdentities(t);
  const web = await identities.make('web');
  const good = await serveMeshed(t, python, await identities.make('api'));
  const cases = [
    ...badCertificates(API_DNS),
    {
      name: 'somebody else',
      variation: { names: [{ type: 'dns', value: WEB_DNS }] },
      fault: 'identity',
      says: /it is web\.default.* and not spiffe:.*api/,
    } as const,
  ];
  const stranger = await newAuthority();
  for (const { name, variation, fault, says, ...rest } of cases) {
    const signer = 'stranger' in rest && rest.stranger ? stranger : identities.authority;
    const bad = await serveMeshed(t, python, await identities.make('api', variation, signer));
    await expectMovesOn(t, { web, bad: bad.address, good: good.address, fault, says, name });
    const report = await bad.next();
    t.equal(report.bytes, 0, `${name}: not one byte of the application`);
    t.equal((await good.next()).data, '!hello from the client', `${name}: the other endpoint got it`);
  }
});

t.test('endpoints that do not speak our TLS', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const good = await serveMeshed(t, python, api);
  const old = await serveMeshed(t, python, api, { tls12: true });
  await expectMovesOn(t, {
    name: 'TLS 1.2',
    web,
    bad: old.address,
    good: good.address,
    fault: 'version',
    says: /version|protocol/,
  });
  t.equal((await old.next()).bytes, 0);
  const stalled = await serveMeshed(t, python, api, { misbehave: 'stall' });
  await expectMovesOn(t, {
    name: 'a stalled handshake',
    web,
    bad: stalled.address,
    good: good.address,
    fault: 'timeout',
    says: /did not finish it in time/,
  });
  const heard: Buffer[] = [];
  const plain = createServer((socket) => {
    socket.on('data', (bytes) => heard.push(bytes)).on('error', () => socket.destroy());
    socket.write('220 I speak plaintext\r\n');
  }).listen(0, '127.0.0.3');
  t.teardown(() => {
    plain.close();
  });
  await once(plain, 'listening');
  await expectMovesOn(t, {
    name: 'plaintext',
    web,
    bad: at(`127.0.0.3:${(plain.address() as { port: number }).port}`),
    good: good.address,
    fault: 'plaintext',
    says: /the endpoint answers in plaintext/,
  });
  t.notOk(Buffer.concat(heard).includes('hello'), 'it was never sent to');
});

t.test('a server that refuses our certificate is an error, not an end', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const identities = await makeIdentities(t);
  const other = await newAuthority();
  const web = await identities.make('web', {}, other);
  web.trust(identities.authority, other);
  const api = await serveMeshed(t, python, await identities.make('api'));
  const proxy = await startClientSide(t, web, [api.address]);
  const failure = await exchange(proxy.listeners[0], 1, 100);
  t.equal(failure, 'read ECONNRESET');
  t.match(await proxy.logged(/ended TLS with an alert/), { alert: 'unknown_ca', direction: 'outbound' });
  t.equal(await proxy.sum('ferrule_tls_alerts_total', { alert: 'unknown_ca', sender: 'peer' }), 1);
});

t.test('clients whose certificates are wrong', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const { identities, api, proxy, application, address } = await startServerSide(t, 'all-unauthenticated');
  const stranger = await newAuthority();
  for (const { name, variation, fault, says, stranger: strange } of badCertificates(WEB_DNS)) {
    const bad = await identities.make('web', variation, strange ? stranger : identities.authority);
    const seen = proxy.records.length;
    const report = await runTlsClient(t, python, address.port, {
      ...filesOf(bad),
      sni: api.serverName,
      send: '!',
      expect: 1,
    });
    t.not(report.ended, 'close_notify', `${name}: ${report.ended} ${report.error ?? ''}`);
    t.equal(report.bytes, 0);
    const reason =
      fault === 'name' || /authority|key usage/.test(says.source) ? 'tls_identity' : 'tls_handshake';
    t.match(await proxy.logged(says, seen), { level: 'warn', direction: 'inbound', reason }, name);
    await proxy.until('ferrule_tls_handshakes_total', { direction: 'inbound', error: fault }, (n) => n > 0);
  }
  t.equal(bytesAt(application), 0, 'nothing reached the application');
  await proxy.idle();
});

t.test('clients that do not speak our TLS', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const { identities, api, proxy, application, address } = await startServerSide(t, 'all-unauthenticated');
  const web = await identities.make('web');
  const expect = async (options: TlsClientOptions, reason: string, says: RegExp) => {
    const seen = proxy.records.length;
    const before = await proxy.sum('inbound_tcp_errors_total', { error: reason });
    await runTlsClient(t, python, address.port, { ...filesOf(web), sni: api.serverName, ...options });
    t.match(await proxy.logged(says, seen), { direction: 'inbound', reason }, String(says));
    await proxy.until('inbound_tcp_errors_total', { error: reason }, (count) => count === before + 1);
  };
  await expect({ tls12: true }, 'tls_handshake', /unsupported protocol|version/);
  await expect({ misbehave: 'oversized-hello' }, 'tls_hello', /malformed: it is \d+ bytes long/);
  await expect({ misbehave: 'stall', timeout: 1 }, 'tls_hello', /in the middle of a TLS ClientHello/);
  t.equal(bytesAt(application), 0);
  // Any size and any split of an honest one.
  for (const split of [{ segmentBytes: 1 }, { recordBytes: 7 }, { recordBytes: 1, segmentBytes: 11 }]) {
    const report = await runTlsClient(t, python, address.port, {
      ...filesOf(web),
      sni: api.serverName,
      send: '!hello',
      ...split,
    });
    t.equal(report.data, '!hello', JSON.stringify(split));
    t.strictSame(report.sans?.[0], ['DNS', API_DNS]);
  }
  await proxy.idle();
});

t.test('the application has TLS of its own: another server name, or none, is not ours', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const identities = await makeIdentities(t);
  const api = await identities.make('api');
  const own = await identities.make('web');
  const server = await startTlsServer(t, python, { ...filesOf(own), trustAnyone: true });
  const proxy = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: server.port }] },
  });
  for (const sni of [WEB_DNS, undefined]) {
    const report = await runTlsClient(t, python, proxy.listeners[0].port, {
      ca: own.paths.trustAnchors,
      send: 'inner',
      anyName: true,
      ...(sni === undefined ? {} : { sni }),
    });
    t.equal(report.data, 'inner');
    t.strictSame(report.sans?.[0], ['DNS', WEB_DNS], 'the certificate is the application’s');
    await server.next();
  }
  t.equal(await proxy.sum('tcp_open_total', { peer: 'src', tls: 'opaque' }), 2);
});

t.test('a port that demands identity', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  // From an interface's address to itself: it stays within the host, but is not loopback.
  const host = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === 'IPv4' && !address.internal)?.address;
  if (host === undefined) {
    t.plan(0, 'this host has no IPv4 address besides loopback');
    return;
  }
  const { identities, api, proxy, application, address } = await startServerSide(t, 'all-authenticated');
  const web = await identities.make('web');
  const target = { host, sni: api.serverName };
  const named = await runTlsClient(t, python, address.port, { ...filesOf(web), ...target, send: '!named' });
  t.equal(named.data, '!named');
  const nameless = await runTlsClient(t, python, address.port, {
    ca: web.paths.trustAnchors,
    ...target,
    send: '!',
  });
  t.equal(nameless.bytes, 0, 'TLS without a certificate is nobody');
  t.match(await proxy.logged(/policy all-authenticated does not let/), { reason: 'policy' });
  const seen = proxy.records.length;
  const plain = connect({ port: address.port, host });
  plain.write('GET / HTTP/1.1\r\n\r\n');
  const [error] = await once(plain, 'error');
  t.equal(error.code, 'ECONNRESET');
  t.match(await proxy.logged(/policy all-authenticated does not let/, seen), { reason: 'policy' });
  t.equal(application.peers.length, 1);
  await proxy.idle();
});

t.test('connections to the inbound port itself', async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const application = await serveEcho(t);
  const proxy = await startTestProxy(t, {
    identity: api.settings,
    // Below the ports the kernel gives away.
    inbound: { listen: [`127.0.0.1:${20_000 + (process.pid % 10_000)}`] },
  });
  const { port } = proxy.listeners[0];
  const direct = { ...filesOf(web), sni: api.serverName, alpn: [TRANSPORT_ALPN] };
  const good = await runTlsClient(t, python, port, {
    ...direct,
    header: { port: application.address.port },
    send: '!hello',
  });
  t.equal(good.data, '!hello');
  t.equal(good.alpn, TRANSPORT_ALPN);
  const refused = async (
    options: TlsClientOptions,
    reason: string,
    says: RegExp,
    client: object = direct,
  ) => {
    const seen = proxy.records.length;
    const report = await runTlsClient(t, python, port, { ...client, send: '!', expect: 1, ...options });
    t.equal(report.bytes, 0, String(says));
    t.match(await proxy.logged(says, seen), { direction: 'inbound', reason }, String(says));
  };
  const header = { port: application.address.port };
  await refused({ alpn: [], header }, 'transport_header', /does not speak transport\.l5d\.io/);
  await refused({ send: 'GET / HTTP/1.1\r\n\r\n' }, 'transport_header', /does not begin like one/);
  await refused({ header: { port } }, 'own_port', /names port \d+ of this proxy/);
  await refused({ header: { port: 80, name: 'web.default' } }, 'transport_header', /is no gateway/);
  const { cert: _cert, key: _key, ...nameless } = direct;
  await refused({ header }, 'policy', /needs a client with an identity/, nameless);
  await refused({ header, sni: WEB_DNS }, 'own_port', /only mutual TLS with this proxy/);
  const seen = proxy.records.length;
  const plain = connect({ port, host: '127.0.0.1' });
  plain.write(encodeTransportHeader(header));
  t.equal((await once(plain, 'error'))[0].code, 'ECONNRESET', 'plaintext is refused');
  t.match(await proxy.logged(/only mutual TLS with this proxy/, seen), { reason: 'own_port' });
  t.notOk(
    proxy.records.some(({ message }) => String(message).includes('a worker threw')),
    'by a decision',
  );
  t.equal(application.peers.length, 1);
  await proxy.idle();
});

/** What an application was sent. That it was dialled says nothing: it may speak first, and a slow client looks silent. */
function bytesAt({ peers }: PeerServer): number {
  return peers.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
}

/** A server in Python with the files of an identity. */
async function serveMeshed(
  t: Test,
  python: string,
  identity: TestIdentity,
  options: Parameters<typeof startTlsServer>[2] = {},
) {
  // An address of its own: an identity is that of every port of an address.
  const host = `127.1.${(addresses >> 8) & 255}.${addresses++ & 255}`;
  const server = await startTlsServer(t, python, { ...filesOf(identity), ...options }, host);
  return { address: at(`${host}:${server.port}`), next: () => server.next() };
}

let addresses = 256;

async function startClientSide(t: Test, web: TestIdentity, endpoints: readonly SocketAddress[]) {
  const identity = `${ACCOUNT}/api`;
  return startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('api'),
    mesh: {
      'api.yaml': serviceYaml(
        'api',
        endpoints.map((address) => ({ address, identity })),
      ),
    },
  });
}

/** One bad endpoint alone is a refusal; with a good one beside it, every connection gets there. */
async function expectMovesOn(
  t: Test,
  options: {
    name: string;
    web: TestIdentity;
    bad: SocketAddress;
    good: SocketAddress;
    fault: string;
    says: RegExp;
  },
): Promise<void> {
  const { name, web, bad, good, fault, says } = options;
  const proxy = await startClientSide(t, web, [bad]);
  const client = connect({ port: proxy.listeners[0].port, host: '127.0.0.1' });
  client.write('!must not get anywhere');
  t.equal((await once(client, 'error'))[0].code, 'ECONNRESET', `${name}: refused`);
  t.match(await proxy.logged(says), { level: 'warn', direction: 'outbound', reason: 'upstream_tls' }, name);
  const failed = [...(await proxy.samples())].filter(
    ([series]) => series.startsWith('ferrule_tls_handshakes_total') && series.includes('failed'),
  );
  t.ok(failed.length === 1 && failed[0][0].match(fault), `${name}: ${failed}`);
  const mixed = await startClientSide(t, web, [bad, good]);
  const through = connect({ port: mixed.listeners[0].port, host: '127.0.0.1' });
  through.write('!hello from the client');
  t.equal(
    String((await once(through, 'data'))[0]),
    '!hello from the client',
    `${name}: the good endpoint answers`,
  );
  through.end();
  await once(through, 'close');
  await mixed.idle();
}

async function startServerSide(
  t: Test,
  policy: string,
): Promise<{
  identities: TestIdentities;
  api: TestIdentity;
  proxy: TestProxy;
  application: PeerServer;
  address: SocketAddress;
}> {
  const identities = await makeIdentities(t);
  const api = await identities.make('api');
  const application = await serve(t, ({ socket }) => {
    socket.pipe(socket);
  });
  const proxy = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '0.0.0.0:0', port: application.address.port, policy }] },
  });
  return { identities, api, proxy, application, address: proxy.listeners[0] };
}

function filesOf(identity: TestIdentity) {
  const { certificate, key, trustAnchors } = identity.paths;
  return { cert: certificate, key, ca: trustAnchors };
}
