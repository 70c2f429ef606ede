/** Reads a Service (v1). */
import type { SocketAddress } from '../core/address.ts';
import type { BalancePolicy } from '../model/target.ts';
import {
  dnsLabel,
  INERT_TOP,
  ipAddress,
  isTcp,
  portName,
  readAppProtocol,
  readMetadata,
  toAddresses,
} from './checks.ts';
import type { ObjectReader } from './reader.ts';
import type { Service, ServicePort } from './types.ts';

/**
 * Fields without meaning for a sidecar's outbound traffic: how the service is reached from outside of the
 * cluster, and how its IPs were allotted.
 */
const INERT_SPEC = [
  'ipFamilyPolicy',
  'externalTrafficPolicy',
  'healthCheckNodePort',
  'allocateLoadBalancerNodePorts',
  'loadBalancerClass',
  'loadBalancerSourceRanges',
];

/** Says how the endpoints of a service are chosen. */
const LOAD_BALANCER = 'linkerd.io/load-balancer';

/** What it may say. `p2c` is what Linkerd 1 called the least loaded of two. */
const BALANCE_POLICIES: ReadonlyMap<string, BalancePolicy> = new Map([
  ['ewma', 'ewma'],
  ['least-request', 'least-request'],
  ['p2c', 'least-request'],
  ['round-robin', 'round-robin'],
]);

/** Reads the service `namespace/name`; what is wrong is reported, and then the result is not to be used. */
export function readService(object: ObjectReader, namespace: string, name: string): Service {
  const { labels, annotations } = readMetadata(object, [LOAD_BALANCER]);
  const wrongName = dnsLabel(name);
  if (wrongName !== undefined)
    object.object('metadata')?.mistake('name', `${wrongName}, is ${JSON.stringify(name)}`);
  const spec = object.object('spec', true);
  object.take('apiVersion');
  object.take('kind');
  object.unhonoured(INERT_TOP);
  const base = {
    kind: 'Service',
    namespace,
    name,
    labels,
    place: object.place,
    balance: readBalance(annotations),
  } as const;
  if (spec === undefined) {
    return { ...base, clusterIps: [], family: 4, selector: undefined, publishNotReady: false, ports: [] };
  }
  const clusterIps = readClusterIps(spec);
  const selector = spec.stringMap('selector');
  const service = {
    ...base,
    clusterIps,
    family: readFamily(spec, clusterIps),
    selector: Object.keys(selector).length > 0 ? selector : undefined,
    publishNotReady: spec.boolean('publishNotReadyAddresses') ?? false,
    ports: readPorts(spec),
  };
  warnOfBehaviour(spec);
  spec.unhonoured(INERT_SPEC);
  return service;
}

/** An unknown policy does no harm that would justify to be without the service. */
function readBalance(annotations: ObjectReader | undefined): BalancePolicy | undefined {
  const text = annotations?.string(LOAD_BALANCER);
  if (text === undefined) return undefined;
  const policy = BALANCE_POLICIES.get(text);
  if (policy === undefined) {
    const known = [...BALANCE_POLICIES.keys()].join(', ');
    annotations?.warn(LOAD_BALANCER, `must be one of ${known}, is ${JSON.stringify(text)}: ewma is used`);
  }
  return policy;
}

function readClusterIps(spec: ObjectReader): SocketAddress[] {
  const check = (text: string): string | undefined =>
    text === '' || text === 'None' ? undefined : ipAddress(text) && 'must be an IP address or None';
  const single = spec.string('clusterIP', check);
  const several = spec.strings('clusterIPs', check);
  return toAddresses([single ?? '', ...several].filter((text) => text !== '' && text !== 'None'));
}

function readFamily(spec: ObjectReader, clusterIps: readonly SocketAddress[]): 4 | 6 {
  const [first] = spec.strings('ipFamilies', (text) =>
    text === 'IPv4' || text === 'IPv6' ? undefined : 'must be IPv4 or IPv6',
  );
  if (first !== undefined) return first === 'IPv6' ? 6 : 4;
  return clusterIps[0]?.family ?? 4;
}

function readPorts(spec: ObjectReader): ServicePort[] {
  const ports: ServicePort[] = [];
  const readers = spec.objects('ports');
  const numbers = new Set<number>();
  const names = new Set<string>();
  for (const reader of readers) {
    const name = reader.take('name') === '' ? '' : (reader.string('name', dnsLabel) ?? '');
    const port = reader.integer('port', 1, 65_535, true);
    const targetPort = readTargetPort(reader);
    const protocol = readAppProtocol(reader);
    const tcp = isTcp(reader);
    reader.unhonoured(['nodePort']);
    if (!tcp || port === undefined) continue;
    if (readers.length > 1 && !reader.has('name'))
      reader.mistake('name', 'is required where there are several ports');
    if (numbers.has(port)) reader.mistake('port', `${port} is there twice`);
    if (name !== '' && names.has(name)) reader.mistake('name', `${JSON.stringify(name)} is there twice`);
    numbers.add(port);
    names.add(name);
    ports.push({ name, port, targetPort: targetPort ?? port, protocol });
  }
  return ports;
}

/** A number or a port name. Kubernetes defaults it to the service's port, and takes 0 and "" for unset. */
function readTargetPort(reader: ObjectReader): number | string | undefined {
  const raw = reader.take('targetPort');
  if (raw === undefined || raw === '' || raw === 0) return undefined;
  if (typeof raw === 'string') {
    if (/^\d+$/.test(raw)) {
      reader.mistake(
        'targetPort',
        `must be a number or the name of a port, is ${JSON.stringify(raw)}: remove the quotes`,
      );
      return undefined;
    }
    return reader.string('targetPort', portName);
  }
  return reader.integer('targetPort', 1, 65_535);
}

/** Settings that change where connections go, and do not here. */
function warnOfBehaviour(spec: ObjectReader): void {
  const type = spec.string('type') ?? 'ClusterIP';
  if (type === 'ExternalName')
    spec.warn('type', 'ExternalName is not honoured by this version: it has no endpoints');
  else if (type === 'NodePort' || type === 'LoadBalancer')
    spec.warn('type', `${type}: only its cluster IP is honoured`);
  else if (type !== 'ClusterIP') {
    spec.mistake(
      'type',
      `must be ClusterIP, NodePort, LoadBalancer or ExternalName, is ${JSON.stringify(type)}`,
    );
  }
  const distribution = spec.string('trafficDistribution');
  // The own zone is preferred anyway, where the proxy knows its own.
  if (distribution !== undefined && distribution !== 'PreferClose' && distribution !== 'PreferSameZone')
    spec.warn('trafficDistribution', `${distribution} is not honoured by this version`);
  const affinity = spec.string('sessionAffinity');
  if (affinity !== undefined && affinity !== 'None')
    spec.warn('sessionAffinity', `${affinity} is not honoured by this version`);
  const policy = spec.string('internalTrafficPolicy');
  if (policy !== undefined && policy !== 'Cluster') {
    spec.warn('internalTrafficPolicy', `${policy} is not honoured by this version`);
  }
}
