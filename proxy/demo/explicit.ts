/** The mesh on loopback without privileges: explicit listeners, on ports the kernel chooses. */

import { type AddressInfo, createServer } from 'node:net';
import type { Agent } from './agent.ts';
import type { Database } from './databases.ts';
import { Identities } from './identities.ts';
import {
  builtInServers,
  type Mesh,
  meshService,
  type Plan,
  planServices,
  startAgent,
  writeResources,
} from './mesh.ts';
import type { Run } from './run.ts';
import { type Place, serviceKey } from './services.ts';
import { chooseProxyUser, startSidecar } from './sidecars.ts';

const LOOPBACK = '127.0.0.1';
/** In a configuration: the kernel chooses the port, so that any number of demos run at once. */
const ANY = `${LOOPBACK}:0`;
/** Instances of each built-in service. */
const INSTANCES = 2;

/**
 * Builds and starts it; on failure the caller removes the run. One after the other, because each piece needs the ports of the
 * one behind it.
 * @throws UserError with the piece that failed and what it said
 */
export async function startExplicitMesh(run: Run, databases: readonly Database[]): Promise<Mesh> {
  const { user } = chooseProxyUser();
  const identities = await Identities.make(run, user);
  const clients = startAgent(run, 'clients', undefined);
  const servers = startAgent(run, 'servers', undefined);
  const plans = planServices(databases);
  const places: Place[][] = [];
  for (const plan of plans) places.push(await serverPlaces(plan, servers));

  const ports = places.flat().map(({ port }) => ({ listen: ANY, port }));
  const serverSidecar = await startSidecar(
    run,
    'server',
    { outbound: { listen: [] }, inbound: { listen: [], ports }, admin: ANY },
    { user, identity: identities.paths.server },
  );
  const inbound = serverSidecar.listeners.map(placeOf);
  const endpoints = places.map((own) => inbound.splice(0, own.length));

  const known = plans.map((plan, index) => ({ ...plan, endpoints: endpoints[index] }));
  const meshFolder = writeResources(run, known);
  const listeners = known.map((service) => ({ listen: ANY, service: serviceKey(service) }));
  const clientSidecar = await startSidecar(
    run,
    'client',
    { outbound: { listen: [], listeners }, inbound: { listen: [] }, admin: ANY },
    { user, identity: identities.paths.client, meshFolder },
  );
  const services = known.map((plan, index) =>
    meshService(run, plan, {
      endpoints: plan.endpoints,
      dial: placeOf(clientSidecar.listeners[index]),
      metricsTarget: serviceKey(plan),
      server: places[index][0],
      namespace: undefined,
    }),
  );
  const enter = { enterClient: '', enterServer: '' };
  return {
    transparent: false,
    clients,
    servers,
    clientSidecar,
    serverSidecar,
    identities,
    services,
    ...enter,
  };
}

async function serverPlaces(plan: Plan, servers: Agent): Promise<Place[]> {
  if (plan.database !== undefined) return [{ ip: LOOPBACK, port: await freePort() }];
  const anywhere = Array.from({ length: INSTANCES }, () => ({ ip: LOOPBACK, port: 0 }));
  const ports = await servers.ask({ ask: 'serve', servers: builtInServers(plan, anywhere) });
  return ports.map((port) => ({ ip: LOOPBACK, port }));
}

/** Databases want to be told their port. Should somebody take it in between, that database is left out with the reason. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, LOOPBACK, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function placeOf(address: string): Place {
  const [ip, port] = address.split(':');
  return { ip, port: Number(port) };
}
