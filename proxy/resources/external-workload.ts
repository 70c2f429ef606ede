/** Reads an ExternalWorkload (workload.linkerd.io/v1beta1, the CRD of Linkerd 2.15 and later). */
import {
  ANNOTATION,
  dnsName,
  identityText,
  ipAddress,
  readMetadata,
  readProxyPort,
  readWeight,
  readWorkloadPorts,
  toAddresses,
} from './checks.ts';
import type { ObjectReader } from './reader.ts';
import type { ExternalWorkload, MeshIdentity } from './types.ts';

/** Reads the workload `namespace/name`; what is wrong is reported, and then the result is not to be used. */
export function readExternalWorkload(
  object: ObjectReader,
  namespace: string,
  name: string,
): ExternalWorkload {
  const { labels, annotations } = readMetadata(object, [ANNOTATION.weight, ANNOTATION.proxyPort]);
  object.take('apiVersion');
  object.take('kind');
  const spec = object.object('spec', true);
  const ips: string[] = [];
  for (const entry of spec?.objects('workloadIPs') ?? []) {
    const ip = entry.string('ip', ipAddress, true);
    if (ip !== undefined) ips.push(ip);
    entry.unhonoured();
  }
  const workload = {
    kind: 'ExternalWorkload',
    namespace,
    name,
    labels,
    place: object.place,
    addresses: toAddresses(ips),
    ports: readWorkloadPorts(spec?.objects('ports') ?? []),
    mesh: readMeshTls(spec, readProxyPort(annotations)),
    ready: readReady(object.object('status')),
    weight: readWeight(annotations),
  } as const;
  spec?.unhonoured();
  object.unhonoured();
  return workload;
}

/**
 * `spec.meshTLS` is required, as in the CRD: misspelt and ignored, the workload would be dialled in
 * plaintext.
 */
function readMeshTls(spec: ObjectReader | undefined, proxyPort: number | undefined): MeshIdentity {
  const meshTls = spec?.object('meshTLS', true);
  const identity = meshTls?.string('identity', identityText, true) ?? '';
  const serverName = meshTls?.string('serverName', dnsName, true) ?? '';
  meshTls?.unhonoured();
  return { identity, serverName, proxyPort };
}

/** Ready unless a condition says otherwise: who writes files by hand writes no status. */
function readReady(status: ObjectReader | undefined): boolean {
  for (const condition of status?.objects('conditions') ?? []) {
    if (condition.string('type') === 'Ready') return condition.string('status') === 'True';
  }
  return true;
}
