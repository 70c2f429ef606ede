/** `ferrule demo` on loopback, without privileges; what it promises its user and what it leaves: nothing. */

import t, { type Test } from 'tap';
import { type DemoEnd, poll, startDemo, temporaryFolder } from '../support/demo.ts';
import { checkServices } from '../support/demo-services.ts';
import { parseExposition } from '../support/exposition.ts';
import { requirePeer } from '../support/peers.ts';

// A dozen meshes are built and removed; alone tap would allow 30 s.
t.setTimeout(240_000);

const EXPLICIT = ['--mode', 'explicit'] as const;

function summaryOf(t: Test, { stdout, stderr }: DemoEnd) {
  const lines = stdout.split('\n');
  t.equal(lines.length, 2, 'one line and its end on standard output');
  t.match(stderr, /first traffic after/, 'progress is on standard error');
  return JSON.parse(lines[0]);
}

t.test('ends by itself and sums up', async (t) => {
  const demo = startDemo(t, [...EXPLICIT, '--for', '3s', '--json']);
  const end = await demo.ended;
  t.equal(end.status, 0, end.stderr);
  const summary = summaryOf(t, end);
  const names = ['transparent', 'requests', 'failures', 'mtlsShare', 'p50Ms', 'p99Ms'];
  t.strictSame(Object.keys(summary), [...names, 'certificateRotations', 'rootRollovers', 'services']);
  t.match(summary, { transparent: false, failures: 0, mtlsShare: 1 });
  t.ok(summary.certificateRotations >= 1, `${summary.certificateRotations} rotations`);
  t.ok(summary.requests > 100, `${summary.requests} requests in 3 s`);
  t.ok(summary.p50Ms > 0 && summary.p99Ms >= summary.p50Ms, JSON.stringify(summary));
  checkServices(t, summary);
  t.strictSame(demo.leftovers(), [], 'nothing is left when it returns');
});

t.test('traffic goes through both sidecars and to every endpoint, until Ctrl-C', async (t) => {
  const demo = startDemo(t, EXPLICIT);
  await demo.traffic();
  const [client, server] = [...demo.stderr.matchAll(/(http:\S+\/metrics)/g)].map(([url]) => url);
  const opened = async (url: string, labels: RegExp) => {
    const { samples } = parseExposition(await (await fetch(url)).text());
    return [...samples].filter(([name, value]) => labels.test(name) && value > 0).map(([name]) => name);
  };
  // Connections of echo are made anew every second or so, those of HTTP are the sidecar's: every endpoint gets some.
  const toEndpoints =
    /^tcp_open_total\{.*direction="outbound".*dst_service="(echo|web|http2|grpc)".*peer="dst"/;
  await poll('two endpoints of each built-in service', async () =>
    (await opened(client, toEndpoints)).length === 8 ? true : undefined,
  );
  const fromClient = /^tcp_open_total\{.*direction="inbound".*peer="src"/;
  t.ok((await opened(server, fromClient)).length >= 4, 'the ports of the server pod');
  const identity = /client_id="client\.demo\.serviceaccount\.identity\.linkerd\.cluster\.local"/;
  const named = (await opened(server, fromClient)).filter((name) => !identity.test(name));
  t.strictSame(named, [], 'every connection is that of the client sidecar');
  await demo.until('the roll-over', () => /the root was rolled over/.exec(demo.stderr)?.[0]);
  demo.kill('SIGINT');
  const end = await demo.ended;
  t.equal(end.status, 0, end.stderr);
  t.match(
    end.stdout,
    /^\d+ requests, 0 failed; .*; explicit ports; mutual TLS on 100 % of the connections, certificates replaced [4-9]\d* times, the root 1 times\n$/,
  );
  t.match(
    end.stderr,
    /mutual TLS on 100 % of the connections, certificates replaced \S+ times, valid until \d\d:\d\d:\d\d/,
  );
  t.strictSame(demo.leftovers(), []);
});

t.test('ends in order while it is being built', async (t) => {
  const demo = startDemo(t, [...EXPLICIT, '--json']);
  await demo.until('a process', () => (demo.processes().length > 1 ? true : undefined));
  demo.kill('SIGTERM');
  const end = await demo.ended;
  t.equal(end.status, 1, 'no traffic is no success');
  t.equal(end.stdout, '');
  t.strictSame(demo.leftovers(), []);
});

t.test('leaves nothing when it is killed', async (t) => {
  const early = startDemo(t, EXPLICIT);
  await early.until('a process', () => (early.processes().length > 1 ? true : undefined));
  early.kill('SIGKILL');
  await early.ended;
  await early.gone();
  const late = startDemo(t, EXPLICIT);
  await late.traffic();
  t.ok(late.processes().length >= 5, 'sidecars, clients, servers and a janitor');
  late.kill('SIGKILL');
  t.equal((await late.ended).signal, 'SIGKILL');
  await late.gone();
});

t.test('removes what a demo left that was killed with its janitor', async (t) => {
  const temporary = temporaryFolder(t);
  const killed = startDemo(t, EXPLICIT, { temporary });
  await killed.traffic();
  const janitor = killed.processes().find(({ command }) => command.includes('ferrule-demo-janitor'));
  process.kill(janitor!.pid, 'SIGKILL');
  killed.kill('SIGKILL');
  await killed.ended;
  t.not(killed.leftovers().length, 0, 'nobody was there to clean up');
  const next = startDemo(t, [...EXPLICIT, '--for', '1s'], { temporary });
  const { status, stderr } = await next.ended;
  t.equal(status, 0, stderr);
  t.match(stderr, new RegExp(`removed what a killed demo had left: ferrule-demo-${killed.pid}-`));
  await killed.gone();
});

t.test('a sidecar that dies is a failure that names it', async (t) => {
  const demo = startDemo(t, [...EXPLICIT, '--json']);
  await demo.traffic();
  const sidecar = demo.processes().find(({ command }) => command.includes('server-sidecar.yaml'));
  process.kill(sidecar!.pid, 'SIGKILL');
  const end = await demo.ended;
  t.equal(end.status, 1);
  t.match(end.stderr, /sidecar of the server pod: it was ended by SIGKILL/);
  t.equal(end.stdout, '', 'no summary of a broken run');
  t.strictSame(demo.leftovers(), []);
});

t.test('requests that fail are counted, and the status says so', async (t) => {
  if (requirePeer(t, 'redis-server') === undefined) return;
  const demo = startDemo(t, [...EXPLICIT, '--json']);
  const redis = await demo.until('redis', () =>
    demo.processes().find(({ command }) => command.startsWith('/') && command.includes('redis-server ')),
  );
  await demo.until('traffic to redis', () => (/redis [1-9]/.test(demo.stderr) ? true : undefined));
  process.kill(redis.pid, 'SIGKILL');
  // Its port is closed from now on; every client finds out within a few milliseconds.
  await poll('its end', () => (demo.processes().some(({ pid }) => pid === redis.pid) ? undefined : true));
  const seen = demo.stderr.length;
  await demo.until('the next figures', () => (/redis/.test(demo.stderr.slice(seen)) ? true : undefined));
  demo.kill('SIGINT');
  const end = await demo.ended;
  t.equal(end.status, 1);
  t.ok(summaryOf(t, end).failures > 0, end.stdout);
  t.match(end.stderr, /the last failure: redis: /);
});

t.test('without root it says why it is not transparent', async (t) => {
  const root = process.getuid?.() === 0;
  const demo = startDemo(t, ['--for', '1s', '--json'], root ? { uid: 65534 } : {});
  const end = await demo.ended;
  if (root && end.status !== 0 && /EACCES|Cannot find module/.test(end.stderr)) {
    t.pass('the checkout is closed to others', { skip: 'the checkout is closed to others' });
    return;
  }
  t.equal(end.status, 0, end.stderr);
  t.match(end.stderr, /no transparent demo here: .*need root\nusing loopback and explicit ports instead/);
  t.equal(summaryOf(t, end).transparent, false);
  t.strictSame(demo.leftovers(), []);
});

t.test('wrong options end before anything is made', async (t) => {
  const demo = startDemo(t, ['--for', 'ever', '--mode', 'magic']);
  const end = await demo.ended;
  t.equal(end.status, 64);
  t.match(
    end.stderr,
    /--for: must be a duration .*\n.*--mode: "magic" is none of auto, transparent, explicit/,
  );
  t.equal(end.stdout, '');
});
