/** HTTP/2 connections that are lost, or not listened to any more: what becomes of requests, and of sockets. */
import t from 'tap';
import { H2ClientPeer, H2ServerPeer } from '../support/forward-h2-peers.ts';
import { type Call, pathOf } from '../support/forward-peers.ts';
import { type ClientEnd, World } from '../support/forward-world.ts';
import { bytesOf } from '../support/h2.ts';

/** One endpoint, and everybody behaves; requests are asked by hand. */
function quietWorld(): { world: World; client: ClientEnd } {
  const world = new World(1, {
    client: (clock) => new H2ClientPeer(clock),
    server: (clock) => new H2ServerPeer(clock),
  });
  world.endpoints = world.endpoints.slice(0, 1);
  world.settle();
  const [client] = world.clients.values();
  return { world, client };
}

function post(world: World, { peer }: ClientEnd): Call {
  const id = world.calls.length;
  const bodies = { length: 0, hasTrailers: false, responseLength: 5 };
  const state = { sent: 0, sentEnd: false, got: 0, held: 0, status: 0, outcome: undefined };
  const call: Call = { id, method: 'POST', path: pathOf(id, 0, 5, false), ...bodies, ...state };
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
