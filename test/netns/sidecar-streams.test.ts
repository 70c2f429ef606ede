import t from 'tap';
import { ask, CLIENT, createMesh, SERVER, startServer, startSidecar } from '../support/mesh.ts';
import { type Security, startSidecars } from '../support/mesh-security.ts';
import { exec } from '../support/netns.ts';
import { init } from '../support/pod.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Bulk enough to be spliced on both hops; mutual TLS is copied in user space and needs less. */
const bytesOver = (security: Security) => {
  if (SOAK) return 2_000_000_000;
  return security === 'plaintext' ? 100_000_000 : 10_000_000;
};

const SERVICES = [
  { name: 'four', ip: '10.96.0.10', port: 7000, endpoint: SERVER.v4 },
  { name: 'six', ip: 'fd96::10', port: 7000, endpoint: SERVER.v6 },
];

for (const { backend, security } of [
  { backend: 'nft', security: 'plaintext' },
  { backend: 'legacy', security: 'plaintext' },
  { backend: 'nft', security: 'transport-header' },
  { backend: 'legacy', security: 'mtls' },
] as const) {
  const bytes = bytesOver(security);
  t.test(`byte streams through two sidecars, ${backend}, ${security}`, async (t) => {
    const mesh = createMesh(t, backend);
    if (mesh === undefined) return;
    const { outgoing, incoming, expectSecurity } = await startSidecars(t, mesh, security, SERVICES);
    await startServer(mesh.server, '0.0.0.0', 7000);
    await startServer(mesh.server, '::', 7001);
    await startServer(mesh.server, SERVER.v6, 7000);

    for (const [host, port] of [
      ['10.96.0.10', 7000],
      ['fd96::10', 7000],
      // Endpoints by their own address; and a port nobody knows, from where nobody says who they are.
      [SERVER.v4, 7000],
      [SERVER.v6, security === 'plaintext' ? 7001 : 7000],
    ] as const) {
      const up = ask(mesh.client, host, port, 'H', bytes);
      t.equal(up.received, 64, `${host}: the server answered an upload`);
      t.equal(
        up.text,
        up.sent,
        `${host}: the server read to the end, then answered with the hash of what was sent`,
      );
      const down = ask(mesh.client, host, port, 'S', bytes);
      t.equal(down.received, bytes, `${host}: download complete`);
      t.equal(down.sha256, down.sent, `${host}: and unchanged`);
      const both = ask(mesh.client, host, port, 'E', bytes);
      t.equal(both.sha256, both.sent, `${host}: both ways at once`);
      t.equal(both.received, bytes, `${host}: and whole`);
      t.equal(
        ask(mesh.client, host, port, 'W').text,
        'bye',
        `${host}: the client ends first, the server still answers`,
      );
      const reset = ask(mesh.client, host, port, 'R');
      t.equal(reset.error, 'ECONNRESET', `${host}: a reset arrives as a reset`);
    }
    expectSecurity(t, 20);
    const through = (sidecar: typeof outgoing, direction: string) =>
      sidecar.sum('tcp_read_bytes_total', `direction="${direction}"`, 'peer="src"');
    t.ok(through(outgoing, 'outbound') >= 8 * bytes, 'the client side sidecar carried it');
    t.ok(through(incoming, 'inbound') >= 8 * bytes, 'and the server side one');
    const spliced = outgoing.sum('ferrule_engine_spliced_bytes_total');
    if (security === 'plaintext') t.ok(spliced > bytes, 'bulk was spliced');
    else t.equal(spliced, 0, 'nothing past TLS');
    t.equal(outgoing.sum('tcp_close_total', 'peer="dst"', 'errno="ECONNRESET"'), 4, 'four resets, counted');
  });
}

t.test('the application is dialled at the address the client used, from its own host', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const outgoing = await startSidecar(t, mesh.client);
  await startServer(mesh.server, '0.0.0.0', 7000);
  await startServer(mesh.server, '::', 7001);
  const seen = (host: string, port: number) => ask(mesh.client, host, port, 'A').text;
  // No sidecar there yet: without rules the pod of the client is what an application sees.
  t.equal(init(mesh.server, ['--cleanup', '--iptables-mode', 'nft']).status, 0);
  t.equal(seen(SERVER.v4, 7000), `${CLIENT.v4} ${SERVER.v4} 7000`, 'without a sidecar of its own');
  const dialled = ['direction="outbound"', 'peer="dst"', `target_addr="${SERVER.v4}:7000"`];
  t.equal(outgoing.sum('tcp_open_total', ...dialled), 1, 'through the one of the client');
  t.equal(init(mesh.server, ['--iptables-mode', 'nft', '--ipv6', 'require']).status, 0);
  await startSidecar(t, mesh.server);
  t.equal(seen(SERVER.v4, 7000), `${SERVER.v4} ${SERVER.v4} 7000`, 'behind its sidecar');
  t.equal(seen(SERVER.v6, 7001), `${SERVER.v6} ${SERVER.v6} 7001`, 'over IPv6');
});

t.test('destinations nobody knows pass through as they came', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const outgoing = await startSidecar(t, mesh.client);
  exec(mesh.server, 'ip', ['addr', 'add', '203.0.113.9/32', 'dev', 'eth0']);
  await startSidecar(t, mesh.server);
  await startServer(mesh.server, '203.0.113.9', 8443);
  t.equal(ask(mesh.client, '203.0.113.9', 8443, 'S', 1000).received, 1000);
  const labels = { direction: 'outbound', peer: 'src', target_addr: '203.0.113.9:8443' };
  const opened = outgoing.sum(
    'tcp_open_total',
    ...Object.entries(labels).map(([name, value]) => `${name}="${value}"`),
  );
  t.equal(opened, 1, `through the sidecar of ${CLIENT.v4}`);
});
