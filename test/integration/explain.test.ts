/** Decisions of a real proxy, asked for through its admin port and by `ferrule explain`. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { Agent, request as ask, type IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import type { Explanation } from '../../proxy/model/explanation.ts';
import { createFolder } from '../support/admin.ts';
import { at } from '../support/engine.ts';
import { startApplication } from '../support/http-application.ts';
import { makeIdentities } from '../support/identities.ts';
import { spawnNode } from '../support/node-child.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

const FERRULE = fileURLToPath(new URL('../../proxy/cli/ferrule.ts', import.meta.url));

const THROWING = fileURLToPath(new URL('../support/throwing-worker.mjs', import.meta.url));

/** An address where nothing listens. */
async function deadAddress(): Promise<SocketAddress> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return at(`127.0.0.1:${port}`);
}

/** One GET; its response, with the body read. */
async function get(address: SocketAddress, path: string, agent = new Agent()): Promise<IncomingMessage> {
  const request = ask({
    host: address.ip,
    port: address.port,
    agent,
    path,
    headers: { host: 'web.default' },
  });
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  await response.resume().toArray();
  return response;
}

/** The latest request with that path, once it has ended. */
function listed(proxy: TestProxy, path: string): Promise<Explanation> {
  return eventually(`${path} is listed`, async () =>
    (await proxy.explanations()).find(
      ({ request, endedAfterMs }) => request.path === path && endedAfterMs !== undefined,
    ),
  );
}

/** `ferrule explain` as a user calls it. */
async function explain(proxy: TestProxy, ...args: string[]) {
  const { admin, token } = await proxy.logged(/^ready$/);
  const options = ['--admin', String(admin), '--token-file', String(token)];
  const child = spawnNode([FERRULE, 'explain', ...args, ...options]);
  const [stdout, stderr, [status]] = await Promise.all([
    child.stdout.setEncoding('utf8').toArray(),
    child.stderr.setEncoding('utf8').toArray(),
    once(child, 'close'),
  ]);
  return { status, stdout: stdout.join(''), stderr: stderr.join('') };
}

t.test('a request that the proxy refused tells its id, and the id tells why', async (t) => {
  const address = await deadAddress();
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
  });
  const response = await get(proxy.listeners[0], '/refused?secret=1');
  t.equal(response.statusCode, 502);
  const id = String(response.headers['l5d-proxy-decision']);
  const why = String(response.headers['l5d-proxy-error']);
  const told = await proxy.explanation(id);
  t.match(told, {
    id,
    direction: 'outbound',
    request: { method: 'GET', path: '/refused', authority: 'web.default' },
    outcome: 'refused',
    status: 502,
    message: why,
    attempts: [{ endpoint: String(address), connection: 'new', outcome: 'not reached' }],
    attemptsLeftOut: 0,
  });
  t.match(told.attempts[0].choice, { reason: 'only', compared: [{ address: String(address) }] });
  t.match(told.attempts[0].detail, 'ECONNREFUSED');
  t.ok(await proxy.sum('outbound_http_errors_total', { error: told.error! }), 'counted by that name');
  t.ok(told.endedAfterMs! >= told.attempts[0].afterMs, 'in this order');
  t.equal(told.sentAfterMs, undefined, 'it never went out');
  const agoMs = Date.now() - Date.parse(told.startedAt);
  t.ok(agoMs >= -1_000 && agoMs < 60_000, `${agoMs} ms ago`);
  const { status, stdout, stderr } = await explain(proxy, id);
  t.equal(status, 0, stderr);
  t.match(stdout, `${id}  GET web.default/refused: the proxy itself answered 502`);
  t.match(stdout, `why         ${why}`);
  t.notMatch(stdout, 'secret');
});

t.test('a request that was tried again shows both attempts', async (t) => {
  const application = await startApplication(t);
  const dead = await deadAddress();
  // The dead one is drawn first, nearly always; after a failure it is not for a second.
  const endpoints = [{ address: dead, weight: 1000 }, { address: application.address }];
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', endpoints) },
  });
  const told = await eventually('a request that was tried twice', async () => {
    t.equal((await get(proxy.listeners[0], '/again')).statusCode, 200);
    const latest = await listed(proxy, '/again');
    return latest.attempts.length > 1 ? latest : undefined;
  });
  t.match(told, {
    outcome: 'answered',
    status: 200,
    attempts: [
      { endpoint: String(dead), connection: 'new', outcome: 'not reached', choice: { reason: 'drawn' } },
      { endpoint: String(application.address), outcome: 'answered', choice: { reason: 'rest' } },
    ],
  });
  t.strictSame(
    told.attempts[0].choice?.compared.map(({ address }) => address).sort(),
    [String(dead), String(application.address)].sort(),
  );
  t.strictSame(await proxy.explanation(told.id), told, 'the same by its id');
  const { stdout } = await explain(proxy);
  t.match(
    stdout,
    new RegExp(`^${told.id} .* GET web.default/again .* 200 .*${application.address} +2 attempts$`, 'm'),
  );
});

t.test('plain requests are listed on both sides, newest first, and connections are told apart', async (t) => {
  const application = await startApplication(t);
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const incoming = await startTestProxy(t, {
    identity: api.settings,
    inbound: {
      ports: [{ listen: '127.0.0.2:0', port: application.address.port, policy: 'all-authenticated' }],
    },
  });
  const outgoing = await startTestProxy(t, {
    identity: web.settings,
    outbound: { ...listenerFor('web'), multiplex: false },
    mesh: { 'web.yaml': serviceYaml('web', [{ address: incoming.listeners[0], identity: api.spiffe }]) },
  });
  for (const path of ['/one', '/two']) t.equal((await get(outgoing.listeners[0], path)).statusCode, 200);
  const [one, two] = [await listed(outgoing, '/one'), await listed(outgoing, '/two')];
  t.match(one.attempts, [{ identity: api.spiffe, connection: 'new', outcome: 'answered' }]);
  t.match(two.attempts, [{ identity: api.spiffe, connection: 'kept', served: 1, outcome: 'answered' }]);
  t.ok(two.sentAfterMs! <= two.answeredAfterMs! && two.answeredAfterMs! <= two.endedAfterMs!, 'in order');
  const paths = (await outgoing.explanations()).map(({ request }) => request.path);
  t.strictSame(paths, ['/two', '/one']);
  const inbound = await listed(incoming, '/two');
  t.match(inbound, {
    direction: 'inbound',
    clientIdentity: web.serverName,
    outcome: 'answered',
    status: 200,
  });
  t.equal(inbound.attempts.length, 1);
  t.equal(inbound.attempts[0].choice, undefined, 'there is one application');
  const { stdout } = await explain(incoming, inbound.id);
  t.match(stdout, web.serverName);
});

t.test('what is not known any more, or never was', async (t) => {
  const address = await deadAddress();
  const order = join(createFolder(t), 'throw');
  process.env.FERRULE_TEST_THROW = order;
  t.teardown(() => delete process.env.FERRULE_TEST_THROW);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    mesh: { 'web.yaml': serviceYaml('web', [{ address }]) },
    nodeArguments: ['--import', THROWING],
  });
  const { headers } = await get(proxy.listeners[0], '/');
  const id = String(headers['l5d-proxy-decision']);
  t.equal((await proxy.explanation(id)).id, id);
  await t.rejects(proxy.explanation('0-999'), /nothing is known of 0-999: /);
  await t.rejects(proxy.explanation('77-1'), /no worker 77 runs here/);
  await t.rejects(proxy.explanation('x'), /an id looks like 0-1234/);
  const { status, stderr } = await explain(proxy, '77-1');
  t.equal(status, 1);
  t.match(stderr, 'no worker 77 runs here: it was replaced, or the id is of another proxy');
  writeFileSync(order, '');
  await proxy.logged(/^worker replaced$/);
  await t.rejects(proxy.explanation(id), /no worker 0 runs here: it was replaced/);
  t.strictSame(await proxy.explanations(), [], 'its replacement knows nothing yet');
  await get(proxy.listeners[0], '/');
  t.equal((await listed(proxy, '/')).id, '1-1');
});
