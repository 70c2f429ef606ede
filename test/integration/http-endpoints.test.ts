/** Endpoints that come and go under load: requests and connections move to them and away from them, and none fails. */
import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { type Backend, type Result, send, startBackend } from '../support/http-results.ts';
import { makeIdentities } from '../support/identities.ts';
import {
  eventually,
  listenerFor,
  serviceYaml,
  startTestProxy,
  type TestEndpoint,
  type TestProxy,
} from '../support/proxy.ts';

/** Requests under way at once: each backend takes 5 ms for one. */
const IN_FLIGHT = 32;

/** How long backends keep idle connections, in ms; the proxy learns that, and keeps them a second less. */
const KEEP_MS = 2_000;

/** Until connections that are not needed any more are gone, in ms: a second, and what a loaded machine makes of it. */
const MAX_MOVE_MS = 10_000;

const POOL = 'ferrule_http_pool_connections';

/** Requests that follow each other until told to stop. */
class Load {
  readonly results: Result[] = [];
  private readonly agent = new Agent({ keepAlive: true });
  private readonly ended: Promise<unknown>;
  private stopping = false;

  constructor(address: SocketAddress) {
    const client = async (_: unknown, own: number) => {
      for (let n = 0; !this.stopping; n++) {
        const method = n % 2 === 0 ? 'GET' : 'POST';
        this.results.push(await send(this.agent, address, method, `${own}-${n}`, n % 4 === 1));
      }
    };
    this.ended = Promise.all(Array.from({ length: IN_FLIGHT }, client));
  }

  /** Waits until `count` more requests are over. */
  async goOn(count: number): Promise<void> {
    const until = this.results.length + count;
    await eventually(`${count} more requests`, () => this.results.length >= until || undefined);
  }

  /** Ends it. Asserts that every request was answered and reached one backend, once. */
  async judge(t: Test, seen: ReadonlyMap<string, number>): Promise<void> {
    this.stopping = true;
    await this.ended;
    this.agent.destroy();
    const failed = this.results.filter(({ status }) => status !== 200);
    t.strictSame(failed.slice(0, 5), [], `${this.results.length} requests, none of which fails`);
    t.equal(seen.size, this.results.length, 'as many were seen by backends');
    const twice = this.results.filter(({ id, method }) => method === 'POST' && seen.get(id) !== 1);
    t.strictSame(twice.slice(0, 5), [], 'no POST twice');
  }
}

/** Backends of one test, gone when it ends. */
async function startBackends(t: Test, seen: Map<string, number>, count: number): Promise<Backend[]> {
  const backends = await Promise.all(Array.from({ length: count }, () => startBackend(seen, KEEP_MS)));
  t.teardown(() => {
    for (const { server } of backends) {
      server.closeAllConnections();
      server.close();
    }
  });
  return backends;
}

function startProxy(t: Test, endpoints: readonly TestEndpoint[], identity?: object): Promise<TestProxy> {
  return startTestProxy(t, {
    ...(identity === undefined ? {} : { identity }),
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', endpoints) },
  });
}

/** Connections of the proxy to endpoints. */
async function connections(proxy: TestProxy, backends: readonly Backend[]): Promise<number> {
  let sum = 0;
  for (const { address } of backends) sum += await proxy.sum(POOL, { target_addr: String(address) });
  return sum;
}

t.test('endpoints that are added get their share, and the surplus of connections goes', async (t) => {
  const seen = new Map<string, number>();
  const backends = await startBackends(t, seen, 8);
  const old = backends.slice(0, 2);
  const proxy = await startProxy(t, old);
  const load = new Load(proxy.listeners[0]);
  await load.goOn(1_000);
  const before = await connections(proxy, old);
  t.ok(before >= IN_FLIGHT, `${before} connections to two endpoints`);
  const added = performance.now();
  proxy.writeMesh('app.yaml', serviceYaml('app', backends));
  let left = before;
  await eventually(
    'the surplus is gone',
    async () => {
      left = await connections(proxy, old);
      return left <= before * 0.75 || undefined;
    },
    () => `${left} of ${before} are left`,
  );
  const tookMs = Math.round(performance.now() - added);
  t.ok(tookMs < MAX_MOVE_MS, `${left} of ${before} connections are left after ${tookMs} ms`);
  const shares = async () =>
    Promise.all(backends.map(({ address }) => proxy.sum('response_total', { target_addr: String(address) })));
  const then = await shares();
  await load.goOn(2_000);
  const parts = (await shares()).map((count, index) => count - then[index]);
  const sum = parts.reduce((total, part) => total + part, 0);
  // Of newcomers less for a while: they start slowly.
  for (const part of parts) t.ok(part > sum * 0.05 && part < sum * 0.35, `${part} requests of ${sum}`);
  await load.judge(t, seen);
  await proxy.idle();
});

t.test('an endpoint that is removed is left alone before anything fails', async (t) => {
  const seen = new Map<string, number>();
  const backends = await startBackends(t, seen, 3);
  const [gone, ...rest] = backends;
  const proxy = await startProxy(t, backends);
  const load = new Load(proxy.listeners[0]);
  await load.goOn(1_000);
  proxy.writeMesh('app.yaml', serviceYaml('app', rest));
  await eventually('nothing leads there', async () => (await connections(proxy, [gone])) === 0 || undefined);
  // As hard as a server can go.
  gone.server.closeAllConnections();
  gone.server.close();
  await load.goOn(1_000);
  await load.judge(t, seen);
  await proxy.idle();
});

/** Two backends, each behind a sidecar that demands mutual TLS, and the sidecar of their client. */
async function startMeshed(t: Test, seen: Map<string, number>) {
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const backends = await startBackends(t, seen, 2);
  const sidecars = await Promise.all(
    backends.map(({ address: { port } }, index) =>
      startTestProxy(t, {
        identity: api.settings,
        inbound: { ports: [{ listen: `127.0.0.${index + 2}:0`, port, policy: 'all-authenticated' }] },
        shutdown: { grace: '30s', drainDelay: '500ms' },
      }),
    ),
  );
  const endpoints = sidecars.map(({ listeners }) => ({ address: listeners[0], identity: api.spiffe }));
  return { sidecars, endpoints, outgoing: await startProxy(t, endpoints, web.settings) };
}

for (const told of [true, false]) {
  const name = told ? 'discovery removes it within the delay' : 'nobody tells';
  t.test(`SIGTERM of one of two sidecars under load: ${name}`, async (t) => {
    const seen = new Map<string, number>();
    const { sidecars, endpoints, outgoing } = await startMeshed(t, seen);
    const load = new Load(outgoing.listeners[0]);
    await load.goOn(1_000);
    sidecars[0].kill('SIGTERM');
    if (told) outgoing.writeMesh('app.yaml', serviceYaml('app', endpoints.slice(1)));
    let status: number | null | undefined;
    void sidecars[0].ended.then((end) => {
      status = end.status;
    });
    await eventually(
      'it ends',
      () => (status === undefined ? undefined : true),
      () => sidecars[0].said(),
    );
    t.equal(status, 0);
    t.notMatch(sidecars[0].said(), /"level":"error"/);
    await load.goOn(1_000);
    await load.judge(t, seen);
    // It lets go of what it shares at once then, and not when that has been idle for long enough.
    outgoing.writeMesh('app.yaml', serviceYaml('app', []));
    await outgoing.idle();
  });
}
