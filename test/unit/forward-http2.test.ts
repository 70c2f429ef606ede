/** HTTP/2 connections that are lost, or not listened to any more: what becomes of requests, and of sockets. */
import t from 'tap';
import { H2_ERROR } from '../../proxy/http/h2/frames.ts';
import { H2ClientPeer, H2ServerPeer } from '../support/forward-h2-peers.ts';
import { type Call, pathOf } from '../support/forward-peers.ts';
import { type ClientEnd, World } from '../support/forward-world.ts';
import { bytesOf, GET, goAway, headersBegin, join, ping } from '../support/h2.ts';

/** One endpoint, and everybody behaves; requests are asked by hand. */
function quietWorld(change = (_server: H2ServerPeer) => {}): { world: World; client: ClientEnd } {
  const world = new World(1, {
    client: (clock) => new H2ClientPeer(clock),
    server: (clock) => {
      const server = new H2ServerPeer(clock);
      change(server);
      return server;
    },
  });
  world.endpoints = world.endpoints.slice(0, 1);
  world.settle();
  const [client] = world.clients.values();
  return { world, client };
}

function post(world: World, { peer }: ClientEnd, responseLength = 5): Call {
  const id = world.calls.length;
  const bodies = { length: 0, hasTrailers: false, responseLength };
  const state = { sent: 0, sentEnd: false, got: 0, held: 0, status: 0, outcome: undefined };
  const call: Call = { id, method: 'POST', path: pathOf(id, 0, responseLength, false), ...bodies, ...state };
  world.calls.push(call);
  peer.ask(call);
  return call;
}

t.test('a request of which nothing was written when its connection is lost goes elsewhere', async (t) => {
  const { world, client } = quietWorld();
  post(world, client);
  world.settle();
  const call = post(world, client);
  world.arrive(client);
  world.loseServers(0);
  world.settle();
  t.equal(call.status, 200);
  t.equal(world.upstreams.size, 2, 'on a second connection');
});

t.test('… and one that may have been processed does not', async (t) => {
  const { world, client } = quietWorld();
  post(world, client);
  world.settle();
  const call = post(world, client);
  world.arrive(client);
  world.loseServers(1);
  world.settle();
  t.equal(call.status, 502);
});

t.test('a client that does not fetch what ends its connection is cut off', async (t) => {
  const { world, client } = quietWorld();
  const socket = world.engine.sockets.get(client.connection.client)!;
  client.peer.toProxy = bytesOf('This is no frame of HTTP/2, whatever one may think of it.');
  world.arrive(client);
  t.equal(socket.ending, 'close');
  world.engine.batch(() => world.http.timedOut(client.connection));
  t.equal(socket.ending, 'reset');
});

t.test('a client that was told to leave and says nothing is cut off', async (t) => {
  const { world, client } = quietWorld();
  const socket = world.engine.sockets.get(client.connection.client)!;
  world.engine.ms += 1;
  world.engine.batch(() => world.http.closeIdle([client.connection]));
  for (const expected of ['no', 'reset']) {
    world.engine.ms += 10_000;
    world.engine.batch(() => world.http.timedOut(client.connection));
    t.equal(socket.ending, expected);
  }
});

t.test('a client that keeps its connection alive and not its streams loses those', async (t) => {
  const { world, client } = quietWorld();
  const consume = client.peer.consume;
  client.peer.consume = () => undefined;
  const call = post(world, client, 150_000);
  world.settle();
  t.equal(call.outcome, undefined, 'it has no window');
  for (const expected of [undefined, 'reset']) {
    world.engine.ms += 200_000;
    client.peer.toProxy = ping();
    world.arrive(client);
    world.engine.batch(() => world.http.sweep());
    world.settle();
    t.equal(call.outcome, expected);
  }
  client.peer.consume = consume;
  t.strictSame(world.ask(), [], 'and nothing else');
});

t.test('a client that does not finish a head is cut off', async (t) => {
  const { world, client } = quietWorld();
  const socket = world.engine.sockets.get(client.connection.client)!;
  client.peer.toProxy = headersBegin(1, GET);
  world.arrive(client);
  for (const expected of ['no', 'close']) {
    world.engine.batch(() => world.http.endStuck());
    t.equal(socket.ending, expected);
  }
});

t.test('a connection on which many streams were given up gets no new ones', async (t) => {
  const { world, client } = quietWorld();
  const giveUp = (count: number) => {
    for (let n = 0; n < count; n++) {
      const call = post(world, client);
      world.arrive(client);
      client.peer.cancel(call);
      world.arrive(client);
    }
    world.settle();
  };
  giveUp(200);
  world.engine.ms += 10_000;
  giveUp(250);
  t.equal(world.upstreams.size, 1, 'what was given up long ago is forgotten');
  const kept = post(world, client);
  world.arrive(client);
  giveUp(200);
  t.equal(world.upstreams.size, 2, 'soon after another one is opened');
  t.equal(kept.status, 200, 'what is on its way is answered');
});

t.test('a request that is reset with what brought it reaches no endpoint', async (t) => {
  const servers: H2ServerPeer[] = [];
  const { world, client } = quietWorld((server) => servers.push(server));
  post(world, client);
  world.settle();
  const seen = () => servers.flatMap(({ services }) => services.map(({ id }) => id));
  t.strictSame(seen(), [0]);
  const calls = Array.from({ length: 6 }, () => post(world, client));
  // The first, two in the middle, and the last: what stays is sent in its order.
  for (const gone of [5, 2, 3, 0]) client.peer.cancel(calls[gone]);
  world.arrive(client);
  world.settle();
  t.strictSame(
    calls.map(({ status }) => status),
    [0, 200, 0, 0, 200, 0],
  );
  t.strictSame(seen(), [0, calls[1].id, calls[4].id]);
  const explained = world.http.explain(undefined).slice(0, 6).reverse();
  t.strictSame(
    explained.map(({ outcome, attempts }) => `${outcome} ${attempts.length}`),
    ['client left 0', 'answered 1', 'client left 0', 'client left 0', 'answered 1', 'client left 0'],
  );
  t.strictSame(world.ask(), [], 'and nothing of it stays');
});

t.test('endpoints that leave at once are not dialled for every request that waits', async (t) => {
  const { world, client } = quietWorld((server) => {
    server.toProxy = join(server.toProxy, goAway(0, H2_ERROR.noError));
  });
  const calls = Array.from({ length: 50 }, () => post(world, client));
  world.settle();
  t.same(new Set(calls.map(({ status }) => status)), new Set([502]));
  t.ok(world.upstreams.size <= 5, `${world.upstreams.size} connections`);
  t.match(world.http.explain(undefined)[0].message, /takes no streams, 4 times in a row/);
});

t.test('endpoints that do not speak HTTP/2', async (t) => {
  const { world, client } = quietWorld((server) => {
    server.toProxy = bytesOf('HTTP/1.1 400 Bad Request\r\n\r\n');
  });
  const call = post(world, client);
  world.settle();
  t.equal(call.status, 502);
  t.match(
    world.http.explain(undefined)[0].message,
    /no endpoint could be reached; last: 10\.0\.0\.1:80: closed \(.*SETTINGS/,
  );
});
