/** Two sidecars in explicit mode with mutual TLS between them: what gets through, and what happens to certificates meanwhile. */
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from '../support/engine.ts';
import { bytesOf, serve } from '../support/engine-peers.ts';
import { exchange, exchangeMany, serveEcho } from '../support/exchange.ts';
import {
  makeIdentities,
  newAuthority,
  type TestIdentities,
  type TestIdentity,
  type Variation,
} from '../support/identities.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

const SOAK = process.env.FERRULE_SOAK === '1';
const REFRESHES = 'control_identity_cert_refreshes_total';

/** An address of loopback for this process alone, so that fixed ports are free. */
const OWN_IP = `127.${1 + ((process.pid >> 8) % 250)}.${process.pid % 256}.31`;

interface Pair {
  readonly identities: TestIdentities;
  readonly web: TestIdentity;
  readonly api: TestIdentity;
  readonly outbound: TestProxy;
  readonly inbound: TestProxy;
  /** Where the application's client connects. */
  readonly address: SocketAddress;
}

/** A client's sidecar (web) and a server's (api) in front of `application`. */
async function startPair(t: Test, application: SocketAddress, ofWeb: Variation = {}): Promise<Pair> {
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web', ofWeb), await identities.make('api')];
  const inbound = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: application.port, policy: 'all-authenticated' }] },
  });
  const endpoint = { address: inbound.listeners[0], identity: api.spiffe };
  const outbound = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', [endpoint]) },
  });
  return { identities, web, api, outbound, inbound, address: outbound.listeners[0] };
}

t.test('every byte arrives, and both sides know who the other is', async (t) => {
  const echo = await serveEcho(t);
  const { outbound, inbound, address, api, web } = await startPair(t, echo.address);
  t.strictSame(await exchangeMany(address, 200, 16, 3_000), [], 'short exchanges');
  for (const [stream, length] of [0, 1, 16_384, 16_385, 900_000].entries()) {
    t.equal(await exchange(address, stream, length), undefined, `${length} bytes`);
  }
  const connections = 205;
  const bytes = 200 * 3_000 + 1 + 16_384 + 16_385 + 900_000;
  await outbound.idle();
  await inbound.idle();
  const mutual = { tls: 'true', client_id: web.serverName };
  t.equal(await inbound.sum('tcp_open_total', { peer: 'src', ...mutual }), connections);
  t.equal(
    await outbound.sum('tcp_open_total', { peer: 'dst', tls: 'true', server_id: api.spiffe }),
    connections,
  );
  for (const proxy of [outbound, inbound]) {
    const both = { peer: proxy === outbound ? 'dst' : 'src', tls: 'true' };
    t.equal(await proxy.sum('tcp_read_bytes_total', both), bytes, 'plaintext is counted');
    t.equal(await proxy.sum('tcp_write_bytes_total', both), bytes);
    t.equal(await proxy.sum('ferrule_tls_handshakes_total', { group: 'X25519MLKEM768' }), connections);
    t.equal(await proxy.sum('ferrule_tls_handshakes_total', { result: 'failed' }), 0);
  }
});

t.test('ends and resets mean on one side what they mean on the other', async (t) => {
  const server = await serve(t);
  const { address } = await startPair(t, server.address);
  const client = connect({ port: address.port, host: address.ip, allowHalfOpen: true });
  client.write('!question');
  const peer = await server.peer();
  client.end();
  await once(peer.socket, 'end');
  peer.socket.write('answer after the end');
  t.equal(
    String((await once(client, 'data'))[0]),
    'answer after the end',
    'half-closed, the other half goes on',
  );
  peer.socket.end();
  await once(client, 'end');

  const broken = connect({ port: address.port, host: address.ip });
  broken.write('!');
  const second = await server.peer(1);
  second.socket.resetAndDestroy();
  const [error] = await once(broken, 'error');
  t.equal(error.code, 'ECONNRESET', 'a reset is never an orderly end');
});

t.test('a peer that wants a transport header', async (t) => {
  const echo = await serveEcho(t);
  const application = await serveEcho(t);
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  // An application of this host, reached at the address the connection came to.
  const inbound = await startTestProxy(t, {
    identity: api.settings,
    inbound: { listen: [`127.0.0.1:${20_000 + (process.pid % 10_000)}`] },
  });
  const proxyPort = inbound.listeners[0].port;
  const named = (name: string, address: SocketAddress) =>
    serviceYaml(name, [{ address, identity: api.spiffe, proxyPort }]);
  const outbound = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('echo', 'application', 'mirror'),
    mesh: {
      'echo.yaml': named('echo', echo.address),
      'application.yaml': named('application', application.address),
      'mirror.yaml': named('mirror', inbound.listeners[0]),
    },
  });
  const [first, second, mirror] = outbound.listeners;
  t.strictSame(await exchangeMany(first, 20, 4, 50_000), []);
  t.strictSame(await exchangeMany(second, 20, 4, 50_000), []);
  t.equal(application.peers.length, 20, 'the header tells them apart');
  t.equal(await exchange(mirror, 1, 10), 'read ECONNRESET', 'our own port is never dialled');
  t.match(await inbound.logged(/names port .* of this proxy/), { reason: 'own_port' });
});

t.test('certificates are replaced and the root rolls over under load', async (t) => {
  const echo = await serveEcho(t);
  const { identities, web, api, outbound, inbound, address } = await startPair(t, echo.address);
  const failures: string[] = [];
  let done = 0;
  let running = true;
  const load = Array.from({ length: 4 }, async (_, stream) => {
    while (running) {
      const failure = await exchange(address, stream, 20_000);
      if (failure !== undefined) failures.push(failure);
      done++;
    }
  });
  const lasting = connect({ port: address.port, host: address.ip });
  const bytes = bytesOf(7, 0, 1_000);
  const echoed = async () => {
    lasting.write(bytes);
    let received = 0;
    while (received < bytes.length) received += (await once(lasting, 'data'))[0].length;
  };
  await echoed();
  let version = 1;
  const taken = async (...changed: TestProxy[]) => {
    version++;
    for (const proxy of changed) {
      await proxy.until(REFRESHES, { result: 'ok' }, (count) => count >= version);
    }
    const before = done;
    await eventually('more exchanges', () => (done > before + 8 ? true : undefined));
  };
  for (let round = 0; round < (SOAK ? 10 : 3); round++) {
    await web.issue(identities.authority);
    await api.issue(identities.authority, { key: round % 2 === 0 ? 'ed25519' : 'p256' });
    await taken(outbound, inbound);
  }
  const next = await newAuthority();
  for (const identity of [web, api]) identity.trust(identities.authority, next);
  await taken(outbound, inbound);
  for (const identity of [web, api]) await identity.issue(next);
  await taken(outbound, inbound);
  for (const identity of [web, api]) identity.trust(next);
  await taken(outbound, inbound);
  await echoed();
  t.pass('the connection of the first certificate still works');
  lasting.destroy();
  running = false;
  await Promise.all(load);
  const said = failures.length > 0 ? { web: outbound.said(), api: inbound.said() } : {};
  t.strictSame(failures, [], `${done} exchanges`, said);
  await web.issue(identities.authority);
  t.match(await outbound.logged(/does not lead to a trust anchor.*the one we have stays/), {
    level: 'error',
  });
  t.equal(await exchange(address, 1, 100), undefined, 'a bad file keeps the old certificate');
  t.equal(await outbound.readiness(), 200);
});

t.test('an application that speaks first, meshed and not', async (t) => {
  const server = await serve(t, ({ socket }) => {
    socket.write('220 welcome\r\n');
  });
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const inbound = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: server.address.port }] },
  });
  const outbound = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('smtp'),
    mesh: {
      'smtp.yaml': serviceYaml('smtp', [{ address: inbound.listeners[0], identity: api.spiffe }]),
    },
  });
  for (const address of [outbound.listeners[0], inbound.listeners[0], inbound.listeners[0]]) {
    const since = performance.now();
    const client = connect({ port: address.port, host: address.ip });
    t.equal(String((await once(client, 'data'))[0]), '220 welcome\r\n');
    t.ok(performance.now() - since < 1_000, 'far from the 10 s of a detection');
    client.destroy();
  }
  t.equal(await inbound.sum('ferrule_inbound_detections_total', { first: 'server' }), 2);
  t.equal(await inbound.sum('ferrule_inbound_detections_total', { first: 'tls' }), 1);
  t.equal(await inbound.sum('ferrule_inbound_races_total'), 3, 'inside mutual TLS as well');
});

t.test('a certificate issued by a clock that is two minutes ahead works, and is told of', async (t) => {
  const echo = await serveEcho(t);
  const notBeforeMs = Date.now() + 120_000;
  const { outbound, inbound, address } = await startPair(t, echo.address, { notBeforeMs });
  const told = ({ records }: TestProxy) =>
    records.filter(({ message }) => String(message).startsWith('clocks differ')).length;
  t.match(await outbound.logged(/clocks differ: our certificate is not valid yet/), { level: 'warn' });
  t.equal(await exchange(address, 1, 1_000), undefined);
  const { seconds } = await inbound.logged(/clocks differ: a certificate of the peer .* was accepted/);
  t.ok(Number(seconds) > 60 && Number(seconds) <= 120, `${seconds} s`);
  t.strictSame([told(outbound), told(inbound)], [1, 1]);
  const since = performance.now();
  t.strictSame(await exchangeMany(address, 100, 16, 100), []);
  await inbound.idle();
  // Ten lines a second, of which the first and the last may be parts.
  const most = 10 * (Math.floor((performance.now() - since) / 1000) + 2);
  t.ok(told(inbound) <= most, `${told(inbound)} lines of 101 handshakes; ${most} may be`);
  t.equal(told(outbound), 1);
});

t.test('an identity that the workers cannot use', async (t) => {
  const order = join(t.testdir({}), 'refuse');
  process.env.FERRULE_TEST_REFUSE = order;
  t.teardown(() => delete process.env.FERRULE_TEST_REFUSE);
  writeFileSync(order, '');
  const identities = await makeIdentities(t);
  const web = await identities.make('web');
  const preload = fileURLToPath(new URL('../support/refusing-worker.mjs', import.meta.url));
  const proxy = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', []) },
    workers: 2,
    nodeArguments: ['--import', preload],
  });
  const failures = (count: number) => proxy.until(REFRESHES, { result: 'error' }, (sum) => sum === count);
  await failures(1);
  t.equal(await proxy.readiness(), 503);
  t.match(
    await proxy.reasons(),
    'identity: a worker has none it can use: OpenSSL does not take it: refused by order',
  );
  rmSync(order);
  await web.issue(identities.authority, { lifetimeMs: 60_000 });
  await eventually('ready', async () => ((await proxy.readiness()) === 200 ? true : undefined));
  writeFileSync(order, '');
  await web.issue(identities.authority);
  await failures(2);
  t.equal(await proxy.readiness(), 200, 'the one before goes on');
});

t.test('not ready without a certificate, ready once it is there; never plaintext meanwhile', async (t) => {
  const server = await serve(t);
  const identities = await makeIdentities(t);
  const web = await identities.make('web', { nowMs: Date.now() - 7_200_000, lifetimeMs: 3_600_000 });
  const proxy = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('api'),
    mesh: {
      'api.yaml': serviceYaml('api', [
        {
          address: at(`${OWN_IP}:${server.address.port}`),
          identity: 'spiffe://cluster.local/ns/default/sa/api',
        },
      ]),
    },
  });
  t.match(await proxy.logged(/the certificate expired at .*; our clock says/), { level: 'error' });
  t.equal(await proxy.readiness(), 503);
  t.equal(await exchange(proxy.listeners[0], 1, 10), 'read ECONNRESET');
  t.match(await proxy.logged(/never sent in plaintext/), { reason: 'mtls_unavailable' });
  t.equal(server.peers.length, 0);
  await web.issue(identities.authority);
  await eventually('ready', async () => ((await proxy.readiness()) === 200 ? true : undefined));
});
