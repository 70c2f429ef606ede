/** Starting twice, stopping with connections open, and several workers. */

import t, { type Test } from 'tap';
import { until } from '../support/engine.ts';
import { dial, type Peer, type PeerServer, serve } from '../support/engine-peers.ts';
import { exchangeMany, serveEcho } from '../support/exchange.ts';
import {
  launchProxy,
  listenerFor,
  type ProxyStart,
  serviceYaml,
  startTestProxy,
  type TestProxy,
} from '../support/proxy.ts';

function front(t: Test, origin: PeerServer, more: ProxyStart): Promise<TestProxy> {
  return startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [origin]) },
    ...more,
  });
}

/** A proxy with one connection open through it. */
async function busy(t: Test, shutdown: object): Promise<{ proxy: TestProxy; client: Peer; server: Peer }> {
  const origin = await serve(t);
  const proxy = await front(t, origin, { shutdown });
  const client = await dial(t, proxy.listeners[0]);
  const server = await origin.peer();
  return { proxy, client, server };
}

for (const workers of [1, 2]) {
  t.test(`a second instance is told why it cannot start: ${workers} workers`, async (t) => {
    const origin = await serveEcho(t);
    const first = await front(t, origin, { workers });
    const listen = first.listeners[0].toString();
    const second = launchProxy(t, {
      outbound: { listeners: [{ listen, service: 'web.default:80' }] },
      mesh: {},
      workers,
    });
    t.same(await second.ended, { status: 71, signal: null });
    t.match(second.said(), `cannot listen on ${listen}`);
    t.match(second.said(), 'is another ferrule');
    t.same(await exchangeMany(first.listeners[0], 20, 4, 1_000), [], 'the first one goes on');
  });
}

t.test('a mistake in the configuration ends it with 64 before anything is bound', async (t) => {
  const proxy = launchProxy(t, {
    outbound: { listeners: [{ listen: 'nonsense', service: 'web.default:80' }] },
  });
  t.same(await proxy.ended, { status: 64, signal: null });
  t.match(proxy.said(), /ferrule\.yaml:\d+: outbound\.listeners\[0\]\.listen/);
});

t.test('SIGINT without connections ends it at once, whatever the delays', async (t) => {
  const proxy = await front(t, await serveEcho(t), { shutdown: { grace: '10m', drainDelay: '10m' } });
  proxy.kill('SIGINT');
  t.same(await proxy.ended, { status: 0, signal: null });
});

t.test('SIGTERM lets open connections finish', async (t) => {
  const { proxy, client, server } = await busy(t, { grace: '10m', drainDelay: '0s' });
  proxy.kill('SIGTERM');
  t.match(await proxy.logged(/^stopping$/), { cause: 'SIGTERM' });
  await proxy.logged(/^inbound closed$/);
  void client.stream(1, 2_000_000).then(() => client.socket.end());
  await until(() => server.expect(1).ended, 'everything at the server');
  t.equal(server.receivedBytes, 2_000_000);
  server.socket.end('bye');
  await until(() => client.closed, 'the answer');
  t.equal(client.text, 'bye');
  t.same(await proxy.ended, { status: 0, signal: null });
});

t.test('when the grace is over, what is left is reset', async (t) => {
  const { proxy, client, server } = await busy(t, { grace: '300ms', drainDelay: '0s' });
  t.same(await proxy.stop(), { status: 0, signal: null });
  await until(() => client.closed && server.closed, 'the end of both');
  t.same([client.error, server.error], ['ECONNRESET', 'ECONNRESET']);
});

t.test('a second signal ends it at once', async (t) => {
  const { proxy, client, server } = await busy(t, { grace: '10m', drainDelay: '5m' });
  proxy.kill('SIGTERM');
  await proxy.logged(/^stopping$/);
  proxy.kill('SIGINT');
  t.same(await proxy.ended, { status: 0, signal: null });
  await until(() => client.closed && server.closed, 'the end of both');
  t.same([client.error, server.error], ['ECONNRESET', 'ECONNRESET']);
});

t.test('two workers share the connections, and their figures are summed', async (t) => {
  const origin = await serveEcho(t);
  const proxy = await front(t, origin, { workers: 2 });
  t.same(await exchangeMany(proxy.listeners[0], 400, 8, 1_000), []);
  const parts: number[] = [];
  for (const worker of ['0', '1']) parts.push(await proxy.sum('ferrule_engine_accepted_total', { worker }));
  t.equal(parts[0] + parts[1], 400);
  t.ok(Math.min(...parts) > 100, `${parts}`);
  t.equal(await proxy.sum('tcp_open_total', { peer: 'src' }), 400);
  const series = [...(await proxy.samples()).keys()].filter((name) => name.startsWith('tcp_open_total'));
  t.equal(series.length, 2, 'one series for each side, not one per worker');
  await proxy.idle();
});

t.test('without discovery and listeners it runs all the same', async (t) => {
  const proxy = await startTestProxy(t, {});
  t.same(proxy.listeners, []);
  t.equal(await proxy.readiness(), 200);
  t.same(await proxy.stop(), { status: 0, signal: null });
});
