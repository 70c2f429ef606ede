/**
 * The resources a mesh is described with, as far as Ferrule honours them: checked, defaulted, free of YAML.
 * Whatever reads them (files, the Kubernetes API) gives these; `compile` turns them into targets.
 */
import type { SocketAddress } from '../core/address.ts';
import type { ApplicationProtocol, BalancePolicy } from '../model/target.ts';

/** What every resource has. */
export interface ResourceMeta {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Where it was read, for messages: `mesh.d/web.yaml:12`. */
  readonly place: string;
}

/** A Service (v1). */
export interface Service extends ResourceMeta {
  readonly kind: 'Service';
  /** Virtual IPs, port 0; none for a headless service. */
  readonly clusterIps: readonly SocketAddress[];
  /** Family of the endpoints a look-up by name gets. */
  readonly family: 4 | 6;
  /** Labels of the workloads behind it; undefined when its EndpointSlices are written by hand. */
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly publishNotReady: boolean;
  /** How its endpoints are chosen; undefined when not said. */
  readonly balance: BalancePolicy | undefined;
  readonly ports: readonly ServicePort[];
}

/** One TCP port of a service. */
export interface ServicePort {
  /** Empty for the only, unnamed port. */
  readonly name: string;
  /** 1 to 65535. */
  readonly port: number;
  /** 1 to 65535, or the name of a workload's port. */
  readonly targetPort: number | string;
  /** What is spoken there; undefined when not said, or when it is no HTTP. */
  readonly protocol: ApplicationProtocol | undefined;
}

/** An EndpointSlice (discovery.k8s.io/v1). */
export interface EndpointSlice extends ResourceMeta {
  readonly kind: 'EndpointSlice';
  /** The service of its label `kubernetes.io/service-name`; undefined when it belongs to none. */
  readonly service: string | undefined;
  readonly ports: readonly WorkloadPort[];
  readonly endpoints: readonly SliceEndpoint[];
  /** Who all its endpoints are, from the `ferrule.dev/*` annotations. */
  readonly mesh: MeshIdentity | undefined;
  /** Above 0; undefined when not said. */
  readonly weight: number | undefined;
}

/** A TCP port as endpoints have it. */
export interface WorkloadPort {
  /** Empty when unnamed. */
  readonly name: string;
  /** 1 to 65535. */
  readonly port: number;
  /** As of a service's port, whose word goes before it. */
  readonly protocol: ApplicationProtocol | undefined;
}

/** One entry of an EndpointSlice. */
export interface SliceEndpoint {
  /** Port 0. */
  readonly addresses: readonly SocketAddress[];
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zone: string | undefined;
  /** Zones whose clients should prefer it, from its hints; undefined when it has none. */
  readonly forZones: readonly string[] | undefined;
  readonly target: ObjectReference | undefined;
  /** For messages. */
  readonly place: string;
}

/** Names another resource. */
export interface ObjectReference {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** Who a meshed endpoint is. */
export interface MeshIdentity {
  /** SPIFFE or DNS form. */
  readonly identity: string;
  /** SNI its proxy answers to. */
  readonly serverName: string;
  /** 1 to 65535; undefined when TLS goes to the endpoint's own port. */
  readonly proxyPort: number | undefined;
}

/** An ExternalWorkload (workload.linkerd.io/v1beta1): a machine outside of Kubernetes. */
export interface ExternalWorkload extends ResourceMeta {
  readonly kind: 'ExternalWorkload';
  /** Port 0. */
  readonly addresses: readonly SocketAddress[];
  readonly ports: readonly WorkloadPort[];
  readonly mesh: MeshIdentity;
  readonly ready: boolean;
  /** Above 0; undefined when not said. */
  readonly weight: number | undefined;
}

/** Everything Ferrule makes targets from. */
export type Resource = Service | EndpointSlice | ExternalWorkload;
