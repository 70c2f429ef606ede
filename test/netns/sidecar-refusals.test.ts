import t from 'tap';
import { ask, CLIENT, createMesh, SERVER, service, startServer, startSidecar } from '../support/mesh.ts';
import { exec } from '../support/netns.ts';
import { init } from '../support/pod.ts';

t.test('an inbound destination that is not this host is refused: no open proxy', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const incoming = await startSidecar(t, mesh.server);
  // The client has no sidecar: straight to the server's redirect.
  const who = ['--reuid', '2102', '--regid', '2102', '--clear-groups', 'curl', '-s', '-m', '5'];
  const result = exec(mesh.client, 'setpriv', [...who, 'http://203.0.113.9:8443/']);
  t.equal(result.status, 56, 'reset by the proxy');
  await incoming.until('the log says why', () => incoming.log().includes('reason=not_this_host'));
  t.match(incoming.log(), /target=203\.0\.113\.9:8443/);
  t.equal(incoming.metric('inbound_tcp_errors_total', { error: 'not_this_host' }), 1);
});

t.test("the proxy's own ports are never dialled", async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const incoming = await startSidecar(t, mesh.server);
  const who = ['--reuid', '2102', '--regid', '2102', '--clear-groups', 'curl', '-s', '-m', '5'];
  const result = exec(mesh.client, 'setpriv', [...who, `http://${SERVER.v4}:4143/`]);
  t.equal(result.status, 56, 'reset by the proxy');
  await incoming.until('the log says why', () => incoming.log().includes('reason=own_port'));
  t.equal(incoming.metric('inbound_tcp_errors_total', { error: 'own_port' }), 1);
});

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
  await outgoing.until('nothing is left', () => outgoing.sum('ferrule_engine_connections') === 0);
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
  t.equal(outgoing.sum('tcp_open_total', 'peer="dst"'), 0, 'nothing was dialled');
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
  t.equal(outgoing.sum('tcp_open_total', 'peer="dst"'), 0, 'nothing was dialled');
});

t.test('the outbound port serves this host only', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const config = { outbound: { listen: ['0.0.0.0:4140'] }, inbound: { listen: [] } };
  const incoming = await startSidecar(t, mesh.server, { config });
  // The rules would take the connection to the inbound port, where nobody listens now.
  t.equal(init(mesh.server, ['--cleanup', '--iptables-mode', 'nft']).status, 0);
  const who = ['--reuid', '2102', '--regid', '2102', '--clear-groups', 'curl', '-s', '-m', '5'];
  t.equal(
    exec(mesh.client, 'setpriv', [...who, `http://${SERVER.v4}:4140/`]).status,
    56,
    'reset by the proxy',
  );
  await incoming.until('the log says why', () => incoming.log().includes('reason=foreign_client'));
  t.match(incoming.log(), new RegExp(`client=${CLIENT.v4}`));
  t.equal(incoming.metric('outbound_tcp_errors_total', { error: 'foreign_client' }), 1);
});
