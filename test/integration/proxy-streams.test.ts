/** Byte streams through one proxy in explicit mode: ends in any order, resets, readers that pause, leaks. */

import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at, until } from '../support/engine.ts';
import { dial, type Peer, serve } from '../support/engine-peers.ts';
import { exchange, exchangeMany, serveEcho } from '../support/exchange.ts';
import { spawnNode } from '../support/node-child.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

const ECHO = fileURLToPath(new URL('../support/echo-program.ts', import.meta.url));

/** Longer than every timer of a connection: a try 1 s, all tries 5 s, the engine's ticks far less. */
const PAUSE_MS = process.env.FERRULE_SOAK === '1' ? 65_000 : 8_000;

const CYCLES = process.env.FERRULE_SOAK === '1' ? 20_000 : 2_000;

function front(t: Test, ...addresses: readonly SocketAddress[]): Promise<TestProxy> {
  const endpoints = addresses.map((address) => ({ address }));
  return startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', endpoints) },
  });
}

/** Both ends of a connection through a new proxy. */
async function joined(
  t: Test,
  pauseOnConnect = false,
): Promise<{ proxy: TestProxy; client: Peer; server: Peer }> {
  const origin = await serve(t, () => {}, pauseOnConnect);
  const proxy = await front(t, origin.address);
  const client = await dial(t, proxy.listeners[0]);
  return { proxy, client, server: await origin.peer() };
}

/** Waits until nothing more can be written to the peer. The counters are live. */
async function stuck(proxy: TestProxy, peer: 'src' | 'dst'): Promise<void> {
  let last = -1;
  let same = 0;
  await proxy.until('tcp_write_bytes_total', { peer }, (bytes) => {
    same = bytes > 100_000 && bytes === last ? same + 1 : 0;
    last = bytes;
    return same > 5;
  });
}

for (const first of ['client', 'server'] as const) {
  t.test(`half-close: the ${first} ends first and still gets everything`, async (t) => {
    const ends = await joined(t);
    const early = ends[first];
    const late = first === 'client' ? ends.server : ends.client;
    early.expect(2);
    late.expect(1);
    await early.stream(1, 300_000);
    early.socket.end();
    await until(() => late.ended, 'the half-close on the other side');
    t.equal(late.receivedBytes, 300_000);
    await late.stream(2, 3_000_000);
    t.notOk(early.ended, 'the other direction is still open');
    late.socket.end();
    await until(() => early.closed && late.closed, 'the end of both');
    t.equal(early.receivedBytes, 3_000_000);
    t.ok(early.intact && late.intact);
    t.same([early.error, late.error], [undefined, undefined]);
    t.equal(await ends.proxy.sum('tcp_close_total', { errno: '' }), 2, 'two orderly ends');
    t.equal(await ends.proxy.sum('tcp_read_bytes_total'), 3_300_000);
    t.equal(await ends.proxy.sum('tcp_write_bytes_total'), 3_300_000);
    await ends.proxy.idle();
  });

  t.test(`a reset by the ${first} is carried to the other side`, async (t) => {
    const ends = await joined(t);
    const other = first === 'client' ? ends.server : ends.client;
    await ends[first].stream(1, 1_000);
    await until(() => other.receivedBytes === 1_000, 'the bytes before');
    ends[first].socket.resetAndDestroy();
    await until(() => other.closed, 'the reset');
    t.equal(other.error, 'ECONNRESET');
    t.notOk(other.ended, 'not an orderly end');
    await ends.proxy.until('tcp_close_total', { errno: 'ECONNRESET' }, (count) => count > 0);
    await ends.proxy.idle();
  });
}

t.test('a reader that pauses longer than every timer gets every byte', async (t) => {
  const { proxy, client, server } = await joined(t);
  client.expect(3).socket.pause();
  const sent = server.stream(3, 20_000_000).then(() => server.socket.end());
  await stuck(proxy, 'src');
  // The time itself is what is tested.
  await sleep(PAUSE_MS);
  t.notOk(client.closed || server.closed, 'both are still there');
  client.socket.resume();
  await sent;
  await until(() => client.ended, 'the end of the stream');
  t.equal(client.receivedBytes, 20_000_000);
  t.ok(client.intact);
  client.socket.end();
  await proxy.idle();
});

t.test('a stopped server: nothing is lost when it goes on', async (t) => {
  const child = spawnNode([ECHO]);
  t.teardown(() => {
    child.kill('SIGKILL');
  });
  const [line] = await once(child.stdout.setEncoding('utf8'), 'data');
  const proxy = await front(t, at(`127.0.0.1:${Number(line)}`));
  const [address] = proxy.listeners;
  t.equal(await exchange(address, 1, 1_000), undefined);
  const open = (await dial(t, address)).expect(5);
  await proxy.until('tcp_open_connections', { peer: 'dst' }, (sockets) => sockets === 1);
  child.kill('SIGSTOP');
  const sent = open.stream(5, 30_000_000).then(() => open.socket.end());
  // The kernel accepts for it.
  const during = Array.from({ length: 20 }, (_, n) => exchange(address, n, 10_000));
  await proxy.until('ferrule_engine_relays', {}, (relays) => relays === 21);
  await stuck(proxy, 'dst');
  t.equal(open.receivedBytes, 0);
  child.kill('SIGCONT');
  t.same(await Promise.all(during), Array(20).fill(undefined));
  await sent;
  await until(() => open.closed, 'the end of the long stream');
  t.equal(open.receivedBytes, 30_000_000);
  t.ok(open.intact);
  await proxy.idle();
});

t.test('thousands of connections that end in every way leave nothing behind', async (t) => {
  const origin = await serveEcho(t);
  const proxy = await front(t, origin.address, at('127.0.0.1:1'));
  const [address] = proxy.listeners;
  const round = async (count: number) => {
    t.same(await exchangeMany(address, count / 2, 16, 3_000), []);
    let next = 0;
    const abrupt = async () => {
      while (next++ < count / 2) await endsAbruptly(address, origin.peers, next);
    };
    await Promise.all(Array.from({ length: 8 }, abrupt));
    await proxy.idle();
    origin.peers.length = 0;
  };
  await round(600);
  const [descriptors, bytes] = [proxy.descriptors(), proxy.anonymousBytes()];
  await round(CYCLES);
  // Not at once: the test's own requests to the admin server keep a connection or two for some seconds.
  await eventually(
    'descriptors as before',
    () => (proxy.descriptors() <= descriptors ? true : undefined),
    () => `${descriptors} before, ${proxy.descriptors()} now`,
  );
  const grown = proxy.anonymousBytes() - bytes;
  t.ok(grown < 16 * 1024 * 1024, `${grown} bytes more memory`);
  const opened = await proxy.sum('tcp_open_total', { peer: 'src' });
  t.equal(await proxy.sum('tcp_close_total', { peer: 'src' }), opened, 'every one was counted in and out');
});

/** A connection that is reset by its client at once, reset after some bytes, or reset by the server. */
async function endsAbruptly(address: SocketAddress, servers: readonly Peer[], turn: number): Promise<void> {
  const socket = connect({ host: address.ip, port: address.port }).on('error', () => socket.destroy());
  // Not once(): it would reject for the errors that are asked for here.
  const closed = new Promise((resolve) => socket.on('close', resolve));
  if (turn % 3 === 0) socket.on('connect', () => socket.resetAndDestroy());
  else {
    socket.write('x'.repeat(100));
    socket.once('data', () => {
      if (turn % 3 === 1) socket.resetAndDestroy();
      else for (const server of servers.slice(-20)) server.socket.resetAndDestroy();
    });
  }
  await closed;
}
