/** Applications behind a sidecar each, and a client's sidecar that reaches them with mutual TLS. */
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { makeIdentities } from './identities.ts';
import { listenerFor, serviceYaml, startTestProxy, type TestProxy } from './proxy.ts';

/** The client's sidecar, and those of the applications in their order. */
export interface Meshed {
  readonly outgoing: TestProxy;
  readonly incoming: readonly TestProxy[];
}

/** Starts the sidecars of applications that listen already: the replicas of one service. */
export async function startMeshed(t: Test, applications: readonly SocketAddress[]): Promise<Meshed> {
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const started = applications.map(({ port }) => {
    const ports = [{ listen: '127.0.0.2:0', port, policy: 'all-authenticated' }];
    return startTestProxy(t, { identity: api.settings, inbound: { ports } });
  });
  const incoming = await Promise.all(started);
  const endpoints = incoming.map(({ listeners }) => ({ address: listeners[0], identity: api.spiffe }));
  const mesh = { 'app.yaml': serviceYaml('app', endpoints) };
  const outgoing = await startTestProxy(t, { identity: web.settings, outbound: listenerFor('app'), mesh });
  t.teardown(() => {
    if (!t.passing()) t.comment([outgoing, ...incoming].map((proxy) => proxy.said()).join('\n\n'));
  });
  return { outgoing, incoming };
}
