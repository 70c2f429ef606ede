/** Which endpoint a connection goes to, and what happens when endpoints die, come and go. */

import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { at, blackhole, startEngine, until } from '../support/engine.ts';
import { dial, type Peer, type PeerServer } from '../support/engine-peers.ts';
import { exchange, exchangeMany, serveEcho } from '../support/exchange.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

/** Ports nobody listens on. */
const DEAD = [at('127.0.0.1:1'), at('127.0.0.1:2'), at('127.0.0.1:3')];

const web = (...servers: readonly PeerServer[]) => serviceYaml('web', servers);

t.test('a dead endpoint among live ones: clients see nothing of it', async (t) => {
  const live = await serveEcho(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address: DEAD[0] }, live]) },
  });
  t.same(await exchangeMany(proxy.listeners[0], 200, 20, 1000), []);
  t.equal(live.peers.length, 200);
  const labels = { target_addr: DEAD[0].toString(), errno: 'ECONNREFUSED' };
  t.ok((await proxy.sum('ferrule_tcp_connect_failures_total', labels)) > 0, 'it was tried');
  t.equal(await proxy.sum('outbound_tcp_errors_total'), 0);
  await proxy.idle();
});

t.test('all endpoints dead: each is tried once, then the client is reset', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: {
      'web.yaml': serviceYaml(
        'web',
        DEAD.map((address) => ({ address })),
      ),
    },
  });
  const client = await dial(t, proxy.listeners[0]);
  await until(() => client.closed, 'the end');
  t.equal(client.error, 'ECONNRESET');
  for (const address of DEAD) {
    const labels = { target_addr: address.toString(), errno: 'ECONNREFUSED' };
    t.equal(await proxy.sum('ferrule_tcp_connect_failures_total', labels), 1);
  }
  const line = await proxy.logged(/no endpoint could be reached/);
  t.match(line, { reason: 'connect', message: /127\.0\.0\.1:[123]: ECONNREFUSED/ });
  t.equal(await proxy.sum('outbound_tcp_errors_total', { error: 'connect' }), 1);
  await proxy.idle();
});

t.test('an endpoint that does not answer is left after a second, and avoided then', async (t) => {
  const hole = await blackhole(t, startEngine(t));
  const live = await serveEcho(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address: hole }, live]) },
  });
  t.same(await exchangeMany(proxy.listeners[0], 20, 20, 1_000), []);
  const labels = { target_addr: hole.toString(), errno: 'ETIMEDOUT' };
  const tried = await proxy.sum('ferrule_tcp_connect_failures_total', labels);
  t.ok(tried > 0, `${tried} of 20 went there first`);
  t.same(await exchangeMany(proxy.listeners[0], 50, 1, 1_000), []);
  t.equal(await proxy.sum('ferrule_tcp_connect_failures_total', labels), tried, 'not tried again so soon');
  await proxy.idle();
});

t.test('the endpoint with fewer open connections is preferred', async (t) => {
  const [a, b] = [await serveEcho(t), await serveEcho(t)];
  const proxy = await startTestProxy(t, { outbound: listenerFor('web'), mesh: { 'web.yaml': web(a, b) } });
  const open = async (count: number) => {
    const target = a.peers.length + b.peers.length + count;
    const clients: Peer[] = [];
    for (let n = 0; n < count; n++) {
      clients.push(await dial(t, proxy.listeners[0]));
      await until(() => a.peers.length + b.peers.length > target - count + n, 'the next connection');
    }
    return clients;
  };
  await open(40);
  t.ok(Math.abs(a.peers.length - b.peers.length) <= 6, `${a.peers.length} and ${b.peers.length}`);
  for (const peer of a.peers) peer.socket.resetAndDestroy();
  const address = a.address.toString();
  await proxy.until('tcp_open_connections', { peer: 'dst', target_addr: address }, (now) => now === 0);
  const before = a.peers.length;
  await open(10);
  t.ok(a.peers.length - before >= 9, `${a.peers.length - before} of 10 went to the one that is free`);
});

t.test('weights are honoured', async (t) => {
  const [light, heavy] = [await serveEcho(t), await serveEcho(t)];
  const endpoints = [
    { address: light.address, weight: 1 },
    { address: heavy.address, weight: 3 },
  ];
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    // By connections alone: what else runs on the machine makes times differ, which counts by default.
    mesh: {
      'web.yaml': serviceYaml('web', endpoints).replace(
        'namespace: default',
        'namespace: default\n  annotations: { linkerd.io/load-balancer: least-request }',
      ),
    },
  });
  t.same(await exchangeMany(proxy.listeners[0], 2000, 10, 100), []);
  const share = heavy.peers.length / 2000;
  t.ok(share > 0.65 && share < 0.87, `3 of 4 connections or so: ${share}`);
  await proxy.idle();
});

t.test('endpoints come and go under load: no connection fails, open ones go on', async (t) => {
  const [a, b, c] = [await serveEcho(t), await serveEcho(t), await serveEcho(t)];
  const proxy = await startTestProxy(t, { outbound: listenerFor('web'), mesh: { 'web.yaml': web(a) } });
  const [address] = proxy.listeners;
  const old = (await dial(t, address)).expect(7);
  void old.stream(7, 100_000);
  await a.peer();
  const failures: string[] = [];
  let exchanges = 0;
  let running = true;
  const load = Array.from({ length: 8 }, async (_, worker) => {
    while (running) {
      const failure = await exchange(address, worker, 50_000);
      exchanges++;
      if (failure !== undefined) failures.push(failure);
    }
  });
  const steps: PeerServer[][] = [[a, b], [b], [b, c], [c], [c, a], [a, b, c], [b]];
  for (const step of steps) {
    const gone = [a, b, c].filter((server) => !step.includes(server));
    const before = new Map(step.map((server) => [server, server.peers.length]));
    proxy.writeMesh('web.yaml', web(...step));
    const arrived = () => step.every((server) => server.peers.length > before.get(server)! + 20);
    await until(arrived, 'traffic at every endpoint listed');
    await eventually('the end of traffic at those not listed', async () => {
      const counts = gone.map((server) => server.peers.length);
      const seen = exchanges;
      await until(() => exchanges > seen + 50, 'more traffic');
      return (
        isDeepStrictEqual(
          counts,
          gone.map((server) => server.peers.length),
        ) || undefined
      );
    });
  }
  running = false;
  await Promise.all(load);
  t.same(failures, []);
  old.socket.end();
  await until(() => old.closed, 'the end of the old connection');
  t.equal(old.receivedBytes, 100_000, 'it outlived its endpoint being listed');
  t.ok(old.intact && old.ended);
  await proxy.idle();
});

t.test('a broken file keeps what was known, and is named with its line', async (t) => {
  const [a, b] = [await serveEcho(t), await serveEcho(t)];
  const proxy = await startTestProxy(t, { outbound: listenerFor('web'), mesh: { 'web.yaml': web(a) } });
  const [address] = proxy.listeners;
  proxy.writeMesh('web.yaml', 'apiVersion: v1\nkind: Service\nmetadata: { name: web\nspec: [\n');
  t.match(String((await proxy.logged(/web\.yaml/)).message), /web\.yaml:\d+/);
  await proxy.until('ferrule_discovery_failing', {}, (failing) => failing === 1);
  t.same(await exchangeMany(address, 20, 4, 1000), []);
  t.equal(a.peers.length, 20);
  proxy.writeMesh('web.yaml', web(b));
  await proxy.until('ferrule_discovery_failing', {}, (failing) => failing === 0);
  await until(() => {
    void exchange(address, 1, 10).then((failure) => failure !== undefined && t.fail(failure));
    return b.peers.length > 0;
  }, 'traffic at the new endpoint');
  await proxy.idle();
});
