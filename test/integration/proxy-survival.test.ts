/** What the proxy must survive: clients that reset, workers that throw, descriptors that run out, readers that never read. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parseSocketAddress, type SocketAddress } from '../../proxy/core/address.ts';
import { requirePeer } from '../support/peers.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** A backend that ends with the test. */
async function backend(t: Test, onSocket: (socket: net.Socket) => void): Promise<SocketAddress> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return parseSocketAddress(`127.0.0.1:${(server.address() as AddressInfo).port}`) as SocketAddress;
}

async function connect(address: SocketAddress): Promise<net.Socket> {
  const socket = net.connect(address.port, address.ip);
  await once(socket, 'connect');
  return socket;
}

async function echoes(address: SocketAddress, text: string): Promise<boolean> {
  const socket = await connect(address);
  socket.write(text);
  const [answer] = await once(socket, 'data');
  socket.destroy();
  return String(answer) === text;
}

const echo = (socket: net.Socket) => socket.pipe(socket);

t.test('clients that connect and reset leave nothing behind', async (t) => {
  const address = await backend(t, () => undefined);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
  });
  const cycles = SOAK ? 50_000 : 2_000;
  for (let done = 0; done < cycles; done += 20) {
    // Stopped meanwhile, so that connects and resets reach it together.
    if (done % 80 === 0) proxy.kill('SIGSTOP');
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect(proxy.listeners[0])));
    if (done % 80 === 0) proxy.kill('SIGCONT');
    for (const client of clients) client.resetAndDestroy();
  }
  const gauges = ['ferrule_engine_connections', 'ferrule_engine_relays', 'tcp_open_connections'];
  for (const gauge of gauges) {
    await eventually(`${gauge} is zero`, async () => ((await proxy.sum(gauge)) === 0 ? true : undefined));
  }
  t.ok((await proxy.sum('ferrule_engine_accepted_total')) >= cycles * 0.9, 'they had been accepted');
});

t.test('a worker that throws is replaced; only its connections are reset', async (t) => {
  const order = join(t.testdir({}), 'throw');
  process.env.FERRULE_TEST_THROW = order;
  t.teardown(() => delete process.env.FERRULE_TEST_THROW);
  const address = await backend(t, echo);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
    workers: 2,
    nodeArguments: ['--import', fileURLToPath(new URL('../support/throwing-worker.mjs', import.meta.url))],
  });
  const clients = await Promise.all(Array.from({ length: 40 }, () => connect(proxy.listeners[0])));
  const errors: (string | undefined)[] = [];
  let ends = 0;
  for (const client of clients) {
    client.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code));
    client.on('end', () => ends++);
    client.write('!');
    await once(client, 'data');
  }
  const openedBefore = await proxy.sum('tcp_open_total');
  writeFileSync(order, '');
  const record = await proxy.logged(/a worker threw/);
  t.match(record.stack, /thrown by order of the test/, 'with its stack');
  await proxy.logged(/worker replaced/);
  await eventually('the other connections still work', async () => {
    const alive = clients.filter((client) => !client.destroyed);
    return alive.length + errors.length === clients.length ? true : undefined;
  });
  t.ok(
    errors.length > 0 && errors.length < clients.length,
    `${errors.length} of ${clients.length} were the worker's`,
  );
  t.ok(
    errors.every((code) => code === 'ECONNRESET'),
    'reset, never closed as if complete',
  );
  t.equal(ends, 0);
  for (const client of clients.filter(({ destroyed }) => !destroyed)) {
    client.write('y');
    const [answer] = await once(client, 'data');
    t.equal(String(answer), 'y', 'a connection of the other worker goes on');
    client.destroy();
  }
  for (let i = 0; i < 20; i++) t.ok(await echoes(proxy.listeners[0], '!again'), 'new connections work');
  t.equal(await proxy.sum('ferrule_worker_restarts_total'), 1);
  t.ok((await proxy.sum('tcp_open_total')) >= openedBefore + 40, 'counters do not go back');
});

t.test('out of descriptors: accepting pauses without spinning, and resumes', async (t) => {
  const address = await backend(t, echo);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
    openFiles: 128,
  });
  // Some of the 200 are accepted with the last descriptors, find none for the upstream, and are reset: even
  // before this process has seen them connected.
  const attempts = await Promise.allSettled(
    Array.from({ length: 200 }, async () => {
      const client = await connect(proxy.listeners[0]);
      client.on('error', () => client.destroy());
      return client;
    }),
  );
  const clients = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []));
  await proxy.logged(/accepting paused/);
  const cpu = proxy.cpuSeconds();
  const since = performance.now();
  await eventually('a second has passed', () => (performance.now() - since > 1_000 ? true : undefined));
  t.ok(proxy.cpuSeconds() - cpu < 0.3, `it used ${proxy.cpuSeconds() - cpu} s of CPU in that second`);
  for (const client of clients) client.destroy();
  await proxy.logged(/accepting again/);
  await eventually('a new connection works', async () => {
    return (await echoes(proxy.listeners[0], '!hello').catch(() => false)) ? true : undefined;
  });
  t.equal(await proxy.sum('ferrule_engine_accept_paused'), 0);
});

t.test('a reader that never reads holds a bounded number of bytes', async (t) => {
  const address = await backend(t, (socket) => socket.pause());
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
  });
  const count = 20;
  const clients = await Promise.all(Array.from({ length: count }, () => connect(proxy.listeners[0])));
  for (const client of clients) {
    client.on('error', () => client.destroy());
    // More than all kernel buffers together hold.
    client.write(Buffer.alloc(64 << 20));
  }
  let moved = -1;
  await eventually('nothing moves any more', async () => {
    const now = await proxy.sum('tcp_read_bytes_total', { peer: 'src' });
    const stalled = now === moved && now > 0;
    moved = now;
    return stalled ? true : undefined;
  });
  // One read, 256 KB at most, waits per direction; see ARCHITECTURE.md.
  const queued = await proxy.sum('ferrule_engine_queued_bytes');
  t.ok(queued <= count * 256 * 1024, `${queued} bytes wait for ${count} readers`);
  t.equal(clients.filter(({ destroyed }) => destroyed).length, 0, 'and nobody is cut for it');
  for (const client of clients) client.destroy();
  await eventually('all is released', async () =>
    (await proxy.sum('ferrule_engine_queued_bytes')) === 0 ? true : undefined,
  );
});

t.test('urgent data does not stall a relay', async (t) => {
  const perl = requirePeer(t, 'perl');
  if (perl === undefined) return;
  let received = '';
  const address = await backend(t, (socket) => {
    socket.on('data', (chunk) => {
      received += chunk;
    });
    socket.on('end', () => socket.end());
  });
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
  });
  const program = `use IO::Socket::INET; use Socket qw(MSG_OOB);
my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => ${proxy.listeners[0].port}) or die;
send($s, '!abc', 0); send($s, '!', MSG_OOB); send($s, 'efg', 0); <STDIN>;`;
  const client = spawn(perl, ['-e', program], { stdio: ['pipe', 'inherit', 'inherit'] });
  t.teardown(() => client.kill('SIGKILL'));
  await eventually(
    'everything behind the urgent byte',
    () => (received === '!abcefg' ? true : undefined),
    () => received,
  );
  t.equal(received, '!abcefg', 'the urgent byte itself is dropped');
  client.stdin.end('\n');
});

t.test('nine thousand or so idle connections', async (t) => {
  const address = await backend(t, echo);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
  });
  // This process is client and backend: two descriptors each of the usual 20,000.
  const count = SOAK ? 9_000 : 2_000;
  const clients: net.Socket[] = [];
  for (let at = 0; at < count; at += 100) {
    clients.push(...(await Promise.all(Array.from({ length: 100 }, () => connect(proxy.listeners[0])))));
  }
  await eventually('all are open', async () =>
    (await proxy.sum('tcp_open_connections', { peer: 'dst' })) === count ? true : undefined,
  );
  const perConnection = proxy.anonymousBytes() / count;
  t.comment(`${Math.round(proxy.anonymousBytes() / 1048576)} MB anonymous with ${count} connections`);
  t.ok(perConnection < 64 * 1024, 'an idle connection owns no buffer');
  for (let at = 0; at < count; at += 97) {
    clients[at].write('!still there');
    const [answer] = await once(clients[at], 'data');
    t.equal(String(answer), '!still there');
  }
  for (const client of clients) client.destroy();
  await eventually('all are gone', async () =>
    (await proxy.sum('tcp_open_connections')) === 0 ? true : undefined,
  );
});
