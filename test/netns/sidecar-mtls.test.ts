/** Mutual TLS between captured pods: servers that speak first, who is let in from where, and what the wire shows. */
import t, { type Test } from 'tap';
import { POLICIES, type Policy } from '../../proxy/model/policy.ts';
import { ask, createMesh, type Mesh, PROXY_UID, SERVER, startServer } from '../support/mesh.ts';
import { type MeshService, SECURITIES, startSidecars } from '../support/mesh-security.ts';
import { exec } from '../support/netns.ts';
import { dial, dialTimed, startGreeters } from '../support/pod.ts';
import { programs, startMariadb, startSmtp } from '../support/servers.ts';
import { Wire } from '../support/wire.ts';

/** The rules let this user through: a client without a sidecar. */
const UNMESHED = { uid: PROXY_UID, gid: PROXY_UID };

const VIRTUAL = { v4: '10.96.0.10', v6: 'fd96::10' };

/** Not among the ports that are known to be opaque, nor near them. */
const DATABASE = 13_306;
const MAIL = 12_525;

/** A service on each family. */
function services(port: number): MeshService[] {
  return (['v4', 'v6'] as const).map((family) => ({
    name: `port-${port}-${family}`,
    ip: VIRTUAL[family],
    port,
    endpoint: SERVER[family],
  }));
}

/** `[::1]:80` and such, of both families. */
function targets({ v4, v6 }: typeof VIRTUAL, port: number): string[] {
  return [`${v4}:${port}`, `[${v6}]:${port}`];
}

t.test('servers that speak first, on ports nobody configured', async (t) => {
  const paths = programs(t, 'mariadb-install-db', 'mariadbd', 'mariadb', 'exim4', 'socat');
  const mesh = paths && createMesh(t, 'nft');
  if (mesh === undefined) return;
  const everyone = { defaultPolicy: 'all-unauthenticated' };
  const known = [...services(DATABASE), ...services(MAIL)];
  const sidecars = await startSidecars(t, mesh, 'mtls', known, everyone);
  const [, , mariadb] = paths!;
  await startMariadb(t, mesh.server, '*', DATABASE, paths!);
  await startSmtp(t, mesh.server, `TCP6-LISTEN:${MAIL},ipv6only=0`, MAIL, paths!.slice(3));

  const count = (first: string) => sidecars.incoming.metric('ferrule_inbound_detections_total', { first });
  const query = (host: string, ...as: string[]) => {
    const login = ['-h', host, '-P', String(DATABASE), '-u', 'ferrule', '--skip-ssl'];
    return exec(mesh.client, 'setpriv', [...as, mariadb, ...login, '-BNe', 'select 6*7']).stdout;
  };
  expectGreetings(t, mesh, VIRTUAL, {});
  for (const host of Object.values(VIRTUAL)) t.equal(query(host), '42\n', `meshed: a query to ${host}`);
  const meshed = TRIES * 4 + 2;
  t.equal(count('tls'), meshed);
  t.equal(count('server'), 0);
  sidecars.expectSecurity(t, meshed);

  expectGreetings(t, mesh, SERVER, UNMESHED);
  const uid = String(PROXY_UID);
  for (const host of Object.values(SERVER)) {
    t.equal(query(host, '--reuid', uid, '--regid', uid, '--clear-groups'), '42\n', `unmeshed: ${host}`);
  }
  t.equal(count('server'), TRIES * 4 + 2, 'the server spoke first');
  t.equal(count('tls'), meshed);
  t.equal(count('client'), 0);
  t.ok(sidecars.incoming.metric('ferrule_inbound_races_total', {}) >= TRIES * 4, 'found out in a race');
  const nobody = ['peer="src"', 'tls="no_identity"', 'no_tls_reason="no_tls_from_remote"'];
  t.equal(sidecars.incoming.sum('tcp_open_total', ...nobody), TRIES * 4 + 2, 'and counted as nobody');
});

/** A loaded machine may be slow once; the wait of a detection, of seconds, would come every time. */
const TRIES = 3;

/** That both servers greet on both families, at once. */
function expectGreetings(t: Test, mesh: Mesh, hosts: typeof VIRTUAL, who: Partial<typeof UNMESHED>): void {
  const all = [...targets(hosts, DATABASE), ...targets(hosts, MAIL)];
  const tries = Array.from({ length: TRIES }, () =>
    dialTimed(mesh.client, { ...who, targets: all, firstBytes: true }),
  );
  for (const [index, target] of all.entries()) {
    const greeting = target.endsWith(String(MAIL)) ? /^220 mail\.test/ : /^.{4}\n.*MariaDB/s;
    for (const answers of tries) t.match(answers[index].text, greeting, target);
    const fastest = Math.min(...tries.map((answers) => answers[index].ms));
    t.ok(fastest < 500, `${target} greets after ${Math.round(fastest)} ms`);
  }
}

/** Who a policy lets in; the networks of the cluster are those of IPv4 here. */
const LETS_IN: Record<Policy, { readonly meshed: readonly string[]; readonly unmeshed: readonly string[] }> =
  {
    'all-unauthenticated': { meshed: ['v4', 'v6'], unmeshed: ['v4', 'v6'] },
    'all-authenticated': { meshed: ['v4', 'v6'], unmeshed: [] },
    'cluster-unauthenticated': { meshed: ['v4'], unmeshed: ['v4'] },
    'cluster-authenticated': { meshed: ['v4'], unmeshed: [] },
    deny: { meshed: [], unmeshed: [] },
    audit: { meshed: ['v4', 'v6'], unmeshed: ['v4', 'v6'] },
  };

t.test('policies of ports', async (t) => {
  const mesh = createMesh(t, 'legacy');
  if (mesh === undefined) return;
  const portOf = (policy: Policy) => 7000 + POLICIES.indexOf(policy);
  const ports = POLICIES.map((policy) => ({ listen: '127.0.0.1:0', port: portOf(policy), policy }));
  const inbound = { ports, clusterNetworks: ['10.77.1.0/24'], defaultPolicy: 'deny' };
  const known = POLICIES.flatMap((policy) => services(portOf(policy)));
  const { incoming } = await startSidecars(t, mesh, 'mtls', known, inbound);
  const hosts = ['0.0.0.0', '::'];
  const greeters = hosts.flatMap((host) => ports.map(({ port }) => ({ host, port, banner: 'hello' })));
  await startGreeters(mesh.server, greeters);

  const judged = (who: 'meshed' | 'unmeshed') => {
    const addresses = who === 'meshed' ? VIRTUAL : SERVER;
    const all = POLICIES.flatMap((policy) => targets(addresses, portOf(policy)));
    const as = who === 'meshed' ? {} : UNMESHED;
    const answers = dial(mesh.client, { ...as, targets: all, say: '!', firstBytes: true });
    const wanted = POLICIES.flatMap((policy) =>
      ['v4', 'v6'].map((family) => (LETS_IN[policy][who].includes(family) ? 'hello' : 'ECONNRESET')),
    );
    const labelled = (texts: readonly string[]) => all.map((target, index) => `${target} ${texts[index]}`);
    t.strictSame(labelled(answers), labelled(wanted), who);
    return wanted.filter((text) => text === 'ECONNRESET').length;
  };
  const refusals = () => incoming.metric('inbound_tcp_errors_total', { error: 'policy' });
  const refused = judged('unmeshed');
  t.equal(refused, 7);
  t.equal(refusals(), refused, 'each is counted');
  for (const policy of POLICIES.filter((name) => LETS_IN[name].unmeshed.length < 2)) {
    const line = `policy ${policy} does not let this client in (no identity)`;
    await incoming.until(`the log has: ${line}`, () => incoming.log().includes(line));
  }
  t.equal(judged('meshed'), 4);
  t.ok(refusals() >= refused + 4);
  await incoming.until('the audit is written', () => /audit .*identity=web\.default/.test(incoming.log()));
});

t.test('the inbound port itself takes nothing but mutual TLS', async (t) => {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return;
  const everyone = { defaultPolicy: 'all-unauthenticated' };
  const made = await startSidecars(t, mesh, 'transport-header', services(7000), everyone);
  const direct = { ...UNMESHED, targets: targets(SERVER, 4143), say: 'GET / HTTP/1.1\r\n\r\n' };
  t.strictSame(dial(mesh.client, direct), ['ECONNRESET', 'ECONNRESET']);
  t.equal(made.incoming.metric('inbound_tcp_errors_total', { error: 'own_port' }), 2);
  const says = /only mutual TLS with this proxy.*reason=own_port/;
  await made.incoming.until('the log says why', () => says.test(made.incoming.log()));
  await startServer(mesh.server, SERVER.v4, 7000);
  t.equal(ask(mesh.client, VIRTUAL.v4, 7000, 'S', 1000).received, 1000, 'and goes on');
  made.expectSecurity(t, 1);
});

for (const security of SECURITIES) {
  t.test(`what the wire shows, ${security}`, async (t) => {
    const paths = programs(t, 'python3', 'socat');
    const mesh = paths && createMesh(t, 'nft');
    if (mesh === undefined) return;
    const { expectSecurity } = await startSidecars(t, mesh, security, services(7000));
    const families = ['v4', 'v6'] as const;
    const answer = (family: string) => `what the application answers over ${family}`;
    await startGreeters(
      mesh.server,
      families.map((family) => ({ host: SERVER[family], port: 7000, banner: answer(family) })),
    );
    const wire = await Wire.sniff(mesh, paths![0], paths![1]);
    const said = families.flatMap((family, index) => {
      const say = `!what the client asks over ${family}`;
      const target = targets(VIRTUAL, 7000)[index];
      const got = dial(mesh.client, { targets: [target], say, firstBytes: true });
      t.strictSame(got, [answer(family)], target);
      return [say, answer(family)];
    });
    const seen = await wire.bytes();
    const plain = security === 'plaintext';
    for (const text of said) t.equal(seen.includes(text), plain, `${plain ? '' : 'not '}readable: ${text}`);
    t.equal(seen.includes('api.default.serviceaccount.identity'), !plain, 'whom the client asks for');
    t.equal(seen.includes('web.default.serviceaccount.identity'), false, 'never who asks');
    t.equal(seen.includes('transport.l5d.io/v1'), security === 'transport-header');
    expectSecurity(t, 2);
  });
}
