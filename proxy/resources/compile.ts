/** Resources to targets: which address and which name leads where. */
import { isDeepStrictEqual } from 'node:util';
import { parsePort, parseSocketAddress } from '../core/address.ts';
import type { Labels, TargetKey, TargetSnapshot } from '../model/target.ts';
import { type Claim, ClaimIndex, type Host, unlistedEndpoint, workloadClaim } from './claims.ts';
import type {
  EndpointSlice,
  ExternalWorkload,
  ObjectReference,
  Resource,
  Service,
  ServicePort,
} from './types.ts';

/** The domain below which services have names, as nearly every cluster has it. */
export const CLUSTER_DOMAIN = 'cluster.local';

const UNKNOWN: TargetSnapshot = Object.freeze({ kind: 'unknown' });

/** How to compile. */
export interface CompileOptions {
  /** Where a service named without a namespace is looked for; `default` unless said. */
  readonly namespace?: string;
  /** What was compiled before: targets that did not change stay the same objects. */
  readonly previous?: CompiledTargets;
}

/** Answers look-ups. Immutable. */
export class CompiledTargets {
  /** What the resources say without effect, or contradict each other in: complete for a human. */
  readonly warnings: readonly string[];
  private readonly targets: ReadonlyMap<string, TargetSnapshot>;
  private readonly hosts: ReadonlyMap<string, Host>;
  private readonly orphans: ReadonlyMap<string, ObjectReference>;
  private readonly namespace: string;

  constructor(
    targets: ReadonlyMap<string, TargetSnapshot>,
    { hosts, orphans }: Pick<ClaimIndex, 'hosts' | 'orphans'>,
    namespace: string,
    warnings: readonly string[],
  ) {
    this.targets = targets;
    this.hosts = hosts;
    this.orphans = orphans;
    this.namespace = namespace;
    this.warnings = warnings;
  }

  /**
   * Answers for `ip:port`, `[v6]:port`, or `name.namespace:port`, where the namespace may be left out or be
   * followed by `.svc` or `.svc.cluster.local`, and the port may be its name. Frozen; `unknown` for anything
   * else.
   */
  lookup(target: TargetKey): TargetSnapshot {
    const address = parseSocketAddress(target);
    if (address === undefined) {
      const key = nameKey(target, this.namespace);
      return (key === undefined ? undefined : this.targets.get(key)) ?? UNKNOWN;
    }
    const listed = this.targets.get(address.toString());
    if (listed !== undefined) return listed;
    // Nobody listed this port. An address that has an identity must not become plaintext for that.
    const host = this.hosts.get(address.ip);
    if (host !== undefined) {
      return Object.freeze({ kind: 'endpoint', endpoint: unlistedEndpoint(host, address) });
    }
    const orphan = this.orphans.get(address.ip);
    return orphan === undefined ? UNKNOWN : nobody(orphan, address.port);
  }

  /** The stored answer under a canonical key. */
  stored(key: string): TargetSnapshot | undefined {
    return this.targets.get(key);
  }
}

/**
 * Compiles `resources`, whose order does not matter. Never throws: what contradicts itself is in `warnings`.
 */
export function compile(resources: readonly Resource[], options: CompileOptions = {}): CompiledTargets {
  return new Compiler(resources).run(options);
}

class Compiler {
  private readonly services: readonly Service[];
  private readonly workloads: readonly ExternalWorkload[];
  private readonly claims: ClaimIndex;
  private readonly slicesOf = new Map<string, EndpointSlice[]>();
  private readonly targets = new Map<string, TargetSnapshot>();
  private readonly warnings: string[] = [];

  constructor(resources: readonly Resource[]) {
    const unique = this.withoutRepetitions(resources);
    this.services = unique.filter((resource) => resource.kind === 'Service');
    this.workloads = unique.filter((resource) => resource.kind === 'ExternalWorkload');
    const slices = unique.filter((resource) => resource.kind === 'EndpointSlice');
    this.claims = new ClaimIndex(slices, this.workloads);
    this.warnings.push(...this.claims.warnings);
    this.bindSlices(slices);
  }

  run(options: CompileOptions): CompiledTargets {
    for (const endpoint of this.claims.endpoints()) {
      const host = endpoint.ip.includes(':') ? `[${endpoint.ip}]` : endpoint.ip;
      this.targets.set(`${host}:${endpoint.port}`, Object.freeze({ kind: 'endpoint', endpoint }));
    }
    const owners = new Map<string, Service>();
    for (const service of this.services) {
      for (const port of service.ports) this.addServicePort(service, port, owners);
    }
    const { previous, namespace = 'default' } = options;
    if (previous !== undefined) {
      for (const [key, target] of this.targets) {
        const old = previous.stored(key);
        if (old !== undefined && isDeepStrictEqual(old, target)) this.targets.set(key, old);
      }
    }
    return new CompiledTargets(this.targets, this.claims, namespace, this.warnings);
  }

  /** Sorted; of several resources with one name the first by place stays. */
  private withoutRepetitions(resources: readonly Resource[]): Resource[] {
    const sorted = resources
      .map((resource) => ({ resource, key: `${resource.kind} ${resource.namespace}/${resource.name}` }))
      .sort((a, b) => compareText(a.key, b.key) || comparePlaces(a.resource.place, b.resource.place));
    const unique: Resource[] = [];
    let last: { resource: Resource; key: string } | undefined;
    for (const entry of sorted) {
      if (entry.key === last?.key) {
        const first = last.resource.place;
        this.warnings.push(
          `${entry.resource.place}: ${entry.key} is defined twice; the one at ${first} holds`,
        );
        continue;
      }
      last = entry;
      unique.push(entry.resource);
    }
    return unique;
  }

  private bindSlices(slices: readonly EndpointSlice[]): void {
    const services = new Set(this.services.map((service) => `${service.namespace}/${service.name}`));
    for (const slice of slices) {
      const subject = `${slice.place}: EndpointSlice ${slice.namespace}/${slice.name}:`;
      if (slice.service === undefined) {
        this.warnings.push(`${subject} belongs to no service: it has no label kubernetes.io/service-name`);
        continue;
      }
      const key = `${slice.namespace}/${slice.service}`;
      if (!services.has(key)) this.warnings.push(`${subject} Service ${key} is not there`);
      const bound = this.slicesOf.get(key);
      if (bound === undefined) this.slicesOf.set(key, [slice]);
      else bound.push(slice);
    }
  }

  private addServicePort(service: Service, port: ServicePort, owners: Map<string, Service>): void {
    const claims = this.claimsOf(service, port);
    const byFamily = {
      4: this.serviceTarget(service, port, claims, 4),
      6: this.serviceTarget(service, port, claims, 6),
    };
    const name = `${service.name}.${service.namespace}`;
    this.targets.set(`${name}:${port.port}`, byFamily[service.family]);
    // A port named like a number yields to the number.
    if (port.name !== '' && parsePort(port.name) === undefined) {
      this.targets.set(`${name}:${port.name}`, byFamily[service.family]);
    }
    for (const ip of service.clusterIps) {
      const key = ip.withPort(port.port).toString();
      const owner = owners.get(key);
      if (owner === undefined) {
        owners.set(key, service);
        this.targets.set(key, byFamily[ip.family]);
      } else this.addConflict(key, owner, service);
    }
  }

  private addConflict(key: string, owner: Service, other: Service): void {
    const services = [`${owner.name}.${owner.namespace}`, `${other.name}.${other.namespace}`] as const;
    // Of three the first two are named: mending them shows the next.
    if (this.targets.get(key)?.kind !== 'conflict') {
      this.targets.set(key, Object.freeze({ kind: 'conflict', services: Object.freeze(services) }));
    }
    this.warnings.push(
      `${other.place}: Service ${other.namespace}/${other.name} has the address ${key} of Service ` +
        `${owner.namespace}/${owner.name} (${owner.place}): connections to it are refused`,
    );
  }

  private serviceTarget(
    service: Service,
    port: ServicePort,
    claims: readonly Claim[],
    family: 4 | 6,
  ): TargetSnapshot {
    const own = claims.filter((claim) => claim.address.family === family);
    // A declared virtual IP may be of a family its endpoints do not have: any endpoint is better than none
    // then.
    const candidates = own.length > 0 ? own : claims;
    const ready = candidates.filter((claim) => claim.ready);
    // As kube-proxy does (KEP-1669): endpoints that are going away serve until there are others.
    const usable = ready.length > 0 ? ready : candidates.filter((claim) => claim.lastResort);
    const labels: Labels = Object.freeze({ dst_service: service.name, dst_namespace: service.namespace });
    return Object.freeze({
      kind: 'service',
      name: `${service.name}.${service.namespace}:${port.port}`,
      labels,
      endpoints: Object.freeze(this.claims.mergeAll(usable, port.protocol)),
      ...(service.balance === undefined ? {} : { balance: service.balance }),
    });
  }

  /** Whatever serves a port of a service, of both families, ready or not. */
  private claimsOf(service: Service, port: ServicePort): readonly Claim[] {
    const slices = this.slicesOf.get(`${service.namespace}/${service.name}`);
    const subject = `${service.place}: Service ${service.namespace}/${service.name}: port ${port.port}`;
    if (slices === undefined) return this.selected(service, port, subject);
    const all = slices.flatMap((slice) => this.claims.ofSlice(slice));
    const claims = all.filter((claim) => claim.portName === port.name);
    if (claims.length === 0 && all.length > 0) {
      const named = port.name === '' ? 'without a name' : `named ${port.name}`;
      const others = [...new Set(all.map((claim) => claim.portName || '(unnamed)'))].sort().join(', ');
      this.warnings.push(
        `${subject} has no endpoints: its EndpointSlices have no port ${named}, but ${others}; names must be equal`,
      );
    }
    return claims;
  }

  private selected(service: Service, port: ServicePort, subject: string): readonly Claim[] {
    const workloads = this.workloads.filter(
      (workload) => workload.namespace === service.namespace && matches(service.selector, workload.labels),
    );
    if (workloads.length === 0) {
      this.warnings.push(
        `${subject} has no endpoints: no EndpointSlice is labelled with it, no ExternalWorkload selected`,
      );
    }
    const claims: Claim[] = [];
    for (const workload of workloads) {
      const number = targetPortOf(port, workload);
      if (number === undefined) {
        this.warnings.push(
          `${subject}: ${workload.kind} ${workload.name} has no port named ${port.targetPort}`,
        );
        continue;
      }
      const ready = workload.ready || service.publishNotReady;
      for (const ip of workload.addresses)
        claims.push(workloadClaim(workload, ip.withPort(number), port, ready));
    }
    return claims;
  }
}

/** What an address answers whose workload is not there: nobody to connect to, as opposed to unknown. */
function nobody({ namespace, name }: ObjectReference, port: number): TargetSnapshot {
  const labels = Object.freeze({ dst_external_workload: name, dst_namespace: namespace });
  return Object.freeze({
    kind: 'service',
    name: `${name}.${namespace}:${port}`,
    labels,
    endpoints: Object.freeze([]),
  });
}

function matches(selector: Service['selector'], labels: Labels): boolean {
  if (selector === undefined) return false;
  return Object.entries(selector).every(
    ([name, value]) => Object.hasOwn(labels, name) && labels[name] === value,
  );
}

function targetPortOf(port: ServicePort, workload: ExternalWorkload): number | undefined {
  if (typeof port.targetPort === 'number') return port.targetPort;
  return workload.ports.find((candidate) => candidate.name === port.targetPort)?.port;
}

/** `name.namespace:port` of any spelling of it; undefined when it is none. */
function nameKey(target: string, namespace: string): string | undefined {
  const colon = target.lastIndexOf(':');
  if (colon <= 0) return undefined;
  const labels = target.slice(0, colon).toLowerCase().replace(/\.$/, '').split('.');
  const suffix = labels.slice(2).join('.');
  if (suffix !== '' && suffix !== 'svc' && suffix !== `svc.${CLUSTER_DOMAIN}`) return undefined;
  return `${labels[0]}.${labels[1] ?? namespace}:${target.slice(colon + 1)}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Orders `file:line`: by file, then by line as a number. */
function comparePlaces(a: string, b: string): number {
  const [fileA, lineA] = splitPlace(a);
  const [fileB, lineB] = splitPlace(b);
  return compareText(fileA, fileB) || lineA - lineB;
}

function splitPlace(place: string): [file: string, line: number] {
  const colon = place.lastIndexOf(':');
  return [place.slice(0, colon), Number(place.slice(colon + 1))];
}
