/** How a proxy that was told to stop closes: not ready, then inbound, then outbound, then everything. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parseSocketAddress, type SocketAddress } from '../../proxy/core/address.ts';
import { createFolder } from '../support/admin.ts';
import { until } from '../support/engine.ts';
import { dial } from '../support/engine-peers.ts';
import { exchangeMany, serveEcho } from '../support/exchange.ts';
import { type Answer, request } from '../support/http.ts';
import { listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

/** How long outbound must have been quiet without an application, in ms; the proxy's own constant. */
const QUIET_MS = 2_000;

interface BothSides {
  readonly proxy: TestProxy;
  readonly outbound: SocketAddress;
  readonly inbound: SocketAddress;
  /** A request to the admin port, with the token unless `headers` are given. */
  admin(line: string, headers?: readonly string[]): Promise<Answer>;
}

/** A proxy with an echo server behind both of its sides. */
async function bothSides(
  t: Test,
  shutdown: object,
  workers = 1,
  nodeArguments: readonly string[] = [],
): Promise<BothSides> {
  const origin = await serveEcho(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    inbound: { ports: [{ listen: '127.0.0.1:0', port: origin.address.port }] },
    mesh: { 'web.yaml': serviceYaml('web', [origin]) },
    shutdown,
    workers,
    nodeArguments,
  });
  const ready = await proxy.logged(/^ready$/);
  const { ip, port } = parseSocketAddress(String(ready.admin))!;
  const token = readFileSync(String(ready.token), 'utf8').trim();
  const [outbound, inbound] = proxy.listeners;
  const withToken = ['Host: localhost', `Authorization: Bearer ${token}`];
  return {
    proxy,
    outbound,
    inbound,
    admin: (line, headers = withToken) => request(ip, port, line, headers),
  };
}

/** Why a connection to `address` does not come about; undefined when it does. */
async function refusal(t: Test, address: SocketAddress): Promise<string | undefined> {
  const peer = await dial(t, address);
  await until(() => peer.closed || peer.socket.readyState === 'open', 'an answer');
  peer.socket.destroy();
  return peer.error;
}

async function timeOf(proxy: TestProxy, message: RegExp): Promise<number> {
  return Date.parse(String((await proxy.logged(message)).time));
}

t.test('not ready at once, and both sides go on accepting', async (t) => {
  const { proxy, outbound, inbound, admin } = await bothSides(t, { grace: '10m', drainDelay: '9m' });
  proxy.kill('SIGTERM');
  await proxy.logged(/^stopping$/);
  const answer = await admin('GET /ready', ['Host: localhost', 'Accept: application/json']);
  t.equal(answer.status, 503);
  t.same(JSON.parse(answer.body.toString()), { ready: false, reasons: ['shutting down'] });
  t.equal((await admin('GET /live')).status, 200);
  t.same(await exchangeMany(inbound, 20, 4, 1_000), []);
  t.same(await exchangeMany(outbound, 20, 4, 1_000), []);
});

for (const workers of [1, 2]) {
  t.test(`inbound closes after the delay, outbound when all was quiet: ${workers} workers`, async (t) => {
    const { proxy, outbound, inbound } = await bothSides(t, { grace: '10m', drainDelay: '300ms' }, workers);
    const held = await dial(t, inbound);
    held.socket.write('!');
    await until(() => held.receivedBytes === 1, 'the echo');
    proxy.kill('SIGTERM');
    const stoppingMs = await timeOf(proxy, /^stopping$/);
    const inboundMs = await timeOf(proxy, /^inbound closed$/);
    t.ok(inboundMs - stoppingMs >= 300, `${inboundMs - stoppingMs} ms`);
    t.equal(await refusal(t, inbound), 'ECONNREFUSED');
    t.same(await exchangeMany(outbound, 20, 4, 1_000), []);
    held.socket.write('y');
    await until(() => held.receivedBytes === 2, 'the echo on the connection that was there before');
    const lastMs = Date.now();
    held.socket.end();
    const outboundMs = await timeOf(proxy, /^outbound closed$/);
    t.ok(outboundMs - lastMs >= QUIET_MS, `quiet for ${outboundMs - lastMs} ms`);
    t.same(await proxy.ended, { status: 0, signal: null });
    t.equal(await refusal(t, outbound), 'ECONNREFUSED');
  });
}

t.test('short connections keep outbound open, too', async (t) => {
  const { proxy, outbound } = await bothSides(t, { grace: '10m', drainDelay: '0s' });
  const control = await bothSides(t, { grace: '10m', drainDelay: '0s' });
  proxy.kill('SIGTERM');
  control.proxy.kill('SIGTERM');
  await proxy.logged(/^inbound closed$/);
  const failures: unknown[] = [];
  let over = false;
  void control.proxy.ended.then(() => {
    over = true;
  });
  // As an application in its own shutdown does. The other proxy has no such client and ends meanwhile.
  while (!over) failures.push(...(await exchangeMany(outbound, 1, 1, 10)));
  t.same(failures, []);
  t.notMatch(proxy.said(), 'outbound closed');
  t.same(await proxy.ended, { status: 0, signal: null });
});

t.test('the grace ends everything, and counts from the order', async (t) => {
  const { proxy, inbound, outbound } = await bothSides(t, { grace: '1s', drainDelay: '0s' });
  const held = [await dial(t, inbound), await dial(t, outbound)];
  await proxy.until('tcp_open_connections', { peer: 'dst' }, (sockets) => sockets === 2);
  t.same(await proxy.stop(), { status: 0, signal: null });
  await until(() => held.every(({ closed }) => closed), 'the end of both');
  t.same(
    held.map(({ error }) => error),
    ['ECONNRESET', 'ECONNRESET'],
  );
  const tookMs = (await timeOf(proxy, /^stopped$/)) - (await timeOf(proxy, /^stopping$/));
  t.ok(tookMs >= 990 && tookMs < 20_000, `${tookMs} ms`);
  t.notMatch(proxy.said(), 'outbound closed');
});

t.test('/shutdown stops it as SIGTERM does', async (t) => {
  const { proxy, inbound, admin } = await bothSides(t, { grace: '10m', drainDelay: '0s' });
  t.equal((await admin('POST /shutdown', ['Host: localhost'])).status, 401, 'without the token');
  t.equal((await admin('GET /shutdown')).status, 405);
  t.equal((await admin('POST /shutdown', ['Host: mesh.example', 'Authorization: Bearer x'])).status, 403);
  t.equal(await proxy.readiness(), 200, 'and nothing happened');
  t.equal((await admin('POST /shutdown')).status, 202);
  t.match(await proxy.logged(/^stopping$/), { cause: '/shutdown' });
  t.equal(await proxy.readiness(), 503);
  await proxy.logged(/^inbound closed$/);
  t.equal(await refusal(t, inbound), 'ECONNREFUSED');
  t.same(await proxy.ended, { status: 0, signal: null });
});

t.test('after /shutdown, a second one and one signal change nothing; two signals end it', async (t) => {
  const { proxy, inbound, admin } = await bothSides(t, { grace: '10m', drainDelay: '9m' });
  const held = await dial(t, inbound);
  await proxy.until('tcp_open_connections', { peer: 'dst' }, (sockets) => sockets === 1);
  for (const round of [1, 2]) t.equal((await admin('POST /shutdown')).status, 202, `round ${round}`);
  proxy.kill('SIGTERM');
  t.same(await exchangeMany(inbound, 20, 4, 1_000), []);
  t.notOk(held.closed);
  proxy.kill('SIGTERM');
  t.same(await proxy.ended, { status: 0, signal: null });
  await until(() => held.closed, 'its end');
  t.equal(held.error, 'ECONNRESET');
});

t.test('a second signal ends it in every phase', async (t) => {
  for (const [phase, shutdown] of [
    [/^stopping$/, { grace: '10m', drainDelay: '9m' }],
    [/^inbound closed$/, { grace: '10m', drainDelay: '0s' }],
  ] as const) {
    const { proxy, inbound } = await bothSides(t, shutdown);
    const held = await dial(t, inbound);
    await proxy.until('tcp_open_connections', { peer: 'dst' }, (sockets) => sockets === 1);
    proxy.kill('SIGTERM');
    await proxy.logged(phase);
    proxy.kill('SIGTERM');
    t.same(await proxy.ended, { status: 0, signal: null }, String(phase));
    await until(() => held.closed, 'its end');
    t.equal(held.error, 'ECONNRESET');
  }
});

t.test('a worker that is replaced after inbound closed opens outbound only', async (t) => {
  const order = join(createFolder(t), 'throw');
  process.env.FERRULE_TEST_THROW = order;
  t.teardown(() => {
    delete process.env.FERRULE_TEST_THROW;
  });
  const throwing = fileURLToPath(new URL('../support/throwing-worker.mjs', import.meta.url));
  const shutdown = { grace: '10m', drainDelay: '0s' };
  const { proxy, inbound, outbound } = await bothSides(t, shutdown, 1, ['--import', throwing]);
  const held = await dial(t, outbound);
  await proxy.until('tcp_open_connections', { peer: 'dst' }, (sockets) => sockets === 1);
  proxy.kill('SIGTERM');
  await proxy.logged(/^inbound closed$/);
  writeFileSync(order, '');
  await proxy.logged(/^worker replaced$/);
  await until(() => held.closed, 'the end of its connection');
  t.same(await exchangeMany(outbound, 5, 1, 100), []);
  t.equal(await refusal(t, inbound), 'ECONNREFUSED');
  t.same(await proxy.ended, { status: 0, signal: null });
});
