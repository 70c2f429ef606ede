/** What happens to requests when connections, servers and clients go: saved, or told, and never sent twice. */
import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { at } from '../support/engine.ts';
import { serve } from '../support/engine-peers.ts';
import { sendRaw } from '../support/http.ts';
import { startApplication } from '../support/http-application.ts';
import { judge, type Result, send, startBackend } from '../support/http-results.ts';
import { startRoutes } from '../support/http-routes.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

t.test('a server that closes connections as the next request comes', async (t) => {
  const seen = new Map<string, number>();
  const server = await serve(t, ({ socket }) => {
    let count = 0;
    socket.on('end', () => socket.end());
    socket.on('data', (bytes) => {
      const id = / \/(\S+) /.exec(String(bytes))?.[1];
      if (id === undefined) return;
      // Every third request finds a connection that was closed, or is reset once the request has been taken.
      if (++count === 3) return void socket.resetAndDestroy();
      seen.set(id, (seen.get(id) ?? 0) + 1);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', () => {
        if (count === 2 && seen.size % 2 === 0) socket.end();
      });
    });
  });
  const { routes, idle } = await startRoutes(t, server.address);
  for (const { name, address } of routes) {
    const agent = new Agent({ keepAlive: true, maxSockets: 4 });
    const all = Array.from({ length: 300 }, (_, index) => {
      const id = `${name.slice(0, 4)}-${index}`;
      return send(agent, address, index % 3 === 0 ? 'POST' : 'GET', id, index % 2 === 0);
    });
    const results = await Promise.all(all);
    t.comment(name);
    judge(t, results, seen);
    agent.destroy();
  }
  await idle();
});

t.test('framing that shrinks on its way does not make a request look unprocessed', async (t) => {
  const seen: string[] = [];
  const server = await serve(t, ({ socket }) => {
    let text = '';
    let requests = 0;
    socket.on('end', () => socket.end());
    socket.on('data', (bytes) => {
      text += bytes;
      if (!text.endsWith('0\r\n\r\n') && !text.endsWith('body')) return;
      seen.push(text.slice(0, text.indexOf(' HTTP')));
      text = '';
      if (++requests === 2) socket.resetAndDestroy();
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  const { routes } = await startRoutes(t, server.address);
  for (const { name, address } of routes) {
    seen.length = 0;
    const client = connect({ host: address.ip, port: address.port });
    const extended = `${`1;ext=${'x'.repeat(100)}\r\na\r\n`.repeat(20)}0\r\n\r\n`;
    client.write(`POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${extended}`);
    await once(client, 'data');
    client.write('POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody');
    let text = '';
    client.on('data', (bytes) => {
      text += bytes;
    });
    await once(client, 'close');
    t.strictSame(seen, ['POST /first', 'POST /second'], `${name}: the server got it once`);
    t.match(text, /^HTTP\/1\.1 502 [\s\S]*must not be sent twice/, 'and the client is told');
  }
});

t.test('a rolling restart of three backends under load', async (t) => {
  const seen = new Map<string, number>();
  let backends = await Promise.all([1, 2, 3].map(() => startBackend(seen)));
  t.teardown(() => {
    for (const { server } of backends) server.closeAllConnections();
  });
  const mesh = () => serviceYaml('app', backends);
  const proxy = await startTestProxy(t, { outbound: listenerFor('app'), mesh: { 'app.yaml': mesh() } });
  const [address] = proxy.listeners;
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const results: Result[] = [];
  let stopping = false;
  const load = async (client: number) => {
    for (let n = 0; !stopping; n++) {
      const id = `${client}-${n}`;
      results.push(await send(agent, address, n % 2 === 0 ? 'GET' : 'POST', id, n % 4 === 1));
    }
  };
  const loads = Array.from({ length: 8 }, (_, client) => load(client));
  for (const old of [...backends]) {
    const fresh = await startBackend(seen);
    const before = results.length;
    backends = [...backends.filter((backend) => backend !== old), fresh];
    // Graceful, but without waiting for discovery: what is idle is closed, what is busy is finished.
    old.server.close();
    proxy.writeMesh('app.yaml', mesh());
    await eventually('requests go on', () => results.length > before + 400 || undefined);
  }
  stopping = true;
  await Promise.all(loads);
  agent.destroy();
  for (const { server } of backends) server.close();
  judge(t, results, seen);
  await proxy.idle();
});

t.test(
  'an endpoint leaves, and is lost with requests: they do not wait for one that is there and refuses',
  async (t) => {
    const drops: (() => void)[] = [];
    const application = await startApplication(t, (request, response) => {
      if (request.url === '/probe') response.end();
      else drops.push(() => request.socket.resetAndDestroy());
    });
    const refusing = { address: at('127.0.0.1:1') };
    const proxy = await startTestProxy(t, {
      outbound: listenerFor('app'),
      mesh: { 'app.yaml': serviceYaml('app', [refusing, application]) },
    });
    const [address] = proxy.listeners;
    // Some of them have tried the one that refuses before.
    const requests = Array.from({ length: 12 }, (_, id) => send(new Agent(), address, 'GET', String(id)));
    await eventually('all are asked', () => drops.length === requests.length || undefined);
    proxy.writeMesh('app.yaml', serviceYaml('app', [refusing]));
    await eventually('one is left', async () => {
      const { status } = await send(new Agent(), address, 'GET', 'probe');
      return status === 502 || undefined;
    });
    for (const drop of drops) drop();
    const results = await Promise.all(requests);
    t.strictSame(
      results.filter(({ status, why }) => status !== 502 || !/no endpoint could be reached/.test(why)),
      [],
      'told what happened',
    );
    await proxy.idle();
  },
);

t.test('an endpoint that is removed finishes what it has', async (t) => {
  const waiting: (() => void)[] = [];
  const application = await startApplication(t, (_request, response) => {
    waiting.push(() => response.end('slow'));
  });
  const other = await startApplication(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', [{ address: application.address }]) },
  });
  const agent = new Agent({ keepAlive: true });
  const first = send(agent, proxy.listeners[0], 'GET', 'first');
  await eventually('it is asked', () => waiting[0]);
  proxy.writeMesh('app.yaml', serviceYaml('app', [{ address: other.address }]));
  await eventually('the other is asked', async () => {
    const next = send(new Agent(), proxy.listeners[0], 'GET', 'next');
    await eventually('an answer somewhere', () => other.seen.length > 0 || waiting.length > 1 || undefined);
    for (const end of waiting.splice(1)) end();
    await next;
    return other.seen.length > 0 || undefined;
  });
  waiting[0]();
  t.equal((await first).status, 200);
  agent.destroy();
  await proxy.idle();
});

t.test('an answer of the proxy is the last one of an HTTP/1.0 connection', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', [{ address: at('127.0.0.1:1') }]) },
  });
  const { ip, port } = proxy.listeners[0];
  const { text } = await sendRaw(ip, port, 'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n');
  t.match(text, /^HTTP\/1\.1 502 [\s\S]*connection: close\r\n/);
  await proxy.idle();
});

/** Requests of clients that leave in the middle. */
const LEAVING = [
  'POST /request HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\npart',
  'GET /response HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /silent HTTP/1.1\r\nHost: x\r\n\r\n',
];

t.test('clients that leave in the middle', async (t) => {
  const ended: string[] = [];
  const server = await serve(t, ({ socket }) => {
    socket.on('error', () => socket.destroy()).on('end', () => socket.end());
    socket.once('data', (bytes: Buffer) => {
      const path = String(bytes).split(' ')[1];
      socket.once('close', () => ended.push(path));
      if (path === '/response') flood(socket);
    });
  });
  const { routes, idle } = await startRoutes(t, server.address);
  const clients = routes.flatMap(({ address }) =>
    LEAVING.map((text) => {
      const client = connect({ host: address.ip, port: address.port });
      client.write(text);
      return client.once('data', () => client.pause());
    }),
  );
  const asked = () => server.peers.filter(({ text }) => text !== '').length === clients.length;
  await eventually('all are asked', () => asked() || undefined);
  await Promise.all(
    clients.filter((_, index) => index % 3 === 1).map((client) => client.isPaused() || once(client, 'data')),
  );
  for (const client of clients) client.destroy();
  await eventually(
    'all are cut',
    () => ended.length === clients.length || undefined,
    () => `${ended}`,
  );
  const right = Object.fromEntries(['/request', '/response', '/silent'].map((path) => [path, routes.length]));
  t.strictSame(
    Object.fromEntries(Object.keys(right).map((path) => [path, ended.filter((own) => own === path).length])),
    right,
  );
  await idle();
});

function flood(socket: Socket): void {
  socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n');
  const piece = Buffer.alloc(65_536);
  const more = () => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', more);
  more();
}

t.test('SIGTERM while a client is busy', async (t) => {
  const application = await startApplication(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app'),
    inbound: { ports: [{ listen: '127.0.0.1:0', port: application.address.port }] },
    mesh: { 'app.yaml': serviceYaml('app', [{ address: application.address }]) },
    shutdown: { grace: '5s', drainDelay: '0s' },
  });
  let stopped = false;
  const clients = proxy.listeners.map(async ({ ip, port }) => {
    const client = connect({ host: ip, port });
    const closed = once(client, 'close');
    const answers: string[] = [];
    const next = () => client.write('GET /a HTTP/1.1\r\nHost: x\r\n\r\n');
    client.on('data', (bytes) => {
      answers.push(String(bytes));
      if (!stopped && answers.length === 50) {
        stopped = true;
        proxy.kill('SIGTERM');
      }
      if (!/connection: close/i.test(String(bytes))) next();
    });
    next();
    await closed;
    return answers;
  });
  const all = await Promise.all(clients);
  for (const [index, answers] of all.entries()) {
    t.match(answers.at(-1), /connection: close/i, `listener ${index}: the last of ${answers.length} says so`);
  }
  const { status } = await proxy.ended;
  t.equal(status, 0);
  t.notMatch(proxy.said(), /"level":"error"/);
});
