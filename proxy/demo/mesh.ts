/** The mesh of the demo: clients and servers in two pods, a sidecar in each; what both ways to build one share. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Agent } from './agent.ts';
import { type Database, type Launch, newPassword } from './databases.ts';
import type { Identities } from './identities.ts';
import type { ClientService, Server } from './messages.ts';
import type { Run } from './run.ts';
import { isBuiltIn, type Place, type Protocol, resourcesOf, type Service } from './services.ts';
import type { Sidecar } from './sidecars.ts';

/** A database of the mesh, and where it is to be started. */
export interface DatabaseLaunch extends Launch {
  readonly database: Database;
}

/** A service and what the demo knows about it besides. */
export interface MeshService {
  readonly service: Service;
  readonly client: ClientService;
  /** What the client's sidecar calls it in the label `target_addr` of its metrics. */
  readonly metricsTarget: string;
  /** Its server, still to be started; undefined for the built-in ones, which run. */
  readonly launch: DatabaseLaunch | undefined;
}

/** A mesh whose sidecars and built-in servers run. */
export interface Mesh {
  /** Captured by iptables rules; else by listeners the clients know. */
  readonly transparent: boolean;
  readonly clients: Agent;
  readonly servers: Agent;
  readonly clientSidecar: Sidecar;
  readonly serverSidecar: Sidecar;
  readonly identities: Identities;
  readonly services: readonly MeshService[];
  /** What is put before a command so that it runs in a pod; empty when the pods are this machine. */
  readonly enterClient: string;
  readonly enterServer: string;
}

/** A service before it is known where its servers listen. */
export interface Plan {
  readonly name: string;
  readonly protocol: Protocol;
  readonly virtual: Place;
  readonly database: Database | undefined;
}

/** Clients of a built-in service whose protocol has no streams. */
const PLAIN_CLIENTS = { clients: 4, streams: 1 };

/** One client with one connection: its streams reach all endpoints. Two at a time are enough to see that. */
const STREAM_CLIENT = { clients: 1, streams: 2 };

/** The services there will be. */
export function planServices(databases: readonly Database[]): Plan[] {
  const builtIn = [
    { name: 'echo', protocol: 'echo', port: 7, database: undefined },
    { name: 'web', protocol: 'http', port: 80, database: undefined },
    { name: 'http2', protocol: 'http2', port: 8080, database: undefined },
    { name: 'grpc', protocol: 'grpc', port: 50_051, database: undefined },
  ] as const;
  const real = databases.map((database) => {
    const { protocol, port } = database;
    return { name: protocol, protocol, port, database };
  });
  return [...builtIn, ...real].map(({ name, protocol, port, database }, index) => ({
    name,
    protocol,
    // In the range many clusters give to services.
    virtual: { ip: `10.96.0.${10 + index}`, port },
    database,
  }));
}

/** Completes a plan. `server` is where its database listens; built-in servers have told already. */
export function meshService(
  run: Run,
  plan: Plan,
  found: {
    readonly endpoints: readonly Place[];
    readonly dial: Place;
    readonly metricsTarget: string;
    readonly server: Place;
    readonly namespace: string | undefined;
  },
): MeshService {
  const { name, protocol, virtual, database } = plan;
  const { endpoints, dial, metricsTarget, server, namespace } = found;
  const service = { name, protocol, virtual, endpoints };
  if (database === undefined) {
    const traffic = protocol === 'http2' || protocol === 'grpc' ? STREAM_CLIENT : PLAIN_CLIENTS;
    const client = { name, protocol, dial, ...traffic };
    return { service, client, metricsTarget, launch: undefined };
  }
  const password = newPassword();
  return {
    service,
    client: { name, protocol, dial, clients: database.clients, streams: 1, password },
    metricsTarget,
    launch: { database, run, listen: server, password, namespace },
  };
}

/** The servers of a built-in service, one at each place; none for a database. */
export function builtInServers({ name, protocol }: Plan, places: readonly Place[]): Server[] {
  if (!isBuiltIn(protocol)) return [];
  return places.map((listen, index) => ({ protocol, name: `${name}-${index + 1}`, listen }));
}

/** Writes the resources the sidecars learn of the mesh from. @returns the folder */
export function writeResources(run: Run, services: readonly Service[]): string {
  mkdirSync(join(run.folder, 'mesh.d'));
  for (const service of services) run.writeFile(`mesh.d/${service.name}.yaml`, resourcesOf(service));
  return join(run.folder, 'mesh.d');
}

/** Starts the program with the clients or the built-in servers. */
export function startAgent(run: Run, name: 'clients' | 'servers', namespace: string | undefined): Agent {
  const file = import.meta.url.endsWith('.ts') ? `${name}.ts` : `${name}.js`;
  const script = fileURLToPath(new URL(file, import.meta.url));
  return new Agent(run.start(name, [process.execPath, script], { namespace, channel: true }));
}
