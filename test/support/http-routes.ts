/** Ways of HTTP/1 requests to an application: through either side of a proxy, and through two with mutual TLS between them. */
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { makeIdentities } from './identities.ts';
import {
  eventually,
  listenerFor,
  type ProxyStart,
  serviceYaml,
  startTestProxy,
  type TestProxy,
} from './proxy.ts';

/** One way. */
export interface Route {
  readonly name: 'outbound' | 'inbound' | 'both with mutual TLS' | 'multiplexed';
  /** Where clients connect. */
  readonly address: SocketAddress;
  /** What is on it, from the client on. */
  readonly proxies: readonly TestProxy[];
}

/** The ways to one application, and the proxies on them. */
export interface Routes {
  readonly routes: readonly Route[];
  /** The clients' proxy, and the application's. */
  readonly outgoing: TestProxy;
  readonly incoming: TestProxy;
  /** The clients' proxy of the multiplexed way. */
  readonly sharing: TestProxy;
  /** Takes the endpoints away and waits until nobody is connected any more: gauges at zero, descriptors where they were at first. */
  idle(): Promise<void>;
}

/**
 * Starts both proxies in front of an application that listens already.
 * @param settings of all proxies; `appProtocol`: what its service says that it speaks
 */
export async function startRoutes(
  t: Test,
  application: SocketAddress,
  { appProtocol, ...settings }: Pick<ProxyStart, 'shutdown' | 'log'> & { readonly appProtocol?: string } = {},
): Promise<Routes> {
  const yaml = (name: string, address: SocketAddress, identity?: string) =>
    serviceYaml(name, [identity === undefined ? { address } : { address, identity }], undefined, appProtocol);
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const { port } = application;
  // An identity holds for every port of an address: the meshed way has an address of its own.
  const [listen, meshedListen] = ['127.0.0.1:0', '127.0.0.2:0'];
  // What is shared stays open for a while: it has proxies of its own, so that the others become idle at once.
  const [incoming, sharedIn] = await Promise.all([
    startTestProxy(t, {
      ...settings,
      identity: api.settings,
      inbound: {
        ports: [
          { listen: meshedListen, port, policy: 'all-authenticated' },
          { listen, port, policy: 'all-unauthenticated' },
        ],
      },
    }),
    startTestProxy(t, {
      ...settings,
      identity: api.settings,
      inbound: { ports: [{ listen: '127.0.0.3:0', port, policy: 'all-authenticated' }] },
    }),
  ]);
  const [meshed, plain] = incoming.listeners;
  const [outgoing, sharedOut] = await Promise.all([
    startTestProxy(t, {
      ...settings,
      identity: web.settings,
      outbound: { ...listenerFor('app', 'meshed'), multiplex: false },
      mesh: {
        'app.yaml': yaml('app', application),
        'meshed.yaml': yaml('meshed', meshed, api.spiffe),
      },
    }),
    startTestProxy(t, {
      ...settings,
      identity: web.settings,
      outbound: listenerFor('shared'),
      mesh: {
        'shared.yaml': yaml('shared', sharedIn.listeners[0], api.spiffe),
      },
    }),
  ]);
  const proxies = [outgoing, incoming];
  const before = proxies.map((proxy) => proxy.descriptors());
  t.teardown(() => {
    if (!t.passing()) t.comment(`outgoing:\n${outgoing.said()}\nincoming:\n${incoming.said()}`);
  });
  return {
    routes: [
      { name: 'outbound', address: outgoing.listeners[0], proxies: [outgoing] },
      { name: 'inbound', address: plain, proxies: [incoming] },
      { name: 'both with mutual TLS', address: outgoing.listeners[1], proxies },
      { name: 'multiplexed', address: sharedOut.listeners[0], proxies: [sharedOut, sharedIn] },
    ],
    outgoing,
    incoming,
    sharing: sharedOut,
    async idle() {
      // Connections to them are let go at once then, and not when they have been idle for long enough.
      outgoing.writeMesh('app.yaml', serviceYaml('app', []));
      outgoing.writeMesh('meshed.yaml', serviceYaml('meshed', []));
      for (const [index, proxy] of proxies.entries()) {
        await proxy.idle();
        // The connection that asked for the gauges may still be there.
        const enough = () => proxy.descriptors() <= before[index] + 1 || undefined;
        t.ok(await eventually('descriptors as before', enough), `${before[index]} descriptors before`);
      }
      const left = async () =>
        (await sharedOut.sum('tcp_open_connections', { peer: 'src' })) === 0 || undefined;
      t.ok(await eventually('no client is left', left, () => sharedOut.said()));
    },
  };
}
