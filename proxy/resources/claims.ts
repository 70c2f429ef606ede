/**
 * What EndpointSlices and ExternalWorkloads say of addresses: each listed address and port is a claim. Claims
 * about one address are merged, and an identity that anything gives an address holds for all of it.
 */
import type { SocketAddress } from '../core/address.ts';
import { accountOf } from '../core/identity.ts';
import type { ApplicationProtocol, EndpointSnapshot, Labels } from '../model/target.ts';
import type {
  EndpointSlice,
  ExternalWorkload,
  MeshIdentity,
  ObjectReference,
  SliceEndpoint,
  WorkloadPort,
} from './types.ts';

/** Where a workload runs, as Kubernetes labels nodes. */
const ZONE_LABEL = 'topology.kubernetes.io/zone';

/** One statement that something serves at an address and port. */
export interface Claim {
  readonly address: SocketAddress;
  /** Name of the port in its slice or workload. */
  readonly portName: string;
  readonly ready: boolean;
  /** Going away, and still answering. */
  readonly lastResort: boolean;
  readonly weight: number;
  readonly mesh: MeshIdentity | undefined;
  readonly labels: Labels;
  /** Zones whose clients should prefer it; undefined when nothing is known of any. */
  readonly zones: readonly string[] | undefined;
  /** What is spoken there; undefined when not said. */
  readonly protocol: ApplicationProtocol | undefined;
  /** The workload resource's own word, which goes before an annotation on a slice. */
  readonly ownWord: boolean;
  readonly place: string;
}

/** An address whose identity is known, whatever the port. */
export interface Host {
  readonly mesh: MeshIdentity;
  readonly labels: Labels;
  readonly ownWord: boolean;
  readonly place: string;
}

/** Everything claimed, by address. */
export class ClaimIndex {
  readonly warnings: string[] = [];
  private readonly workloads = new Map<string, ExternalWorkload>();
  private readonly bySlice = new Map<EndpointSlice, readonly Claim[]>();
  private readonly byAddress = new Map<string, Claim[]>();
  /** By IP. */
  readonly hosts = new Map<string, Host>();
  /**
   * By IP: addresses bound to an ExternalWorkload that is not there. It would have told an identity, so that
   * plaintext is out of the question.
   */
  readonly orphans = new Map<string, ObjectReference>();

  /** Arguments in their final order: where claims disagree, the first wins. */
  constructor(slices: readonly EndpointSlice[], workloads: readonly ExternalWorkload[]) {
    for (const workload of workloads) {
      this.workloads.set(`${workload.namespace}/${workload.name}`, workload);
      for (const address of workload.addresses) {
        this.addHost(address, { ...describe(workload), place: workload.place });
        for (const port of workload.ports) {
          this.add(workloadClaim(workload, address.withPort(port.port), port, workload.ready));
        }
      }
    }
    for (const slice of slices) this.addSlice(slice);
  }

  /** The claims of one slice. */
  ofSlice(slice: EndpointSlice): readonly Claim[] {
    return this.bySlice.get(slice) ?? [];
  }

  /** Every address and port anybody claimed, merged; without orphans. */
  *endpoints(): IterableIterator<EndpointSnapshot> {
    for (const claims of this.byAddress.values()) yield* this.merge(claims);
  }

  /**
   * One endpoint per address and port, in the order of their text; without orphans.
   * @param protocol what is spoken there, whatever the claims say; undefined when only they do
   */
  mergeAll(claims: readonly Claim[], protocol: ApplicationProtocol | undefined): EndpointSnapshot[] {
    const groups = new Map<string, Claim[]>();
    for (const claim of claims) {
      const key = claim.address.toString();
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [claim]);
      else group.push(claim);
    }
    return [...groups.keys()].sort().flatMap((key) => this.merge(groups.get(key)!, protocol));
  }

  private addSlice(slice: EndpointSlice): void {
    const claims: Claim[] = [];
    for (const endpoint of slice.endpoints) {
      const workload = this.workloadOf(slice, endpoint);
      for (const address of endpoint.addresses) {
        for (const port of slice.ports) {
          const claim = sliceClaim(slice, endpoint, workload, address.withPort(port.port), port);
          claims.push(claim);
          this.add(claim);
        }
        this.addSliceHost(address, slice, endpoint, workload);
      }
    }
    this.bySlice.set(slice, claims);
  }

  /** The workload an endpoint is bound to; undefined when to none, or to one that is not there. */
  private workloadOf(slice: EndpointSlice, endpoint: SliceEndpoint): ExternalWorkload | undefined {
    const { target } = endpoint;
    if (target?.kind !== 'ExternalWorkload') return undefined;
    const workload = this.workloads.get(`${target.namespace}/${target.name}`);
    // An identity on the slice serves as well.
    if (workload !== undefined || slice.mesh !== undefined) return workload;
    for (const address of endpoint.addresses) this.orphans.set(address.ip, target);
    this.warnings.push(
      `${endpoint.place}: EndpointSlice ${slice.namespace}/${slice.name}: endpoint left out: its targetRef names ` +
        `ExternalWorkload ${target.namespace}/${target.name}, which is not there`,
    );
    return undefined;
  }

  private addSliceHost(
    address: SocketAddress,
    slice: EndpointSlice,
    endpoint: SliceEndpoint,
    workload: ExternalWorkload | undefined,
  ): void {
    const mesh = workload?.mesh ?? slice.mesh;
    if (mesh === undefined) return;
    const labels = sliceLabels(slice, endpoint, workload, mesh);
    this.addHost(address, { mesh, labels, ownWord: workload !== undefined, place: endpoint.place });
  }

  private add(claim: Claim): void {
    const key = claim.address.toString();
    const claims = this.byAddress.get(key);
    if (claims === undefined) this.byAddress.set(key, [claim]);
    else claims.push(claim);
  }

  private addHost(address: SocketAddress, host: Host): void {
    const known = this.hosts.get(address.ip);
    if (known === undefined || (host.ownWord && !known.ownWord)) this.hosts.set(address.ip, host);
    if (known === undefined || known.mesh.identity === host.mesh.identity) return;
    this.warnings.push(
      `${host.place}: ${address.ip} has two identities, ${host.mesh.identity} and ${known.mesh.identity} (${known.place})`,
    );
  }

  /** The endpoint of claims that share an address and port; none for an orphan. */
  private merge(claims: readonly Claim[], declared?: ApplicationProtocol): EndpointSnapshot[] {
    const { address } = claims[0];
    const host = this.hosts.get(address.ip);
    const mesh =
      claims.find((claim) => claim.ownWord)?.mesh ??
      (host?.ownWord ? host.mesh : undefined) ??
      claims.find((claim) => claim.mesh !== undefined)?.mesh ??
      // A port listed without an identity is still on a host that has one.
      host?.mesh;
    if (mesh === undefined && this.orphans.has(address.ip)) return [];
    const labels: Record<string, string> = {};
    for (const claim of claims.toReversed()) Object.assign(labels, claim.labels);
    if (mesh !== undefined) Object.assign(labels, accountLabel(mesh));
    const weight = Math.max(...claims.map((claim) => claim.weight));
    const zones = claims.find((claim) => claim.zones !== undefined)?.zones;
    const protocol = declared ?? claims.find((claim) => claim.protocol !== undefined)?.protocol;
    return [freezeEndpoint(address, weight, labels, mesh, zones, protocol)];
  }
}

/** The endpoint at a port of `host` that nobody listed. */
export function unlistedEndpoint(host: Host, address: SocketAddress): EndpointSnapshot {
  return freezeEndpoint(address, 1, host.labels, host.mesh);
}

/** A workload's claim to one of its ports, listed or chosen by a service. */
export function workloadClaim(
  workload: ExternalWorkload,
  address: SocketAddress,
  { name, protocol }: Pick<WorkloadPort, 'name' | 'protocol'>,
  ready: boolean,
): Claim {
  const weight = workload.weight ?? 1;
  return {
    address,
    portName: name,
    protocol,
    ready,
    lastResort: false,
    weight,
    zones: zonesOf(workload),
    place: workload.place,
    ...describe(workload),
  };
}

function describe(workload: ExternalWorkload): { mesh: MeshIdentity; labels: Labels; ownWord: true } {
  const labels = {
    dst_namespace: workload.namespace,
    dst_external_workload: workload.name,
    ...zoneLabel(workload.labels[ZONE_LABEL]),
    ...accountLabel(workload.mesh),
  };
  return { mesh: workload.mesh, labels, ownWord: true };
}

function sliceClaim(
  slice: EndpointSlice,
  endpoint: SliceEndpoint,
  workload: ExternalWorkload | undefined,
  address: SocketAddress,
  { name, protocol }: WorkloadPort,
): Claim {
  const mesh = workload?.mesh ?? slice.mesh;
  return {
    address,
    portName: name,
    protocol,
    ready: endpoint.ready,
    lastResort: endpoint.serving && endpoint.terminating,
    weight: slice.weight ?? workload?.weight ?? 1,
    mesh,
    labels: sliceLabels(slice, endpoint, workload, mesh),
    zones:
      endpoint.forZones ?? (endpoint.zone === undefined ? undefined : [endpoint.zone]) ?? zonesOf(workload),
    ownWord: workload !== undefined,
    place: endpoint.place,
  };
}

function sliceLabels(
  slice: EndpointSlice,
  endpoint: SliceEndpoint,
  workload: ExternalWorkload | undefined,
  mesh: MeshIdentity | undefined,
): Labels {
  return {
    dst_namespace: slice.namespace,
    ...(endpoint.target?.kind === 'Pod' ? { dst_pod: endpoint.target.name } : {}),
    ...(workload === undefined ? {} : describe(workload).labels),
    ...zoneLabel(endpoint.zone),
    ...(mesh === undefined ? {} : accountLabel(mesh)),
  };
}

function zonesOf(workload: ExternalWorkload | undefined): readonly string[] | undefined {
  const zone = workload?.labels[ZONE_LABEL] || undefined;
  return zone === undefined ? undefined : [zone];
}

function zoneLabel(zone: string | undefined): Labels {
  return zone === undefined || zone === '' ? {} : { dst_zone: zone };
}

function accountLabel(mesh: MeshIdentity): Labels {
  const account = accountOf(mesh.identity)?.serviceAccount;
  return account === undefined ? {} : { dst_serviceaccount: account };
}

function freezeEndpoint(
  address: SocketAddress,
  weight: number,
  labels: Labels,
  mesh: MeshIdentity | undefined,
  zones?: readonly string[],
  protocol?: ApplicationProtocol,
): EndpointSnapshot {
  return Object.freeze({
    ip: address.ip,
    port: address.port,
    weight,
    labels: Object.freeze({ ...labels }),
    ...(mesh === undefined ? {} : { identity: mesh.identity, serverName: mesh.serverName }),
    ...(zones === undefined ? {} : { zones: Object.freeze([...zones]) }),
    ...(mesh?.proxyPort === undefined ? {} : { proxyPort: mesh.proxyPort }),
    ...(protocol === undefined ? {} : { protocol }),
  });
}
