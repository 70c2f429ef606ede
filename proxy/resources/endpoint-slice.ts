/** Reads an EndpointSlice (discovery.k8s.io/v1). */
import { parseIp } from '../core/address.ts';
import {
  ANNOTATION,
  INERT_TOP,
  ipAddress,
  readMeshAnnotations,
  readMetadata,
  readWeight,
  readWorkloadPorts,
  toAddresses,
} from './checks.ts';
import type { ObjectReader } from './reader.ts';
import type { EndpointSlice, ObjectReference, SliceEndpoint } from './types.ts';

/** The label that binds a slice to its service. */
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';

/** Fields that name where an endpoint runs and what DNS calls it: nothing a connection depends on. */
const INERT_ENDPOINT = ['nodeName', 'hostname'];

/** Reads the slice `namespace/name`; what is wrong is reported, and then the result is not to be used. */
export function readEndpointSlice(object: ObjectReader, namespace: string, name: string): EndpointSlice {
  const { labels, annotations } = readMetadata(object, Object.values(ANNOTATION));
  object.take('apiVersion');
  object.take('kind');
  const type = object.string('addressType', undefined, true);
  const slice = {
    kind: 'EndpointSlice',
    namespace,
    name,
    labels,
    place: object.place,
    service: labels[SERVICE_NAME_LABEL],
    mesh: readMeshAnnotations(annotations),
    weight: readWeight(annotations),
    ports: readWorkloadPorts(object.objects('ports')),
  } as const;
  if (type === 'FQDN')
    object.warn('addressType', 'FQDN is not honoured by this version: its endpoints are left out');
  else if (type !== undefined && type !== 'IPv4' && type !== 'IPv6') {
    object.mistake('addressType', `must be IPv4 or IPv6, is ${JSON.stringify(type)}`);
  }
  const family = type === 'IPv4' ? 4 : type === 'IPv6' ? 6 : undefined;
  const readers = object.objects('endpoints');
  object.unhonoured(INERT_TOP);
  const endpoints =
    family === undefined ? [] : readers.map((reader) => readEndpoint(reader, family, namespace));
  return { ...slice, endpoints };
}

function readEndpoint(reader: ObjectReader, family: 4 | 6, namespace: string): SliceEndpoint {
  const texts = reader.strings('addresses', (text) => {
    const wrong = ipAddress(text);
    if (wrong !== undefined) return wrong;
    return parseIp(text)?.family === family
      ? undefined
      : `must be an IPv${family} address as addressType says`;
  });
  const raw = reader.take('addresses');
  if (raw === undefined || (Array.isArray(raw) && raw.length === 0))
    reader.mistake('addresses', 'is required');
  const conditions = reader.object('conditions');
  // Absent conditions: EndpointConditions in discovery.k8s.io/v1 says ready, serving as ready, not
  // terminating.
  const ready = conditions?.boolean('ready') ?? true;
  const endpoint = {
    addresses: toAddresses(texts),
    ready,
    serving: conditions?.boolean('serving') ?? ready,
    terminating: conditions?.boolean('terminating') ?? false,
    zone: reader.string('zone') || undefined,
    forZones: readHints(reader),
    target: readTarget(reader, namespace),
    place: reader.place,
  };
  conditions?.unhonoured();
  reader.unhonoured(INERT_ENDPOINT);
  return endpoint;
}

/** `hints.forZones`; a hint for nodes says nothing that a zone could. */
function readHints(reader: ObjectReader): readonly string[] | undefined {
  const hints = reader.object('hints');
  const zones: string[] = [];
  for (const entry of hints?.objects('forZones') ?? []) {
    const name = entry.string('name', undefined, true);
    if (name !== undefined) zones.push(name);
    entry.unhonoured();
  }
  hints?.unhonoured();
  return zones.length > 0 ? zones : undefined;
}

function readTarget(reader: ObjectReader, namespace: string): ObjectReference | undefined {
  const target = reader.object('targetRef');
  if (target === undefined) return undefined;
  const reference = {
    kind: target.string('kind', undefined, true) ?? '',
    name: target.string('name', undefined, true) ?? '',
    namespace: target.string('namespace') ?? namespace,
  };
  target.unhonoured(['apiVersion', 'uid', 'resourceVersion']);
  return reference;
}
