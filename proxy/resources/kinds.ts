/** Which kinds of objects there are, by API group. */
import { readEndpointSlice } from './endpoint-slice.ts';
import { readExternalWorkload } from './external-workload.ts';
import type { ObjectReader } from './reader.ts';
import { readService } from './service.ts';
import type { Resource } from './types.ts';

/** A kind Ferrule makes targets from. */
export interface HonouredKind {
  /** The one version that is read. */
  readonly apiVersion: string;
  readonly read: (object: ObjectReader, namespace: string, name: string) => Resource;
}

const HONOURED: Readonly<Record<string, HonouredKind>> = {
  Service: { apiVersion: 'v1', read: readService },
  EndpointSlice: { apiVersion: 'discovery.k8s.io/v1', read: readEndpointSlice },
  ExternalWorkload: { apiVersion: 'workload.linkerd.io/v1beta1', read: readExternalWorkload },
};

/** Kinds of the mesh that are known and have no effect yet. */
const MESH_KINDS: Readonly<Record<string, readonly string[]>> = {
  'linkerd.io': ['ServiceProfile'],
  'split.smi-spec.io': ['TrafficSplit'],
  'gateway.networking.k8s.io': ['HTTPRoute', 'GRPCRoute', 'TLSRoute', 'TCPRoute', 'Gateway', 'GatewayClass'],
  'policy.linkerd.io': [
    'Server',
    'ServerAuthorization',
    'AuthorizationPolicy',
    'MeshTLSAuthentication',
    'NetworkAuthentication',
    'HTTPLocalRateLimitPolicy',
    'HTTPRoute',
    'EgressNetwork',
  ],
};

/** Groups of Kubernetes itself: common in the same files, and nothing in them describes a target. */
const CLUSTER_GROUPS: readonly string[] = [
  '',
  'apps',
  'batch',
  'autoscaling',
  'networking.k8s.io',
  'policy',
  'rbac.authorization.k8s.io',
  'apiextensions.k8s.io',
  'admissionregistration.k8s.io',
];

/** The honoured kind of that name and group; its version is to be checked. */
export function honouredKind(apiVersion: string, kind: string): HonouredKind | undefined {
  const entry = Object.hasOwn(HONOURED, kind) ? HONOURED[kind] : undefined;
  return entry !== undefined && groupOf(entry.apiVersion) === groupOf(apiVersion) ? entry : undefined;
}

/** True for kinds that are recognised and not used by this version. */
export function isUnusedKind(apiVersion: string, kind: string): boolean {
  const group = groupOf(apiVersion);
  return MESH_KINDS[group]?.includes(kind) ?? CLUSTER_GROUPS.includes(group);
}

/** `apps` of `apps/v1`; empty for the core group. */
function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}
