/** The mesh in two network namespaces with real rules: the clients dial virtual IPs and know of no proxy. */

import type { Database } from './databases.ts';
import { Identities } from './identities.ts';
import { builtInServers, type Mesh, meshService, planServices, startAgent, writeResources } from './mesh.ts';
import { makePods, SERVER_IPS } from './pods.ts';
import type { Run } from './run.ts';
import type { Pod } from './services.ts';
import { chooseProxyUser, startSidecar } from './sidecars.ts';

/** Both sidecars are alike: a pod may be client and server. Whatever was not redirected is refused. */
const SETTINGS = {
  outbound: { listen: '127.0.0.1:4140', originalDst: 'required' },
  inbound: { listen: '0.0.0.0:4143', originalDst: 'required' },
  admin: '0.0.0.0:4191',
};

/** Built-in servers listen elsewhere than their service, as most in a cluster do: port 7 becomes 8007. */
const BUILT_IN_PORTS = 8000;

/**
 * Builds and starts it; on failure the caller removes the run.
 * @throws UserError with the piece that failed and what it said
 */
export async function startTransparentMesh(run: Run, databases: readonly Database[]): Promise<Mesh> {
  const proxy = chooseProxyUser();
  const [pods, identities] = await Promise.all([
    makePods(run, proxy.initArguments),
    Identities.make(run, proxy.user),
  ]);
  const services = planServices(databases).map((plan) => {
    const { ip, port } = plan.virtual;
    const endpoints =
      plan.database === undefined
        ? SERVER_IPS.map((address) => ({ ip: address, port: BUILT_IN_PORTS + port }))
        : [{ ip: SERVER_IPS[0], port }];
    return meshService(run, plan, {
      endpoints,
      dial: plan.virtual,
      metricsTarget: `${ip}:${port}`,
      server: endpoints[0],
      namespace: pods.server,
    });
  });
  const meshFolder = writeResources(
    run,
    services.map(({ service }) => service),
  );
  const sidecar = (pod: Pod) =>
    startSidecar(run, pod, SETTINGS, {
      user: proxy.user,
      namespace: pods[pod],
      identity: identities.paths[pod],
      meshFolder,
    });
  const clients = startAgent(run, 'clients', pods.client);
  const servers = startAgent(run, 'servers', pods.server);
  const places = planServices(databases).flatMap((plan, index) =>
    builtInServers(plan, services[index].service.endpoints),
  );
  const [clientSidecar, serverSidecar] = await Promise.all([
    sidecar('client'),
    sidecar('server'),
    servers.ask({ ask: 'serve', servers: places }),
  ]);
  return {
    transparent: true,
    clients,
    servers,
    clientSidecar,
    serverSidecar,
    identities,
    services,
    enterClient: `ip netns exec ${pods.client} `,
    enterServer: `ip netns exec ${pods.server} `,
  };
}
