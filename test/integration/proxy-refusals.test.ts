/** What the proxy refuses in explicit mode: the client is reset, the log says why, the metric counts it. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at, until } from '../support/engine.ts';
import { dial, serve } from '../support/engine-peers.ts';
import { listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

/** An address of loopback for this process alone, so that fixed ports are free: the last byte is for the test. */
const OWN_IP = `127.${1 + ((process.pid >> 8) % 250)}.${process.pid % 256}`;

const IDENTITY = 'spiffe://cluster.local/ns/default/sa/web';

/** Dials, and asserts that the connection is reset with one line and one count of the reason. */
async function expectRefusal(
  t: Test,
  proxy: TestProxy,
  address: SocketAddress,
  refusal: { direction: 'inbound' | 'outbound'; reason: string; message: RegExp },
): Promise<void> {
  const { direction, reason, message } = refusal;
  const family = `${direction}_tcp_errors_total`;
  const before = await proxy.sum(family, { error: reason });
  const seen = proxy.records.length;
  const client = await dial(t, address);
  client.socket.write('must not get anywhere\n');
  await until(() => client.closed, 'the refusal');
  t.equal(client.error, 'ECONNRESET', `${reason}: reset, not closed as if it were complete`);
  t.equal(client.receivedBytes, 0);
  t.match(await proxy.logged(message, seen), { level: 'warn', direction, reason });
  await proxy.until(family, { error: reason }, (count) => count === before + 1);
  await proxy.idle();
}

t.test('services nobody knows, without endpoints, or with endpoints that are ourselves', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('stranger', 'empty', 'mirror'),
    mesh: { 'empty.yaml': serviceYaml('empty', []), 'mirror.yaml': serviceYaml('mirror', []) },
  });
  const [stranger, empty, mirror] = proxy.listeners;
  await expectRefusal(t, proxy, stranger, {
    direction: 'outbound',
    reason: 'unknown_destination',
    message: /no discovery source knows stranger\.default:80/,
  });
  await expectRefusal(t, proxy, empty, {
    direction: 'outbound',
    reason: 'no_endpoints',
    message: /service .*empty.* has no endpoints/,
  });
  proxy.writeMesh('mirror.yaml', serviceYaml('mirror', [{ address: mirror }, { address: empty }]));
  await becomes(t, proxy, mirror, 'own_port');
  await expectRefusal(t, proxy, mirror, {
    direction: 'outbound',
    reason: 'own_port',
    message: /every endpoint is a port of this proxy/,
  });
});

/** Dials until the reason is what a change of the resources makes it. */
async function becomes(t: Test, proxy: TestProxy, address: SocketAddress, reason: string): Promise<void> {
  await proxy.until('outbound_tcp_errors_total', { error: reason }, (count) => {
    if (count > 0) return true;
    dial(t, address).catch((error: Error) => t.fail(error.message));
    return false;
  });
  await proxy.idle();
}

t.test('our own address as an original destination', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: { listen: `${OWN_IP}.1:4140` },
    inbound: { listen: `${OWN_IP}.1:4143` },
  });
  const [outbound, inbound] = proxy.listeners;
  const refusal = { reason: 'own_port', message: /port of this proxy/ };
  await expectRefusal(t, proxy, outbound, { direction: 'outbound', ...refusal });
  await expectRefusal(t, proxy, inbound, { direction: 'inbound', ...refusal });
});

t.test('connections that were not redirected where they must have been', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: { listen: `${OWN_IP}.2:4140`, originalDst: 'required' },
    inbound: { listen: `${OWN_IP}.2:4143`, originalDst: 'required' },
  });
  const [outbound, inbound] = proxy.listeners;
  const refusal = { reason: 'not_redirected', message: /was not redirected/ };
  await expectRefusal(t, proxy, outbound, { direction: 'outbound', ...refusal });
  await expectRefusal(t, proxy, inbound, { direction: 'inbound', ...refusal });
});

t.test('an endpoint with an identity is never dialled in plaintext', async (t) => {
  const plain = await serve(t);
  const arrived: Socket[] = [];
  // On an IP of its own: what has an identity has it on all ports.
  const server = createServer((socket) => arrived.push(socket)).listen(0, '127.0.0.2');
  t.teardown(() => {
    server.close();
  });
  await once(server, 'listening');
  const address = at(`127.0.0.2:${(server.address() as AddressInfo).port}`);
  const guarded = { address, identity: IDENTITY };
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('guarded', 'mixed'),
    mesh: {
      'guarded.yaml': serviceYaml('guarded', [guarded]),
      'mixed.yaml': serviceYaml('mixed', [guarded, { address: plain.address }]),
    },
  });
  const [only, mixed] = proxy.listeners;
  await expectRefusal(t, proxy, only, {
    direction: 'outbound',
    reason: 'mtls_unavailable',
    message: /never sent in plaintext/,
  });
  for (let n = 0; n < 20; n++) (await dial(t, mixed)).socket.end();
  await until(() => plain.peers.length === 20, 'every connection at the endpoint without an identity');
  t.equal(await proxy.sum('tcp_open_total', { peer: 'dst' }), 20, 'nothing else was dialled');
  t.equal(await proxy.sum('ferrule_tcp_connect_failures_total'), 0, 'nor tried');
  const proof = connect(address.port, address.ip);
  t.teardown(() => {
    proof.destroy();
  });
  await until(() => arrived.length > 0, 'the proof');
  for (const socket of arrived) socket.destroy();
  t.equal(arrived.length, 1, 'the server accepts, and nothing arrived before this proof');
});

t.test('endpoints without an identity where one is required', async (t) => {
  const plain = await serve(t);
  const proxy = await startTestProxy(t, {
    outbound: { ...listenerFor('plain'), requireIdentity: true },
    mesh: { 'plain.yaml': serviceYaml('plain', [{ address: plain.address }]) },
  });
  await expectRefusal(t, proxy, proxy.listeners[0], {
    direction: 'outbound',
    reason: 'identity_required',
    message: /outbound\.requireIdentity/,
  });
  t.equal(plain.peers.length, 0, 'nothing ever arrived');
});

t.test('no endpoint that answers', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('dead'),
    inbound: { ports: [{ listen: '127.0.0.1:0', port: 1, policy: 'all-unauthenticated' }] },
    mesh: { 'dead.yaml': serviceYaml('dead', [{ address: at('127.0.0.1:1') }]) },
  });
  const [outbound, inbound] = proxy.listeners;
  const refusal = { reason: 'connect', message: /no endpoint could be reached; last: .*ECONNREFUSED/ };
  await expectRefusal(t, proxy, outbound, { direction: 'outbound', ...refusal });
  await expectRefusal(t, proxy, inbound, { direction: 'inbound', ...refusal });
});

t.test('discovery that does not answer in time, and later does', async (t) => {
  const origin = await serve(t);
  const proxy = await startTestProxy(t, {
    outbound: { ...listenerFor('late'), discoveryTimeout: '300ms' },
    mesh: {},
  });
  const begun = performance.now();
  await expectRefusal(t, proxy, proxy.listeners[0], {
    direction: 'outbound',
    reason: 'discovery_timeout',
    message: /outbound\.discoveryTimeout \(300 ms\)/,
  });
  t.ok(performance.now() - begun >= 300, 'it was held meanwhile');
  t.equal(await proxy.sum('ferrule_discovery_synced'), 0);
  proxy.writeMesh('late.yaml', serviceYaml('late', [{ address: origin.address }]));
  await proxy.until('ferrule_discovery_synced', {}, (synced) => synced === 1);
  await dial(t, proxy.listeners[0]);
  await origin.peer();
});

t.test('a connection held for discovery goes on when the answer comes', async (t) => {
  const origin = await serve(t);
  const proxy = await startTestProxy(t, {
    outbound: { ...listenerFor('late'), discoveryTimeout: '30s' },
    mesh: {},
  });
  const client = await dial(t, proxy.listeners[0]);
  client.socket.write('early\n');
  await proxy.until('tcp_open_connections', { peer: 'src' }, (open) => open === 1);
  proxy.writeMesh('late.yaml', serviceYaml('late', [{ address: origin.address }]));
  const server = await origin.peer();
  await until(() => server.text === 'early\n', 'what was written before there was an answer');
  t.equal(await proxy.sum('ferrule_engine_timers'), 0, 'the deadline of the wait is gone');
});

const POLICIES = ['all-unauthenticated', 'audit', 'deny', 'all-authenticated', 'cluster-unauthenticated'];

/** A single address, so that no host's network contains it by chance. */
const STRANGER = '198.51.100.77/32';

/** One explicit port per policy in front of a server, for every address of the host. */
async function policyPorts(t: Test, clusterNetworks: string[]) {
  const app = await serve(t);
  const { port } = app.address;
  const ports = POLICIES.map((policy) => ({ listen: '0.0.0.0:0', port, policy }));
  const proxy = await startTestProxy(t, { inbound: { clusterNetworks, ports } });
  return { app, proxy };
}

t.test('policies of inbound ports let the host itself in', async (t) => {
  const { app, proxy } = await policyPorts(t, [STRANGER]);
  for (const [index, { port }] of proxy.listeners.entries()) {
    await dial(t, at(`127.0.0.1:${port}`));
    await app.peer(index);
  }
  t.equal(app.peers.length, POLICIES.length);
  t.match(await proxy.logged(/^audit$/), { target: app.address.toString() });
  t.equal(await proxy.sum('inbound_tcp_errors_total'), 0);
});

t.test('policies of inbound ports keep others out', async (t) => {
  // From an interface's address to itself: it stays within the host, but is not loopback.
  const ip = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === 'IPv4' && !address.internal)?.address;
  if (ip === undefined) {
    t.plan(0, 'this host has no IPv4 address besides loopback');
    return;
  }
  const { app, proxy } = await policyPorts(t, [STRANGER]);
  for (const [index, policy] of POLICIES.entries()) {
    const address = at(`${ip}:${proxy.listeners[index].port}`);
    if (/deny|^all-authenticated|cluster/.test(policy)) {
      const message = new RegExp(`policy ${policy} does not let this client in`);
      await expectRefusal(t, proxy, address, { direction: 'inbound', reason: 'policy', message });
    } else {
      (await dial(t, address)).socket.end();
      (await app.peer(index)).socket.end();
    }
  }
  t.equal(app.peers.length, 2, 'the others never reached the application');
  const cluster = await policyPorts(t, [`${ip}/32`]);
  await dial(t, at(`${ip}:${cluster.proxy.listeners[POLICIES.length - 1].port}`));
  await cluster.app.peer();
});
