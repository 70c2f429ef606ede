/** Requests that are refused, wait in vain, or end in two halves: what client and endpoint are told, and what is left of them. */
import t from 'tap';
import { H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import type { Endpoint } from '../../proxy/model/endpoint.ts';
import { type EndpointKind, Rig } from '../support/forward-rig.ts';
import { GET, type PlainField, POST, rstStream, settings } from '../support/h2.ts';
import { listOf } from '../support/h2-session.ts';
import { eventually } from '../support/proxy.ts';

/** What a sidecar answers that could not reach its application. */
function unprocessed(status: number): PlainField[] {
  return [
    [':status', String(status)],
    ['l5d-proxy-error', 'no endpoint could be reached'],
    ['l5d-proxy-unprocessed', '1'],
  ];
}

// --- endpoints that are not listed any more

/** A request is on its way to the first of two endpoints, which is retired then. */
function retiring(kind: EndpointKind) {
  const rig = new Rig(kind, kind);
  const { connections } = rig.http;
  const { pools } = connections as unknown as { readonly pools: ReadonlyMap<Endpoint, unknown> };
  const client = rig.acceptHttp2();
  rig.ask(client, POST);
  rig.dial();
  const retire = () => {
    const [gone] = rig.endpoints.splice(0, 1);
    rig.engine.batch(() => connections.retire(gone));
    return gone;
  };
  return { rig, client, pools, retire };
}

t.test(
  'an endpoint that is retired gets no new pool by an answer that says it has seen nothing',
  async (t) => {
    const { rig, client, pools, retire } = retiring({ mesh: true });
    rig.run();
    t.equal(pools.size, 1);
    const gone = retire();
    const [first] = rig.servers.values();
    first.answer(unprocessed(502), 'no');
    rig.run();
    t.strictSame([pools.has(gone), pools.size], [false, 1], 'the other one has');
    rig.dial();
    rig.run();
    [...rig.servers.values()][1].answer([[':status', '200']]);
    rig.run();
    t.match(client.owner.heard.join('\n'), /^1 response :status=200/m);
  },
);

t.test('… nor by a stream that it refuses', async (t) => {
  const { rig, pools, retire } = retiring({ protocol: 'http2' });
  rig.run();
  const gone = retire();
  rig.reply(rig.upstream, rstStream(1, H2_ERROR.refusedStream));
  t.strictSame([pools.has(gone), pools.size], [false, 1]);
  t.equal(rig.upstreams.size, 2, 'the request goes elsewhere');
});

t.test('… nor by requests that wait for its streams', async (t) => {
  const { rig, client, pools, retire } = retiring({ protocol: 'http2' });
  // It is not known yet how many it takes.
  rig.ask(client, POST);
  t.equal(rig.upstreams.size, 1);
  const gone = retire();
  t.strictSame([pools.has(gone), pools.size], [false, 1]);
  t.equal(rig.upstreams.size, 2, 'they go elsewhere');
});

// --- answers by which a sidecar says that it has not reached its application

t.test('an endpoint that says it has seen nothing is not asked again, whatever its status', async (t) => {
  for (const status of [502, 503, 504]) {
    for (const content of ['', 'no']) {
      const rig = new Rig({ mesh: true }, { mesh: true });
      const client = rig.acceptHttp2();
      rig.ask(client, POST);
      rig.dial();
      rig.run();
      rig.server.answer(unprocessed(status), content);
      rig.run();
      t.equal(rig.upstreams.size, 2, `${status} with "${content}": another one is`);
      rig.dial();
      rig.run();
      const [, other] = rig.servers.values();
      t.match(other.owner.heard[0], /^1 request :method=POST/);
      other.answer(unprocessed(status), content);
      rig.run();
      const heard = client.owner.heard.join('\n');
      t.match(heard, /^1 response :status=502 .*l5d-proxy-error=/m, 'nobody is left');
      t.notMatch(heard, /unprocessed/, 'what sidecars tell each other is not for clients');
    }
  }
});

t.test('answers that say so are no reason for another connection', async (t) => {
  const rig = new Rig({ mesh: true });
  const client = rig.acceptHttp2();
  for (let n = 0; n < 1_000; n++) {
    rig.ask(client, POST);
    rig.dial();
    rig.run();
    rig.server.answer(unprocessed(502));
    rig.run();
  }
  t.equal(rig.upstreams.size, 1);
  t.equal(client.owner.heard.filter((what) => what.includes(':status=502')).length, 1_000);
});

// --- requests that wait

t.test('a request waits a minute for an endpoint that takes no streams', async (t) => {
  const rig = new Rig({ protocol: 'http2' });
  const client = rig.acceptHttp2();
  rig.ask(client, POST);
  rig.dial();
  rig.run();
  const { upstream, server } = rig;
  // A connection without streams would be given up sooner.
  for (const stream of server.owner.streams.values())
    server.session.sendHead(stream, listOf([[':status', '200']]), false);
  server.owner.streams.clear();
  rig.reply(upstream, settings([SETTING.maxConcurrentStreams, 0]));
  rig.run();
  rig.ask(client, POST);
  rig.run();
  const statuses = () => client.owner.heard.join('\n').match(/(?<=response :status=)\d+/g);
  for (let second = 10; second <= 50; second += 10) {
    pass(rig, 10_000);
    t.strictSame(statuses(), ['200'], `not after ${second} s`);
  }
  pass(rig, 10_000);
  t.strictSame(statuses(), ['200', '503']);
  t.match(rig.decisions[0], { outcome: 'refused', message: '10.0.0.1:80 took no more streams for 60 s' });
  t.equal(rig.inFlight, 1, 'the first one');
  rig.reply(upstream, settings([SETTING.maxConcurrentStreams, 100]));
  rig.ask(client, GET);
  rig.run();
  server.answer([[':status', '204']]);
  rig.run();
  t.strictSame(statuses(), ['200', '503', '204'], 'the connection is as good as before');
  t.equal(rig.upstreams.size, 1);
});

/** Time passes, in which the endpoint pings; what the worker does every ten seconds is done. */
function pass(rig: Rig, ms: number): void {
  const { engine, http, upstream, upstreams, server } = rig;
  engine.ms += ms;
  engine.batch(() => http.upstreamTimedOut(upstreams.get(upstream)!));
  server.session.sendPing();
  rig.run();
  engine.batch(() => http.endStuck());
  rig.run();
}

t.test('the deadline of a call is told as the call has said it', async (t) => {
  const rig = new Rig({ protocol: 'http2' });
  const client = rig.acceptHttp2();
  // Times have fractions, and sums of them are rounded.
  rig.engine.ms = 1_000.1;
  t.not(rig.engine.ms + 30 - rig.engine.ms, 30);
  rig.ask(client, [
    ...POST,
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ['grpc-timeout', '30m'],
  ]);
  rig.engine.ms += 1_000;
  const message = await eventually('the end of the call', () => rig.decisions[0].message);
  t.equal(message, 'the deadline of the call has passed, 30 ms after it began (grpc-timeout)');
});

// --- tunnels

const HANDSHAKE = [
  'GET /chat HTTP/1.1',
  'Host: web.test',
  'Connection: upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  '\r\n',
].join('\r\n');

const REFUSALS = [
  ['200 with a length', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage', true],
  ['200 that ends with its connection', 'HTTP/1.1 200 OK\r\n\r\npage', false],
  ['404 with a length', 'HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\npage', true],
  ['404 that ends with its connection', 'HTTP/1.1 404 Not Found\r\n\r\npage', false],
] as const;

t.test('a WebSocket handshake that is answered like another request', async (t) => {
  for (const [name, response, isWhole] of REFUSALS) {
    const rig = new Rig({});
    const client = rig.accept('http1');
    rig.say(client, HANDSHAKE);
    rig.dial();
    const { upstream, engine, http } = rig;
    t.match(rig.sent(upstream), /^GET \/chat /);
    rig.reply(upstream, response);
    if (!isWhole) engine.batch(() => http.upstreamEnd(rig.upstreams.get(upstream)!));
    const answer = rig.sent(client.client);
    t.equal(answer.split(' ')[1], response.split(' ')[1], name);
    t.match(answer, /connection: close\r\n/i);
    t.match(answer, /\r\n\r\n(4\r\npage\r\n0\r\n\r\n|page)$/, 'all of it');
    t.not(engine.sockets.get(client.client)?.ending, 'no', 'the client is not waited for');
    t.not(engine.sockets.get(upstream)?.ending, 'no');
    t.equal(rig.inFlight, 0);
    t.equal(rig.decisions[0].outcome, 'answered');
  }
});

t.test('… whose client ends its half is not waited for as if there were a tunnel', async (t) => {
  const rig = new Rig({});
  const client = rig.accept('http1');
  rig.say(client, HANDSHAKE);
  rig.dial();
  const { engine, http, upstream } = rig;
  rig.reply(upstream, 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npage');
  const socket = engine.sockets.get(client.client)!;
  const before = socket.deadlineMs;
  engine.batch(() => http.clientEnd(client));
  t.ok(socket.deadlineMs > 0 && socket.deadlineMs < before, `${socket.deadlineMs} ms after ${before} ms`);
  engine.batch(() => http.timedOut(client));
  t.equal(socket.ending, 'close');
  t.equal(rig.inFlight, 0);
  engine.batch(() => http.clientGone(client, 0));
  t.equal(rig.decisions[0].outcome, 'client left');
});

t.test('a client that ends its half of a tunnel at once ends that of the endpoint', async (t) => {
  for (const isAtOnce of [true, false]) {
    const rig = new Rig({ protocol: 'http1' });
    const client = rig.acceptHttp2();
    const fields: PlainField[] = [
      [':method', 'CONNECT'],
      [':authority', 'web.test:80'],
    ];
    rig.ask(client, fields, isAtOnce);
    for (const stream of isAtOnce ? [] : client.session.openStreams())
      client.session.sendData(stream, new Uint8Array(0), 0, 0, true);
    rig.run();
    rig.dial();
    const { upstream, engine, http } = rig;
    t.match(rig.sent(upstream), /^CONNECT web\.test:80 HTTP\/1\.1\r\n/);
    t.notOk(engine.sockets.get(upstream)?.isShut, 'not before there is a tunnel');
    rig.reply(upstream, 'HTTP/1.1 200 OK\r\n\r\nhello');
    t.ok(engine.sockets.get(upstream)?.isShut, isAtOnce ? 'with its head' : 'behind its head');
    engine.batch(() => http.upstreamEnd(rig.upstreams.get(upstream)!));
    rig.run();
    t.match(client.owner.heard.join('\n'), /^1 response :status=200.*\n1 data hello(\n1 data)? END/m);
    t.equal(rig.inFlight, 0);
    t.equal(rig.decisions[0].outcome, 'answered');
  }
});
