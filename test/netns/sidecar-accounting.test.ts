/** That both sidecars account for what passed, to the byte, and that no service leads into a port of the proxy. */
import t from 'tap';
import { ask, CLIENT, createMesh, SERVER, service, startServer, startSidecar } from '../support/mesh.ts';
import { type Security, startSidecars } from '../support/mesh-security.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Both ways at once. Mutual TLS is copied in user space: less will do. */
const bytesOver = (security: Security) => (security === 'plaintext' || SOAK ? 200_000_000 : 50_000_000);

for (const { backend, virtual, server, security } of [
  { backend: 'nft', virtual: '10.96.0.10', server: SERVER.v4, security: 'plaintext' },
  { backend: 'legacy', virtual: 'fd96::10', server: SERVER.v6, security: 'plaintext' },
  { backend: 'nft', virtual: 'fd96::10', server: SERVER.v6, security: 'mtls' },
  { backend: 'legacy', virtual: '10.96.0.10', server: SERVER.v4, security: 'transport-header' },
] as const) {
  const bytes = bytesOver(security);
  const name = `${bytes / 1e6} MB each way through ${virtual}, ${backend}, ${security}`;
  t.test(`${name}: every hop counts the same bytes`, async (t) => {
    const mesh = createMesh(t, backend);
    if (mesh === undefined) return;
    const echo = { name: 'echo', ip: virtual, port: 7000, endpoint: server };
    const { outgoing, incoming, expectSecurity } = await startSidecars(t, mesh, security, [echo]);
    await startServer(mesh.server, server, 7000);
    const echoed = ask(mesh.client, virtual, 7000, 'E', bytes);
    t.equal(echoed.received, bytes);
    t.equal(echoed.sha256, echoed.sent);
    expectSecurity(t, 1);
    for (const sidecar of [outgoing, incoming]) {
      await sidecar.until('gauges are back to zero', () => {
        const gauges = ['tcp_open_connections', 'ferrule_engine_connections', 'ferrule_engine_queued_bytes'];
        return gauges.every((gauge) => sidecar.sum(gauge) === 0);
      });
    }
    const hops = [
      { sidecar: outgoing, direction: 'outbound' },
      { sidecar: incoming, direction: 'inbound' },
    ];
    const counts = (family: string, peer: string) =>
      hops.map(({ sidecar, direction }) => sidecar.sum(family, `direction="${direction}"`, `peer="${peer}"`));
    const up = [...counts('tcp_read_bytes_total', 'src'), ...counts('tcp_write_bytes_total', 'dst')];
    const down = [...counts('tcp_read_bytes_total', 'dst'), ...counts('tcp_write_bytes_total', 'src')];
    // The client of tcp-peer says what it wants first: a letter and eight digits.
    t.strictSame(up, Array(4).fill(bytes + 9), 'to the server');
    t.strictSame(down, Array(4).fill(bytes), 'and back');
  });
}

t.test('a service whose endpoint is a port of this proxy is refused', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const ports = [4140, 4143, 4191];
  const resources = ports
    .map((port) =>
      service(`own-${port}`, `10.96.0.${port - 4100}`, port, [port === 4143 ? CLIENT.v4 : '127.0.0.1']),
    )
    .join('');
  const outgoing = await startSidecar(t, mesh.client, { resources });
  for (const [index, port] of ports.entries()) {
    t.equal(ask(mesh.client, `10.96.0.${port - 4100}`, port, 'E', 10).error, 'ECONNRESET', `port ${port}`);
    t.equal(outgoing.metric('outbound_tcp_errors_total', { error: 'own_port' }), index + 1);
  }
  await outgoing.until('the log says why', () => outgoing.log().includes('reason=own_port'));
  t.equal(outgoing.sum('tcp_open_total', 'peer="dst"'), 0, 'nothing was dialled');
});
