import t, { type Test } from 'tap';
import {
  ask,
  CLIENT,
  createMesh,
  type Mesh,
  PROXY_UID,
  SERVER,
  type Sidecar,
  service,
  startServer,
  startSidecar,
} from '../support/mesh.ts';
import { exec } from '../support/netns.ts';
import { init } from '../support/pod.ts';

/** Runs curl in the pod of the client past its rules, straight to the redirect of the server. */
function bypass(mesh: Mesh, url: string) {
  const who = ['--reuid', String(PROXY_UID), '--regid', String(PROXY_UID), '--clear-groups'];
  return exec(mesh.client, 'setpriv', [...who, 'curl', '-s', '-m', '5', url]);
}

/** What curl says of a connection that is reset once it is there; the first, where it hears of both at once. */
const RESET = [7, 56];

/** That a sidecar has not dialled anybody: nothing opened, nothing tried in vain. */
function expectNothingDialled(t: Test, sidecar: Sidecar): void {
  t.equal(sidecar.sum('tcp_open_total', 'peer="dst"'), 0, 'nothing was dialled');
  t.equal(sidecar.sum('ferrule_tcp_connect_failures_total'), 0, 'not even in vain');
}

t.test('an inbound destination that is not this host is refused: no open proxy', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const incoming = await startSidecar(t, mesh.server);
  t.ok(RESET.includes(bypass(mesh, 'http://203.0.113.9:8443/').status ?? 0), 'reset by the proxy');
  await incoming.until('the log says why', () => incoming.log().includes('reason=not_this_host'));
  t.match(incoming.log(), /target=203\.0\.113\.9:8443/);
  t.match(incoming.log(), new RegExp(`client=${CLIENT.v4.replaceAll('.', '\\.')}:`), 'and who it was');
  t.equal(incoming.metric('inbound_tcp_errors_total', { error: 'not_this_host' }), 1);
  expectNothingDialled(t, incoming);
});

for (const port of [4140, 4143]) {
  t.test(`the proxy's own port ${port} is never dialled for an inbound connection`, async (t) => {
    const mesh = createMesh(t, 'nft');
    if (mesh === undefined) return;
    // An outbound port on loopback alone could not be reached through another address of the host.
    const config = port === 4140 ? { outbound: { listen: ['0.0.0.0:4140'] } } : {};
    const incoming = await startSidecar(t, mesh.server, { config });
    t.ok(RESET.includes(bypass(mesh, `http://${SERVER.v4}:${port}/`).status ?? 0), 'reset by the proxy');
    await incoming.until('the log says why', () => incoming.log().includes('reason=own_port'));
    t.match(incoming.log(), new RegExp(`target=${SERVER.v4.replaceAll('.', '\\.')}:${port}`));
    t.equal(incoming.metric('inbound_tcp_errors_total', { error: 'own_port' }), 1);
    expectNothingDialled(t, incoming);
  });
}

t.test('a wrong uid is a loop: refused, named, and not a runaway', async (t) => {
  const mesh = createMesh(t, 'nft', 2103);
  if (mesh === undefined) return;
  const outgoing = await startSidecar(t, mesh.client);
  const answer = ask(mesh.client, SERVER.v4, 7000, 'E', 10);
  t.equal(answer.error, 'ECONNRESET', 'the client is told');
  await outgoing.until('the log names it', () => outgoing.log().includes('reason=loop'));
  t.match(outgoing.log(), /--proxy-uid 2102/, 'and says what to do');
  t.ok(outgoing.metric('outbound_tcp_errors_total', { error: 'loop' }) >= 1);
  t.ok(outgoing.sum('ferrule_engine_accepted_total') <= 8, 'it did not go round and round');
});

t.test('services that share an address are refused, both named', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const resources =
    service('one', '10.96.0.10', 7000, [SERVER.v4]) + service('two', '10.96.0.10', 7000, [SERVER.v4]);
  const outgoing = await startSidecar(t, mesh.client, { resources });
  t.equal(ask(mesh.client, '10.96.0.10', 7000, 'E', 10).error, 'ECONNRESET');
  await outgoing.until('the log says why', () => outgoing.log().includes('reason=service_conflict'));
  t.match(outgoing.log(), /one.*two|two.*one/);
  t.equal(outgoing.metric('outbound_tcp_errors_total', { error: 'service_conflict' }), 1);
});

t.test('discovery that does not answer in time refuses, and never forwards in plaintext', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const config = { outbound: { discoveryTimeout: '500ms' } };
  const outgoing = await startSidecar(t, mesh.client, { config, discovery: '/nowhere/mesh.d' });
  await startSidecar(t, mesh.server);
  await startServer(mesh.server, '0.0.0.0', 7000);
  t.equal(ask(mesh.client, SERVER.v4, 7000, 'E', 10).error, 'ECONNRESET');
  await outgoing.until('the log says why', () => outgoing.log().includes('reason=discovery_timeout'));
  t.equal(outgoing.metric('outbound_tcp_errors_total', { error: 'discovery_timeout' }), 1);
  expectNothingDialled(t, outgoing);
});

t.test('an endpoint with an identity is never dialled in plaintext', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const identity =
    ', annotations: { ferrule.dev/identity: web.default.serviceaccount.identity.linkerd.cluster.local }';
  const resources = service('web', '10.96.0.10', 7000, [SERVER.v4], identity);
  const outgoing = await startSidecar(t, mesh.client, { resources });
  await startSidecar(t, mesh.server);
  await startServer(mesh.server, '0.0.0.0', 7000);
  for (const host of ['10.96.0.10', SERVER.v4]) {
    t.equal(ask(mesh.client, host, 7000, 'E', 10).error, 'ECONNRESET', host);
  }
  await outgoing.until('the log says why', () => outgoing.log().includes('reason=mtls_unavailable'));
  t.equal(outgoing.metric('outbound_tcp_errors_total', { error: 'mtls_unavailable' }), 2);
  expectNothingDialled(t, outgoing);
});

t.test('the outbound port serves this host only', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const config = { outbound: { listen: ['0.0.0.0:4140'] }, inbound: { listen: [] } };
  const incoming = await startSidecar(t, mesh.server, { config });
  // The rules would take the connection to the inbound port, where nobody listens now.
  t.equal(init(mesh.server, ['--cleanup', '--iptables-mode', 'nft']).status, 0);
  t.ok(RESET.includes(bypass(mesh, `http://${SERVER.v4}:4140/`).status ?? 0), 'reset by the proxy');
  await incoming.until('the log says why', () => incoming.log().includes('reason=foreign_client'));
  t.match(incoming.log(), new RegExp(`client=${CLIENT.v4}`));
  t.equal(incoming.metric('outbound_tcp_errors_total', { error: 'foreign_client' }), 1);
  expectNothingDialled(t, incoming);
});
