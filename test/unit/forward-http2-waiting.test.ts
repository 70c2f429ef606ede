/** HTTP/2 where somebody has to wait: endpoints that take no streams just now, requests that are sent again, clients that say nothing. */
import t from 'tap';
import type { Http2Upstream } from '../../proxy/forward/http2-upstream.ts';
import { H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import { H2ClientPeer, H2ServerPeer } from '../support/forward-h2-peers.ts';
import { type Call, pathOf } from '../support/forward-peers.ts';
import { Rig } from '../support/forward-rig.ts';
import { type ClientEnd, World } from '../support/forward-world.ts';
import { GET, join, type PlainField, plainFields, settings } from '../support/h2.ts';

const takes = (streams: number) => settings([SETTING.maxConcurrentStreams, streams]);

/** Everybody behaves but for what `change` does to the servers, which are told apart by their numbers. */
function worldOf(
  endpoints: number,
  change: (server: H2ServerPeer, number: number) => void = () => undefined,
): { world: World; client: ClientEnd } {
  let servers = 0;
  const world = new World(1, {
    client: (clock) => new H2ClientPeer(clock),
    server: (clock) => {
      const server = new H2ServerPeer(clock);
      change(server, servers++);
      return server;
    },
  });
  world.endpoints = world.endpoints.slice(0, endpoints);
  world.settle();
  const [client] = world.clients.values();
  return { world, client };
}

function ask(world: World, { peer }: ClientEnd, length = 0, hasTrailers = false): Call {
  const id = world.calls.length;
  const bodies = { length, hasTrailers, responseLength: 5 };
  const state = { sent: 0, sentEnd: false, got: 0, held: 0, status: 0, outcome: undefined };
  const call: Call = { id, method: 'POST', path: pathOf(id, length, 5, false), ...bodies, ...state };
  world.calls.push(call);
  peer.ask(call);
  return call;
}

const outcomesOf = (calls: readonly Call[]) => [...new Set(calls.map(({ outcome }) => outcome))];

t.test('an endpoint that takes no streams just now is waited for', async (t) => {
  const { world, client } = worldOf(1, (server) => {
    server.toProxy = join(server.toProxy, takes(0));
  });
  const calls = Array.from({ length: 20 }, () => ask(world, client));
  world.settle();
  t.strictSame(outcomesOf(calls), [undefined]);
  t.equal(world.upstreams.size, 1, 'another connection would be of no use');
  const [server] = world.servers.values();
  server.toProxy = join(server.toProxy, takes(100));
  world.settle();
  t.strictSame(outcomesOf(calls), ['answered']);
  t.equal(world.upstreams.size, 1);
});

t.test('… and only when no other takes the request', async (t) => {
  const { world, client } = worldOf(3, (server, number) => {
    if (number > 0) return;
    server.toProxy = join(server.toProxy, takes(0));
  });
  const calls: Call[] = [];
  for (let n = 0; n < 30; n++) {
    calls.push(ask(world, client));
    world.settle();
  }
  t.strictSame(outcomesOf(calls), ['answered']);
  t.strictSame(
    [...world.servers.values()].map(({ services }) => services.length > 0),
    [false, true, true],
    'each that takes any was asked',
  );
});

t.test('… and no longer than its connection is of use', async (t) => {
  const { world, client } = worldOf(1, (server, number) => {
    if (number === 0) server.toProxy = join(server.toProxy, takes(0));
  });
  const call = ask(world, client);
  world.settle();
  t.equal(call.outcome, undefined);
  const [upstream] = world.upstreams.values();
  world.engine.ms += 10_000;
  world.engine.batch(() => world.http.upstreamTimedOut(upstream));
  world.settle();
  t.equal(call.status, 200, 'it goes out on the next one');
  t.equal(world.upstreams.size, 2);
});

t.test('a request that was refused goes elsewhere with its trailers', async (t) => {
  for (const length of [1, 100, 30_000]) {
    const seen: PlainField[][] = [];
    const { world, client } = worldOf(2, (server, number) => {
      const take = server.trailers.bind(server);
      server.trailers = (session, stream, fields) => {
        seen.push(plainFields(fields));
        take(session, stream, fields);
      };
      if (number === 0) server.respond = (service) => server.fail(service, H2_ERROR.refusedStream);
    });
    const call = ask(world, client, length, true);
    world.settle();
    t.equal(call.status, 200, `${length} bytes`);
    t.strictSame(seen, [[['x-sum', '1']], [['x-sum', '1']]]);
  }
});

t.test('a request that is given up while it leaves the queue takes nobody with it', async (t) => {
  const { world, client } = worldOf(1);
  const [first, second] = [ask(world, client), ask(world, client)];
  world.arrive(client);
  const [upstream] = world.upstreams.values() as Iterable<Http2Upstream>;
  t.equal(upstream.queue.length, 2);
  upstream.queue.shift();
  client.peer.cancel(first);
  world.arrive(client);
  world.settle();
  t.equal(second.status, 200);
});

t.test(
  'one that has nothing to do but to flood is cut, and does not stay when it fetches nothing',
  async (t) => {
    const { world, client } = worldOf(1);
    const socket = world.engine.sockets.get(client.connection.client)!;
    world.engine.ms += 10_000;
    world.engine.batch(() => world.http.timedOut(client.connection));
    world.settle();
    t.equal(socket.deadlineMs, 0);
    const { session } = client.peer as H2ClientPeer;
    for (let i = 0; i < 22_001; i++) {
      session.sendPing();
      if (i % 1000 === 0) world.arrive(client);
    }
    t.equal(socket.ending, 'close');
    t.equal(socket.deadlineMs, 10_000, 'it has so long to take what it is told');
  },
);

t.test('a client without streams wakes nobody', async (t) => {
  const { world, client } = worldOf(1);
  const socket = world.engine.sockets.get(client.connection.client)!;
  const pass = (ms: number, event: () => void) => {
    world.engine.ms += ms;
    world.engine.batch(event);
    world.settle();
    return socket.deadlineMs;
  };
  const timedOut = () => world.http.timedOut(client.connection);
  const sweep = () => world.http.sweep();
  t.equal(pass(10_000, timedOut), 0, 'it has no deadline');
  const call = ask(world, client);
  world.arrive(client);
  t.equal(socket.deadlineMs, 10_000, 'until it asks for something');
  world.settle();
  t.equal(call.status, 200);
  t.equal(pass(10_000, timedOut), 0);
  t.equal(pass(580_000, sweep), 0, 'it may say nothing for ten minutes');
  t.equal(pass(20_000, sweep), 10_000, 'then it is asked to leave');
  t.ok((client.peer as H2ClientPeer).session.isEnded);
});

t.test('an endpoint that does not take HTTP/2 any more is asked as its client asks', async (t) => {
  // What one that knows HTTP/1 alone says to the preface, or does.
  for (const answer of ['HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n', '']) {
    const rig = new Rig({ mesh: true, multiplexed: true });
    const client = rig.accept('http1');
    rig.say(client, 'POST /once HTTP/1.1\r\nHost: web.test\r\nContent-Length: 4\r\n\r\nbody');
    rig.dial();
    const [first] = rig.upstreams.keys();
    t.match(rig.sent(first), /^PRI \* HTTP\/2/);
    if (answer !== '') rig.reply(first, answer);
    rig.lose(first, 0);
    rig.dial();
    const [, second] = rig.upstreams.keys();
    t.match(rig.sent(second), /^POST \/once HTTP\/1\.1\r\n(.*\r\n)*body$/);
    rig.reply(second, 'HTTP/1.1 204 No Content\r\n\r\n');
    t.match(rig.sent(client.client), /^HTTP\/1\.1 204 /);
    const [{ attempts }] = rig.decisions;
    t.strictSame(
      attempts.map(({ protocol, outcome }) => [protocol, outcome]),
      [
        ['h2', 'not reached'],
        ['http/1', 'answered'],
      ],
    );
  }
});

t.test('… but one that never said that it does is not asked twice', async (t) => {
  const rig = new Rig({ protocol: 'http2' });
  const client = rig.acceptHttp2();
  rig.ask(client, GET);
  rig.dial();
  rig.reply(rig.upstream, 'HTTP/1.1 400 Bad Request\r\n\r\n');
  rig.lose(rig.upstream, 0);
  rig.run();
  t.equal(rig.upstreams.size, 1);
  t.match(client.owner.news().at(-2) ?? '', /:status=502/);
});
