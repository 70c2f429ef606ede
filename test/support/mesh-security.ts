/** Both sidecars of a mesh under test: in plaintext, or with mutual TLS between them in either of its shapes. */
import { chmodSync, chownSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Test } from 'tap';
import { makeIdentities, type TestIdentity } from './identities.ts';
import { type Mesh, PROXY_UID, type Sidecar, service, startSidecar } from './mesh.ts';

/**
 * What is between the sidecars. `mtls`: the client's one dials the application's port, and the rules of the other pod take
 * that to its sidecar. `transport-header`: it dials the sidecar's own port and says in a header which port it means.
 */
export type Security = 'plaintext' | 'mtls' | 'transport-header';

/** Every shape, for tests that run over each. */
export const SECURITIES: readonly Security[] = ['plaintext', 'mtls', 'transport-header'];

/** A service as `service` writes it: its virtual IP, and the address its one endpoint has on the same port. */
export interface MeshService {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly endpoint: string;
}

/** Two sidecars that know the same services. */
export interface Sidecars {
  readonly outgoing: Sidecar;
  readonly incoming: Sidecar;
  /** Asserts that at least `least` connections passed between the sidecars, and that all of them were as they should be. */
  expectSecurity(t: Test, least: number): void;
}

/** Who the sidecars are. */
interface Workloads {
  /** The client's and the server's. */
  readonly web: TestIdentity;
  readonly api: TestIdentity;
}

/**
 * Starts a sidecar in each pod. With mutual TLS each has its own certificate, the endpoints have the server's identity, and
 * nobody without an identity gets in unless `inbound` says so.
 */
export async function startSidecars(
  t: Test,
  mesh: Mesh,
  security: Security,
  services: readonly MeshService[],
  inbound: object = {},
): Promise<Sidecars> {
  const workloads = security === 'plaintext' ? undefined : await makeWorkloads(t);
  const more = annotations(security, workloads);
  const resources = services.map(({ name, ip, port, endpoint }) => service(name, ip, port, [endpoint], more));
  const start = (namespace: Mesh['client'], identity: TestIdentity | undefined) => {
    const own = identity === undefined ? {} : { identity: identity.settings };
    const policy = identity === undefined ? {} : { defaultPolicy: 'all-authenticated' };
    const config = { ...own, inbound: { ...policy, ...inbound } };
    return startSidecar(t, namespace, { resources: resources.join(''), config });
  };
  const [outgoing, incoming] = await Promise.all([
    start(mesh.client, workloads?.web),
    start(mesh.server, workloads?.api),
  ]);
  t.teardown(() => {
    if (!t.passing()) t.comment(`client sidecar:\n${outgoing.log()}\nserver sidecar:\n${incoming.log()}`);
  });
  const sidecars = { outgoing, incoming };
  const expectSecurity = (t: Test, least: number) => {
    if (workloads === undefined) expectPlaintext(t, sidecars, least);
    else expectMutualTls(t, sidecars, least, workloads, security);
  };
  return { ...sidecars, expectSecurity };
}

async function makeWorkloads(t: Test): Promise<Workloads> {
  const identities = await makeIdentities(t);
  const workloads = { web: await identities.make('web'), api: await identities.make('api') };
  for (const { paths } of Object.values(workloads)) {
    const folder = dirname(paths.key);
    // Sidecars run as the proxy's uid: private keys are to be its own, and the way to them open.
    chmodSync(dirname(folder), 0o755);
    for (const path of Object.values(paths)) chownSync(path, PROXY_UID, PROXY_UID);
  }
  return workloads;
}

function annotations(security: Security, workloads: Workloads | undefined): string {
  if (workloads === undefined) return '';
  const port = security === 'transport-header' ? ', ferrule.dev/proxy-port: "4143"' : '';
  return `, annotations: { ferrule.dev/identity: "${workloads.api.spiffe}"${port} }`;
}

/** The hop between the sidecars, as each of them sees it. */
const DIALLED = ['direction="outbound"', 'peer="dst"'];
const ACCEPTED = ['direction="inbound"', 'peer="src"'];

/**
 * Asserts that every connection between the sidecars had mutual TLS, at least one. For clients that leave as they like: a connection
 * dialled for one that has gone is given up, in its handshake as well.
 */
export function expectAllSecured(t: Test, { outgoing, incoming }: Omit<Sidecars, 'expectSecurity'>): void {
  for (const [sidecar, hop] of [
    [outgoing, DIALLED],
    [incoming, ACCEPTED],
  ] as const) {
    const total = sidecar.sum('tcp_open_total', ...hop);
    t.ok(total > 0, `${total} connections: ${hop}`);
    t.equal(sidecar.sum('tcp_open_total', ...hop, 'tls="true"'), total, 'all secured');
  }
}

function expectPlaintext(t: Test, { outgoing, incoming }: Omit<Sidecars, 'expectSecurity'>, least: number) {
  for (const [sidecar, hop] of [
    [outgoing, DIALLED],
    [incoming, ACCEPTED],
  ] as const) {
    const total = sidecar.sum('tcp_open_total', ...hop);
    t.ok(total >= least, `${total} connections of at least ${least}: ${hop}`);
    t.equal(sidecar.sum('tcp_open_total', ...hop, 'tls="disabled"'), total, 'all in plaintext');
    t.equal(sidecar.sum('ferrule_tls_handshakes_total'), 0);
  }
}

function expectMutualTls(
  t: Test,
  { outgoing, incoming }: Omit<Sidecars, 'expectSecurity'>,
  least: number,
  { web, api }: Workloads,
  security: Security,
): void {
  const server = ['tls="true"', `server_id="${api.spiffe}"`];
  const client = ['tls="true"', `client_id="${web.serverName}"`];
  for (const [sidecar, hop, labels] of [
    [outgoing, DIALLED, server],
    [incoming, ACCEPTED, client],
  ] as const) {
    const total = sidecar.sum('tcp_open_total', ...hop);
    t.ok(total >= least, `${total} connections of at least ${least}: ${hop}`);
    t.equal(sidecar.sum('tcp_open_total', ...hop, ...labels), total, `all of them ${labels}`);
    t.equal(sidecar.sum('ferrule_tls_handshakes_total', 'result="ok"'), total, 'a handshake each');
    t.equal(sidecar.sum('ferrule_tls_handshakes_total', 'result="failed"'), 0);
  }
  const direct = outgoing.sum('tcp_open_total', ...DIALLED, 'target_port="4143"');
  const dialled = outgoing.sum('tcp_open_total', ...DIALLED);
  t.equal(direct, security === 'transport-header' ? dialled : 0, `dialled as ${security} demands`);
  t.equal(incoming.sum('tcp_open_total', ...ACCEPTED, 'target_port="4143"'), 0, 'the port the client meant');
}
