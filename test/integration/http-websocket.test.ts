/** WebSockets and CONNECT between clients and servers of any two versions of HTTP. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { connect, createServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { answerOf, H2Client } from '../support/h2-application.ts';
import { pieces } from '../support/http-application.ts';
import { startRoutes } from '../support/http-routes.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';
import { consentTo, listen, startWebSocketServer, WebSocketPeer } from '../support/websocket.ts';

/** What a service says that its servers speak. */
const PROTOCOLS = { http1: 'http', http2: 'kubernetes.io/h2c' } as const;

/** Messages, in bytes: short, longer than a frame of HTTP/2, and than all windows. */
const MESSAGES = [0, 5, 20_000, 300_000];

const UPGRADE = {
  ':method': 'CONNECT',
  ':protocol': 'websocket',
  ':scheme': 'http',
  ':authority': 'chat.default',
  ':path': '/chat',
  'sec-websocket-version': '13',
};

const CONNECT = { ':method': 'CONNECT', ':authority': 'app:80' };

/** Says everything over Node's own client. @returns how it was closed */
async function chatOverHttp1(t: Test, address: SocketAddress): Promise<number> {
  const socket = new WebSocket(`ws://${address}/chat`);
  socket.binaryType = 'arraybuffer';
  const ended = once(socket, 'close');
  await once(socket, 'open');
  for (const length of MESSAGES) {
    const said = randomBytes(length);
    socket.send(said);
    const [{ data }] = await once(socket, 'message');
    t.equal(Buffer.compare(Buffer.from(data), said), 0, `${length} bytes come back`);
  }
  socket.close(1000);
  const [{ code, wasClean }] = await ended;
  return wasClean ? code : -1;
}

/** The same on a stream, of which the proxy says that it may be opened. */
async function chatOverHttp2(t: Test, address: SocketAddress): Promise<number> {
  const client = new H2Client(t, address);
  const { session } = client;
  if (session.remoteSettings.enableConnectProtocol === undefined) await once(session, 'remoteSettings');
  const stream = session.request(UPGRADE);
  const [headers] = await once(stream, 'response');
  t.strictSame([headers[':status'], headers['sec-websocket-accept']], [200, undefined], 'consent');
  const peer = new WebSocketPeer(stream);
  for (const length of MESSAGES) {
    const said = randomBytes(length);
    t.equal(Buffer.compare(await peer.say(said), said), 0, `${length} bytes come back`);
  }
  const code = await peer.close(1000);
  session.close();
  await client.closed();
  return code;
}

for (const kind of ['http1', 'http2'] as const) {
  t.test(`WebSocket servers that speak ${kind}`, async (t) => {
    const { address, seen } = await startWebSocketServer(t, kind);
    const { routes, outgoing } = await startRoutes(t, address, { appProtocol: PROTOCOLS[kind] });
    for (const { name, address: entry } of routes) {
      // The application's side knows nothing of what is spoken there, and passes on what comes.
      if (name !== 'inbound' || kind === 'http1')
        t.equal(await chatOverHttp1(t, entry), 1000, `${name}: a client of HTTP/1`);
      if (name !== 'inbound' || kind === 'http2')
        t.equal(await chatOverHttp2(t, entry), 1000, `${name}: a client of HTTP/2`);
    }
    const right = kind === 'http2' ? /^http2 13 / : /^http1 13 /;
    const wrong = seen.filter((one) => !right.test(one));
    t.strictSame(wrong, [], `${seen.length} handshakes`);
    t.ok(seen.includes(`${kind} 13 chat.default`));
    const isIdle = async () =>
      (await outgoing.sum('tcp_open_connections', { peer: 'src' })) === 0 || undefined;
    t.ok(await eventually('nothing is left', isIdle));
  });
}

t.test('a server of HTTP/2 that takes no extended CONNECT is asked by HTTP/1', async (t) => {
  const { address, seen } = await startWebSocketServer(t, 'both');
  const proxy = await startProxy(t, address, 'h2c');
  for (let n = 0; n < 2; n++) {
    t.equal(await chatOverHttp1(t, proxy.listeners[0]), 1000);
    t.equal(await chatOverHttp2(t, proxy.listeners[0]), 1000);
  }
  t.ok(seen.length === 4 && seen.every((one) => one.startsWith('http1 13 ')), seen.join(', '));
  const attempts = (await proxy.explanations()).map((one) => one.attempts.map(({ protocol }) => protocol));
  t.strictSame(attempts.at(-1), ['h2', 'http/1'], 'which is known when it has said what it takes');
  t.strictSame(attempts[0], ['http/1'], 'and for as long as it is connected');
});

/** A proxy in front of a server of a service that says what it speaks. */
async function startProxy(t: Test, address: SocketAddress, appProtocol: string): Promise<TestProxy> {
  const mesh = { 'app.yaml': serviceYaml('app', [{ address }], undefined, appProtocol) };
  return startTestProxy(t, { outbound: listenerFor('app'), mesh });
}

/** A server that agrees to every CONNECT and gives the tunnel to `take`. */
async function startTunnelServer(t: Test, kind: 'http1' | 'http2', take: (tunnel: Duplex) => void) {
  if (kind === 'http2') {
    const server = createHttp2Server();
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => stream.destroy());
      stream.respond({ ':status': 200 });
      take(stream);
    });
    return listen(t, server);
  }
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Whatever follows waits until somebody takes it.
    socket.once('readable', () => {
      socket.read();
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      take(socket);
    });
  });
  return listen(t, server);
}

/** A tunnel of a client, through the proxy. */
async function openTunnel(t: Test, kind: 'http1' | 'http2', proxy: TestProxy): Promise<Duplex> {
  const { ip, port } = proxy.listeners[0];
  if (kind === 'http2') {
    const { session } = new H2Client(t, proxy.listeners[0]);
    const stream = session.request(CONNECT);
    stream.on('error', () => stream.destroy());
    await once(stream, 'response');
    return stream;
  }
  const socket = connect({ host: ip, port, allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.write('CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\n');
  const [head] = await once(socket, 'data');
  t.match(String(head), /^HTTP\/1.1 200 OK\r\n(.*\r\n)?\r\n$/s);
  return socket;
}

/** A tunnel of which the client says all, and that this is all, before the server has agreed. @returns what comes back */
async function sayAllAtOnce(t: Test, kind: 'http1' | 'http2', proxy: TestProxy): Promise<string> {
  const { ip, port } = proxy.listeners[0];
  if (kind === 'http2') {
    const stream = new H2Client(t, proxy.listeners[0]).session.request(CONNECT);
    stream.end('hasty');
    return (await answerOf(stream)).text;
  }
  const socket = connect({ host: ip, port, allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.end('CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\nhasty');
  return Buffer.concat(await socket.toArray()).toString('latin1');
}

/** The length of all that comes until the end; -1 when it is cut. */
async function lengthOf(tunnel: Duplex): Promise<number> {
  let length = 0;
  tunnel.on('data', (bytes: Buffer) => {
    length += bytes.length;
  });
  await once(tunnel, 'end');
  return isReset(tunnel) ? -1 : length;
}

/** Node ends streams that were reset as well. */
function isReset(tunnel: Duplex): boolean {
  return 'rstCode' in tunnel && tunnel.rstCode !== 0;
}

/** How a tunnel ends that nobody writes to. */
function howEnded(tunnel: Duplex): Promise<'whole' | 'broken'> {
  let isWhole = false;
  tunnel.resume().on('end', () => {
    isWhole = !isReset(tunnel);
  });
  return new Promise((resolve) => tunnel.on('close', () => resolve(isWhole ? 'whole' : 'broken')));
}

/** More than fits into all buffers on the way. */
const MUCH = 5_000_000;

function sendMuch(tunnel: Duplex): void {
  for (const piece of pieces(MUCH)) tunnel.write(piece);
  tunnel.end();
}

for (const [from, to] of [
  ['http1', 'http2'],
  ['http2', 'http1'],
  ['http2', 'http2'],
  ['http1', 'http1'],
] as const) {
  t.test(`tunnels from ${from} to ${to}`, async (t) => {
    const tunnels: Duplex[] = [];
    const address = await startTunnelServer(t, to, (tunnel) => tunnels.push(tunnel));
    const proxy = await startProxy(t, address, PROTOCOLS[to]);
    for (const first of ['client', 'server'] as const) {
      const client = await openTunnel(t, from, proxy);
      const server = await eventually('the other end', () => tunnels.shift());
      const [early, late] = first === 'client' ? [client, server] : [server, client];
      const [got, answered] = [lengthOf(late), lengthOf(early)];
      early.end('all that I say');
      t.equal(await got, 14, `the ${first} ends its half`);
      sendMuch(late);
      t.equal(await answered, MUCH, 'and still gets everything');
    }
    const eager = sayAllAtOnce(t, from, proxy);
    const server = await eventually('the other end', () => tunnels.shift());
    server.pipe(server);
    t.match(await eager, /hasty$/, 'what is said before the server agrees waits for it, and so does the end');
    const { attempts, status } = (await proxy.explanations())[0];
    t.strictSame([status, attempts[0].protocol], [200, to === 'http2' ? 'h2' : 'http/1'], 'explained');
    for (const first of ['client', 'server'] as const) {
      const client = await openTunnel(t, from, proxy);
      const server = await eventually('the other end', () => tunnels.shift());
      const [lost, other] = first === 'client' ? [client, server] : [server, client];
      const ended = howEnded(other);
      if (lost instanceof Socket) lost.resetAndDestroy();
      // Closed with a code, a stream of Node's would say that it is whole first.
      else lost.destroy(new Error('lost'));
      t.equal(await ended, 'broken', `the ${first} is lost: nobody takes it for an end`);
    }
    const isIdle = (open: number) => open <= Number(from === 'http2') * 5;
    await proxy.until('tcp_open_connections', { peer: 'src' }, isIdle);
  });
}

t.test('a server of HTTP/2 that has said all in a tunnel may want no more of it', async (t) => {
  const tunnels: Duplex[] = [];
  const address = await startTunnelServer(t, 'http2', (tunnel) => tunnels.push(tunnel));
  const proxy = await startProxy(t, address, PROTOCOLS.http2);
  for (const from of ['http1', 'http2'] as const) {
    const client = await openTunnel(t, from, proxy);
    const server = (await eventually('the other end', () => tunnels.shift())) as ServerHttp2Stream;
    const heard = lengthOf(client);
    const closed = once(server, 'close');
    for (const piece of pieces(MUCH)) server.write(piece);
    // What follows the end of the stream is RST_STREAM with NO_ERROR.
    server.end(() => server.close());
    t.equal(await heard, MUCH, `${from}: the client hears all of it`);
    await closed;
    client.end();
    if (from === 'http2') await once(client, 'close');
    t.notOk(isReset(client), `${from}: and that it has ended`);
  }
  t.equal(await proxy.sum('tcp_open_total', { peer: 'dst' }), 1, 'both on one connection');
});

/** A server of HTTP/1 that answers every head with what `answer` says; all it got is in `seen`. */
async function startScripted(t: Test, answer: (head: string) => string) {
  const seen: string[] = [];
  const server = createServer((socket) => {
    const index = seen.push('') - 1;
    socket.on('data', (bytes) => {
      seen[index] += bytes.toString('latin1');
      if (seen[index].endsWith('\r\n\r\n')) socket.write(answer(bytes.toString('latin1')));
    });
  });
  return { address: await listen(t, server), seen };
}

t.test("what is said in a tunnel that is refused is nobody's request", async (t) => {
  const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n';
  const { address, seen } = await startScripted(t, (head) => {
    const status = /x-status: (\d+)/.exec(head)?.[1];
    return `HTTP/1.1 ${status} No\r\nContent-Length: 2\r\n\r\nno`;
  });
  const proxy = await startProxy(t, address, 'http');
  const client = new H2Client(t, proxy.listeners[0]);
  await once(client.session, 'remoteSettings');
  for (const [status, head] of [
    [200, UPGRADE],
    [403, UPGRADE],
    [426, UPGRADE],
    [403, CONNECT],
  ] as const) {
    const stream = client.session.request({ ...head, 'x-status': status });
    const answered = answerOf(stream);
    stream.write(smuggled);
    const answer = await answered;
    t.equal(answer.status, status === 200 ? 502 : status);
    t.match(answer.text, status === 200 ? /it answered 200 to a WebSocket handshake/ : /^no$/);
    t.equal((await client.get('/', { 'x-status': 404 })).status, 404, 'others go on');
  }
  t.notMatch(seen.join(''), /smuggled/);
  for (const text of seen) t.notMatch(text, /(chat|CONNECT)[\s\S]*GET/, 'on other connections');
  t.match(seen[0], /^GET \/chat HTTP\/1.1\r\nHost: chat.default\r\n[\s\S]*upgrade: websocket\r\n/i);
  t.match(seen[0], /connection: upgrade\r\n[\s\S]*sec-websocket-key: [\w+/]{22}==\r\n/i);
});

t.test('a server that does not know the key is no WebSocket', async (t) => {
  const { address } = await startScripted(t, () => consentTo('another key'));
  const proxy = await startProxy(t, address, 'http');
  const client = new H2Client(t, proxy.listeners[0]);
  await once(client.session, 'remoteSettings');
  const { status, text } = await answerOf(client.session.request(UPGRADE, { endStream: false }));
  t.equal(status, 502);
  t.match(text, /its Sec-WebSocket-Accept does not belong to our key/);
});

t.test('protocols that HTTP/1 has no way to ask for', async (t) => {
  const { address, seen } = await startScripted(t, () => 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  const proxy = await startProxy(t, address, 'http');
  const client = new H2Client(t, proxy.listeners[0]);
  await once(client.session, 'remoteSettings');
  const { status, text } = await answerOf(client.session.request({ ...UPGRADE, ':protocol': 'connect-udp' }));
  t.equal(status, 501);
  t.match(text, /takes no extended CONNECT/);
  t.strictSame(seen, [], 'the server is not asked');
});
