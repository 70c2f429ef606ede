/** The services of the demo's mesh, and the Kubernetes resources that tell the sidecars about them. */

import { stringify } from 'yaml';
import { type Account, spiffeForm } from '../core/identity.ts';

/** What the servers that come with the demo speak; `http` is version 1. */
const BUILT_IN = ['echo', 'http', 'http2', 'grpc'] as const;
/** One of these. */
export type BuiltIn = (typeof BUILT_IN)[number];

/** How a client talks to a service. */
export type Protocol = BuiltIn | 'redis' | 'postgres' | 'mariadb';

/** Whether its server comes with the demo. */
export function isBuiltIn(protocol: Protocol): protocol is BuiltIn {
  return BUILT_IN.some((one) => one === protocol);
}

/** An address of a server, or of a service. */
export interface Place {
  readonly ip: string;
  readonly port: number;
}

/** One service of the mesh. */
export interface Service {
  readonly name: string;
  readonly protocol: Protocol;
  /** What the application thinks it dials: the virtual IP and port. */
  readonly virtual: Place;
  /** Where the servers are for the client's sidecar. */
  readonly endpoints: readonly Place[];
}

/** Namespace, in the sense of Kubernetes, of all services. */
const MESH_NAMESPACE = 'demo';

/** The pods, each with a sidecar that is somebody. */
export const PODS = ['client', 'server'] as const;
/** One of `PODS`. */
export type Pod = (typeof PODS)[number];

/** The service account of a pod. */
export function identityOf(pod: Pod): Account {
  return { trustDomain: 'cluster.local', namespace: MESH_NAMESPACE, serviceAccount: pod };
}

/** The target of a service in explicit listeners. */
export function serviceKey({ name, virtual }: Service): string {
  return `${name}.${MESH_NAMESPACE}:${virtual.port}`;
}

/** A file for `mesh.d`: a Service and an EndpointSlice for each endpoint (a slice has one set of ports). */
export function resourcesOf(service: Service): string {
  const { name, virtual, endpoints } = service;
  const documents: object[] = [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: MESH_NAMESPACE },
      spec: { clusterIP: virtual.ip, ports: [{ name: service.protocol, port: virtual.port }] },
    },
  ];
  for (const [index, { ip, port }] of endpoints.entries()) {
    documents.push({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-${index + 1}`,
        namespace: MESH_NAMESPACE,
        labels: { 'kubernetes.io/service-name': name },
        // From now on nothing but mutual TLS with whoever proves to be this.
        annotations: { 'ferrule.dev/identity': spiffeForm(identityOf('server')) },
      },
      addressType: 'IPv4',
      ports: [{ name: service.protocol, port }],
      endpoints: [{ addresses: [ip] }],
    });
  }
  return documents.map((document) => stringify(document)).join('---\n');
}
