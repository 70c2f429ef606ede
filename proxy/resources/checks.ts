/**
 * Checks and small readings that several kinds share. Each check returns what the text must be, or undefined.
 */
import { isUnspecified, parseIp, type SocketAddress } from '../core/address.ts';
import { isSpiffeId, serverNameOf } from '../core/identity.ts';
import type { ApplicationProtocol } from '../model/target.ts';
import type { ObjectReader } from './reader.ts';
import type { MeshIdentity, WorkloadPort } from './types.ts';

/** Annotations on an EndpointSlice that say who all its endpoints are, and more. */
export const ANNOTATION = {
  identity: 'ferrule.dev/identity',
  serverName: 'ferrule.dev/server-name',
  proxyPort: 'ferrule.dev/proxy-port',
  weight: 'ferrule.dev/weight',
} as const;

/**
 * Weights beyond this are typing mistakes: it leaves one connection in a thousand to an endpoint of weight 1.
 */
const MAX_WEIGHT = 1000;

/** Fields that any object may have and that mean nothing for traffic. */
export const INERT_TOP = ['status'];
const INERT_METADATA = [
  'uid',
  'resourceVersion',
  'generation',
  'generateName',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
  'ownerReferences',
  'finalizers',
  'selfLink',
  'labels',
];

/** Annotations of these domains are meant for a proxy; others are none of its business. */
const OUR_ANNOTATIONS = /(^|\.)(linkerd\.io|ferrule\.dev)\//;

/**
 * What `appProtocol` may say, in the names of Kubernetes (KEP-3726), IANA and other meshes. WebSocket is opened by HTTP/1; `http` is
 * HTTP/1 where others look for it too.
 */
const APP_PROTOCOLS: ReadonlyMap<string, ApplicationProtocol> = new Map([
  ['http', 'http1'],
  ['http/1.1', 'http1'],
  ['kubernetes.io/ws', 'http1'],
  ['kubernetes.io/h2c', 'http2'],
  ['kubernetes.io/grpc', 'http2'],
  ['h2c', 'http2'],
  ['http2', 'http2'],
  ['grpc', 'http2'],
]);

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** RFC 1123 label: namespaces and services, whose names are parts of a domain name. */
export function dnsLabel(text: string): string | undefined {
  return DNS_LABEL.test(text) ? undefined : 'must be 1 to 63 lower-case letters, digits and inner dashes';
}

/** RFC 1123 subdomain of at most 253 characters. */
export function dnsName(text: string): string | undefined {
  return text.length <= 253 && text.split('.').every((label) => DNS_LABEL.test(label))
    ? undefined
    : 'must be a DNS name of lower-case labels, at most 253 characters';
}

/**
 * The name of a workload's port (RFC 6335 section 5.1): it has a letter, so it is never taken for a number.
 */
export function portName(text: string): string | undefined {
  const fine = dnsLabel(text) === undefined && /[a-z]/.test(text);
  return fine ? undefined : 'must be lower-case letters, digits and inner dashes with at least one letter';
}

/** An IP literal that can be dialled. */
export function ipAddress(text: string): string | undefined {
  const address = parseIp(text);
  return address === undefined || isUnspecified(address) ? 'must be an IP address' : undefined;
}

/** A SPIFFE ID or a DNS name, the forms certificates carry. */
export function identityText(text: string): string | undefined {
  if (!text.startsWith('spiffe://')) {
    return dnsName(text) === undefined ? undefined : 'must be a DNS name or a spiffe:// URI';
  }
  return isSpiffeId(text) ? undefined : 'must be spiffe://TRUST-DOMAIN/PATH without empty or dot segments';
}

/** Parses texts that passed `ipAddress`, without repetitions. */
export function toAddresses(texts: readonly string[]): SocketAddress[] {
  const addresses = new Map<number | string, SocketAddress>();
  for (const text of texts) {
    const address = parseIp(text);
    if (address !== undefined) addresses.set(address.key, address);
  }
  return [...addresses.values()];
}

/** Reads `protocol`; true for TCP, which is all that is proxied. */
export function isTcp(port: ObjectReader): boolean {
  const protocol = port.string('protocol') ?? 'TCP';
  if (protocol === 'TCP') return true;
  if (protocol === 'UDP' || protocol === 'SCTP') port.warn('protocol', `${protocol} is not proxied`);
  else port.mistake('protocol', `must be TCP, UDP or SCTP, is ${JSON.stringify(protocol)}`);
  return false;
}

/** Reads `appProtocol`; undefined when it says nothing of HTTP: what such a port speaks is looked for as ever. */
export function readAppProtocol(port: ObjectReader): ApplicationProtocol | undefined {
  const text = port.string('appProtocol') ?? '';
  const protocol = APP_PROTOCOLS.get(text);
  if (protocol === undefined && text !== '')
    port.warn('appProtocol', `${text} is not honoured by this version`);
  return protocol;
}

/** Reads the TCP ports of an EndpointSlice or ExternalWorkload. */
export function readWorkloadPorts(readers: readonly ObjectReader[]): WorkloadPort[] {
  const ports: WorkloadPort[] = [];
  for (const reader of readers) {
    const name = reader.take('name') === '' ? '' : (reader.string('name', dnsLabel) ?? '');
    const number = reader.integer('port', 1, 65_535);
    const protocol = readAppProtocol(reader);
    if (reader.take('port') === undefined) reader.warn('port', 'is missing, and "all ports" is not honoured');
    if (isTcp(reader) && number !== undefined) ports.push({ name, port: number, protocol });
    reader.unhonoured();
  }
  return ports;
}

/** Reads metadata; annotations meant for proxies that are not in `honoured` are reported. */
export function readMetadata(
  object: ObjectReader,
  honoured: readonly string[],
): { labels: Readonly<Record<string, string>>; annotations: ObjectReader | undefined } {
  const metadata = object.object('metadata');
  metadata?.take('name');
  metadata?.take('namespace');
  const labels = metadata?.stringMap('labels') ?? {};
  const annotations = metadata?.object('annotations');
  for (const key of annotations?.keys() ?? []) {
    if (OUR_ANNOTATIONS.test(key) && !honoured.includes(key)) annotations?.warn(key);
  }
  metadata?.unhonoured(INERT_METADATA);
  return { labels, annotations };
}

/** Reads `ferrule.dev/weight`: above 0, at most 1000. */
export function readWeight(annotations: ObjectReader | undefined): number | undefined {
  const text = annotations?.string(ANNOTATION.weight, (value) => {
    const fine = /^\d+(\.\d+)?$/.test(value) && Number(value) > 0 && Number(value) <= MAX_WEIGHT;
    return fine ? undefined : `must be above 0 and at most ${MAX_WEIGHT}`;
  });
  return text === undefined ? undefined : Number(text);
}

/** Reads `ferrule.dev/proxy-port`: 1 to 65535, as annotations are, in quotes. */
export function readProxyPort(annotations: ObjectReader | undefined): number | undefined {
  const text = annotations?.string(ANNOTATION.proxyPort, (value) =>
    /^[1-9]\d{0,4}$/.test(value) && Number(value) <= 65_535 ? undefined : 'must be 1 to 65535',
  );
  return text === undefined ? undefined : Number(text);
}

/** Reads the identity annotations of an EndpointSlice; undefined when it has none. */
export function readMeshAnnotations(annotations: ObjectReader | undefined): MeshIdentity | undefined {
  if (annotations === undefined) return undefined;
  const identity = annotations.string(ANNOTATION.identity, identityText);
  const serverName = annotations.string(ANNOTATION.serverName, dnsName);
  const proxyPort = readProxyPort(annotations);
  if (annotations.take(ANNOTATION.identity) === undefined) {
    for (const name of [ANNOTATION.serverName, ANNOTATION.proxyPort]) {
      // Dropped in silence it would look meshed and be dialled in plaintext.
      if (annotations.take(name) !== undefined)
        annotations.mistake(name, `needs ${ANNOTATION.identity} beside it`);
    }
    return undefined;
  }
  if (identity === undefined) return undefined;
  const sni = serverName ?? serverNameOf(identity);
  if (sni !== undefined) return { identity, serverName: sni, proxyPort };
  annotations.mistake(
    ANNOTATION.identity,
    `needs ${ANNOTATION.serverName} beside it: its SNI cannot be derived`,
  );
  return undefined;
}
