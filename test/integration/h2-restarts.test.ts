/** Rolling restarts under gRPC: unary calls do not notice, and streams end with UNAVAILABLE or not at all. */
import t, { type Test } from 'tap';
import { H2Client } from '../support/h2-application.ts';
import { startMeshed } from '../support/meshed.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';
import { Load, Replica } from '../support/rolling.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Connections, calls at once on each, and what each pauses between two messages in ms: client and servers are one process. */
const [CONNECTIONS, STREAMS, PAUSE_MS] = SOAK ? [100, 100, 2_000] : [10, 20, 100];
/** What a server has to end its calls, in ms. */
const GRACE_MS = SOAK ? 3_000 : 300;
const REPLICAS = 2;
/** How often each is restarted. */
const ROUNDS = SOAK ? 2 : 1;

const UNAVAILABLE = 14;

t.setTimeout(SOAK ? 1_800_000 : 120_000);

/** A way to the replicas. */
type Way = (t: Test, replicas: readonly Replica[]) => Promise<TestProxy>;

const one: Way = (t, replicas) => {
  const mesh = { 'app.yaml': serviceYaml('app', replicas) };
  return startTestProxy(t, { outbound: listenerFor('app'), mesh });
};

/** Each replica behind a sidecar of its own, which stays. */
const two: Way = async (t, replicas) => {
  const { outgoing } = await startMeshed(
    t,
    replicas.map(({ address }) => address),
  );
  return outgoing;
};

async function startReplicas(t: Test, seen: Map<string, number>): Promise<Replica[]> {
  const replicas = Array.from({ length: REPLICAS }, () => new Replica(t, seen));
  for (const replica of replicas) await replica.start();
  return replicas;
}

/** Restarts them one after the other, each when the one before is in use again. */
async function restart(replicas: readonly Replica[], load: Load): Promise<void> {
  for (const replica of replicas) {
    await load.goOn(CONNECTIONS * STREAMS, 0);
    await replica.stop(GRACE_MS);
    // Clients go on while it is away.
    await load.goOn(CONNECTIONS * STREAMS, 0);
    await replica.start();
    const used = replica.calls + STREAMS;
    await eventually('calls come back', () => replica.calls > used || undefined);
  }
}

for (const [name, start] of Object.entries({ 'one proxy': one, 'two with mutual TLS': two })) {
  t.test(name, async (t) => {
    const seen = new Map<string, number>();
    const replicas = await startReplicas(t, seen);
    const proxy = await start(t, replicas);
    const load = new Load(t, proxy.listeners[0], CONNECTIONS, STREAMS, PAUSE_MS);
    for (let round = 0; round < ROUNDS; round++) await restart(replicas, load);
    await load.stop();
    const { unary, streaming } = load;
    t.comment(`${unary.length} unary calls, ${streaming.length} streams`);
    t.strictSame(Load.failures(unary).slice(0, 5), [], 'no unary call fails');
    t.strictSame([...seen].filter(([, times]) => times !== 1).slice(0, 5), [], 'none is sent twice');
    t.equal(seen.size, unary.length, 'all reached a server');
    const cut = Load.failures(streaming);
    t.ok(cut.length > 0 && cut.length < streaming.length, `${cut.length} streams were cut`);
    const wrong = cut.filter(({ status, right }) => status !== UNAVAILABLE || !right);
    t.strictSame(
      wrong.slice(0, 5),
      [],
      'those end with UNAVAILABLE, and what came is no other than what was sent',
    );
    const labels = { direction: 'outbound', grpc_status: String(UNAVAILABLE) };
    const [broken, unanswered] = [
      await proxy.sum('response_total', labels),
      await proxy.sum('outbound_http_errors_total'),
    ];
    t.equal(broken + unanswered, cut.length, `and are counted: ${unanswered} of them had no answer yet`);
    const unreached = await proxy.sum('ferrule_http_replays_total', { reason: 'unreached' });
    t.equal(
      unreached > 0,
      start === two,
      `${unreached} went elsewhere since a sidecar was there and its application not`,
    );
    for (const replica of replicas) await replica.stop(GRACE_MS);
    const { headers } = await new H2Client(t, proxy.listeners[0]).post('/unary/last', [], {
      ...{ 'content-type': 'application/grpc', te: 'trailers' },
    });
    t.equal(headers['grpc-status'], String(UNAVAILABLE), 'when there is nobody left to ask, that is said');
    const why = decodeURIComponent(String(headers['grpc-message']));
    t.match(why, /no endpoint could be reached \(2 endpoints were tried\); last: .*ECONNREFUSED/);
    t.notOk('l5d-proxy-unprocessed' in headers, 'sidecars keep to themselves what they tell each other');
  });
}
