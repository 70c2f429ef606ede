import t from 'tap';
import { compile } from '../../proxy/resources/compile.ts';
import { hostsLines } from '../../proxy/resources/hosts.ts';
import { loadResources } from '../../proxy/resources/load.ts';
import type { Resource } from '../../proxy/resources/types.ts';

async function load(text: string, file = 'mesh.yaml'): Promise<readonly Resource[]> {
  const { resources, mistakes } = await loadResources(text, file);
  if (mistakes.length > 0) throw new Error(mistakes.join('\n'));
  return resources;
}

const service = (name: string, spec: string): string =>
  `---\napiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\nspec: { ${spec} }\n`;

interface SliceText {
  readonly name?: string;
  readonly type?: string;
  readonly annotations?: string;
  readonly ports?: string;
}

const slice = (of: string, endpoints: string, options: SliceText = {}): string => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${options.name ?? `${of}-1`}
  labels: { kubernetes.io/service-name: ${of} }
  annotations: { ${options.annotations ?? ''} }
addressType: ${options.type ?? 'IPv4'}
ports: [ ${options.ports ?? '{ port: 8080 }'} ]
endpoints: [ ${endpoints} ]
`;

const workload = (name: string, ip: string, rest = ''): string => `---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: { name: ${name}, labels: { app: web } }
spec:
  meshTLS: { identity: "spiffe://root.example/${name}", serverName: ${name}.example }
  workloadIPs: [ { ip: "${ip}" } ]
  ports: [ { name: http, port: 8080 } ]
${rest}`;

const NOT_READY = 'conditions: { ready: false }';
const LEAVING = 'conditions: { ready: false, serving: true, terminating: true }';

/** The endpoints of a look-up as text. */
function endpointsOf(resources: readonly Resource[], target: string): string[] {
  const answer = compile(resources).lookup(target);
  if (answer.kind !== 'service') throw new Error(`${target} is ${answer.kind}`);
  return answer.endpoints.map(({ ip, port }) => `${ip} ${port}`);
}

t.test('a service is found by its address and by every form of its name', async (t) => {
  const resources = await load(
    service('web', 'clusterIP: 10.96.0.10, ports: [ { name: http, port: 80, targetPort: 8080 } ]') +
      slice('web', '{ addresses: [ 10.0.0.2 ], zone: a, targetRef: { kind: Pod, name: web-0 } }', {
        ports: '{ name: http, port: 8080 }',
        annotations: 'ferrule.dev/weight: "2"',
      }),
  );
  const targets = compile(resources);
  t.same(targets.warnings, []);
  const answer = targets.lookup('10.96.0.10:80');
  t.same(answer, {
    kind: 'service',
    name: 'web.default:80',
    labels: { dst_service: 'web', dst_namespace: 'default' },
    endpoints: [
      {
        ip: '10.0.0.2',
        port: 8080,
        weight: 2,
        labels: { dst_namespace: 'default', dst_pod: 'web-0', dst_zone: 'a' },
        zones: ['a'],
      },
    ],
  });
  for (const name of [
    'web.default',
    'web',
    'web.default.svc',
    'web.default.svc.cluster.local',
    'WEB.default.svc.',
  ]) {
    t.equal(targets.lookup(`${name}:80`), answer, name);
    t.equal(targets.lookup(`${name}:http`), answer, `${name} by port name`);
  }
  t.equal(targets.lookup('[::ffff:10.96.0.10]:80'), answer, 'a mapped address is the IPv4 address');
  for (const other of [
    '10.96.0.10:81',
    'web.other:80',
    'web.default.pod:80',
    'web.default:8080',
    'web',
    ':80',
    '',
  ]) {
    t.equal(targets.lookup(other).kind, 'unknown', JSON.stringify(other));
  }
  t.equal(compile(resources, { namespace: 'shop' }).lookup('web:80').kind, 'unknown');
  const frozen = (value: unknown): boolean =>
    typeof value !== 'object' ||
    value === null ||
    (Object.isFrozen(value) && Object.values(value).every(frozen));
  t.ok(frozen(answer), 'frozen to the bottom');
});

t.test('endpoints have the zones of their hints, else their own; services have their policy', async (t) => {
  const resources = await load(
    service('web', 'clusterIP: 10.96.0.10, ports: [ { port: 80 } ]').replace(
      /name: web\b/,
      'name: web, annotations: { linkerd.io/load-balancer: round-robin }',
    ) +
      slice(
        'web',
        '{ addresses: [ 10.0.0.1 ], zone: a, hints: { forZones: [ { name: b }, { name: c } ] } }, ' +
          '{ addresses: [ 10.0.0.2 ], zone: a }, { addresses: [ 10.0.0.3 ], zone: "" }, ' +
          '{ addresses: [ 10.0.0.4 ], targetRef: { kind: ExternalWorkload, name: vm } }',
      ) +
      workload('vm', '10.0.0.4').replace('app: web', 'app: web, topology.kubernetes.io/zone: z'),
  );
  const answer = compile(resources).lookup('web:80');
  t.match(answer, { kind: 'service', balance: 'round-robin' });
  const zones = answer.kind === 'service' ? answer.endpoints.map((endpoint) => endpoint.zones) : [];
  t.same(zones, [['b', 'c'], ['a'], undefined, ['z']]);
});

t.test('appProtocol: a service has the last word, a slice the first', async (t) => {
  const port = (appProtocol: string) => `{ port: 80, appProtocol: "${appProtocol}" }`;
  const protocolsOf = async (ofService: string, ofSlice: string) => {
    const slices = slice('web', '{ addresses: [ 10.0.0.2 ] }', { ports: port(ofSlice) });
    const targets = compile(await load(service('web', `ports: [ ${port(ofService)} ]`) + slices));
    const [target, endpoint] = [targets.lookup('web:80'), targets.lookup('10.0.0.2:80')];
    if (target.kind !== 'service' || endpoint.kind !== 'endpoint') throw new Error('they are there');
    return [target.endpoints[0].protocol, endpoint.endpoint.protocol];
  };
  for (const name of ['http', 'http/1.1', 'kubernetes.io/ws'])
    t.strictSame(await protocolsOf(name, 'grpc'), ['http1', 'http2'], name);
  for (const name of ['kubernetes.io/h2c', 'kubernetes.io/grpc', 'h2c', 'http2', 'grpc'])
    t.strictSame(await protocolsOf(name, 'http'), ['http2', 'http1'], name);
  t.strictSame(await protocolsOf('', 'grpc'), ['http2', 'http2'], 'the service says nothing');
  t.strictSame(await protocolsOf('https', 'mysql'), [undefined, undefined], 'no HTTP in cleartext');
});

t.test('ports are matched by name, as Kubernetes does', async (t) => {
  const resources = await load(
    service(
      'web',
      'clusterIP: 10.96.0.10, ports: [ { name: http, port: 80, targetPort: web }, { name: admin, port: 81 } ]',
    ) +
      slice('web', '{ addresses: [ 10.0.0.1 ] }', {
        ports: '{ name: http, port: 8080 }, { name: admin, port: 9000 }',
      }) +
      slice('web', '{ addresses: [ 10.0.0.2 ] }', { name: 'web-2', ports: '{ name: http, port: 8181 }' }),
  );
  t.same(endpointsOf(resources, '10.96.0.10:80'), ['10.0.0.1 8080', '10.0.0.2 8181']);
  t.same(endpointsOf(resources, '10.96.0.10:81'), ['10.0.0.1 9000']);

  const misnamed = compile(
    await load(
      service('web', 'ports: [ { port: 80, targetPort: 8080 } ]') +
        slice('web', '{ addresses: [ 10.0.0.1 ] }', { ports: '{ name: http, port: 8080 }' }),
    ),
  );
  t.match(misnamed.warnings, [
    /port 80 has no endpoints: .* no port without a name, but http; names must be equal/,
  ]);
});

t.test('who is ready serves; who is leaving serves when nobody else does', async (t) => {
  const web = service('web', 'clusterIP: 10.96.0.10, ports: [ { port: 80, targetPort: 8080 } ]');
  const ready = '{ addresses: [ 10.0.0.1 ] }';
  const notReady = `{ addresses: [ 10.0.0.2 ], ${NOT_READY} }`;
  const leaving = `{ addresses: [ 10.0.0.3 ], ${LEAVING} }`;
  const of = async (...endpoints: string[]) =>
    endpointsOf(await load(web + slice('web', endpoints.join(', '))), '10.96.0.10:80');
  t.same(await of(ready, notReady, leaving), ['10.0.0.1 8080']);
  t.same(await of(notReady, leaving), ['10.0.0.3 8080']);
  t.same(await of(notReady), []);
  t.same(await of(), []);
  const resources = await load(web + slice('web', notReady));
  t.equal(
    compile(resources).lookup('10.0.0.2:8080').kind,
    'endpoint',
    'by its own address it is still known',
  );
});

t.test('headless services are found by name only, several slices are merged', async (t) => {
  const resources = await load(
    service('db', 'clusterIP: None, ports: [ { port: 5432 } ]') +
      slice('db', '{ addresses: [ 10.0.0.9, 10.0.0.10 ] }', { ports: '{ port: 5432 }' }) +
      slice('db', `{ addresses: [ 10.0.0.10 ], ${NOT_READY} }, { addresses: [ 10.0.0.11 ] }`, {
        name: 'db-2',
        ports: '{ port: 5432 }',
      }),
  );
  t.same(endpointsOf(resources, 'db.default:5432'), ['10.0.0.10 5432', '10.0.0.11 5432', '10.0.0.9 5432']);
  t.same(hostsLines(resources), [], 'and have no address for a hosts file');
});

t.test('dual stack: each family gets its own endpoints', async (t) => {
  const resources = await load(
    service('web', 'clusterIPs: [ "fd00::10", 10.96.0.10 ], ports: [ { port: 80 } ]') +
      slice('web', '{ addresses: [ 10.0.0.1 ] }') +
      slice('web', '{ addresses: [ "fd00::1" ] }', { name: 'web-6', type: 'IPv6' }) +
      service('old', 'clusterIPs: [ "fd00::11" ], ports: [ { port: 80 } ]') +
      slice('old', '{ addresses: [ 10.0.0.2 ] }'),
  );
  t.same(endpointsOf(resources, '10.96.0.10:80'), ['10.0.0.1 8080']);
  t.same(endpointsOf(resources, '[fd00::10]:80'), ['fd00::1 8080']);
  t.same(endpointsOf(resources, 'web.default:80'), ['fd00::1 8080'], 'by name the first family');
  t.same(endpointsOf(resources, '[fd00::11]:80'), ['10.0.0.2 8080'], 'without one of the family the other');
  t.match(compile(resources).lookup('[fd00::1]:8080'), { kind: 'endpoint', endpoint: { ip: 'fd00::1' } });
});

t.test('two services with one address are a conflict that names both', async (t) => {
  const resources = await load(
    service('web', 'clusterIP: 10.96.0.10, ports: [ { port: 80 }]') +
      service('api', 'clusterIP: 10.96.0.10, ports: [ { port: 80 } ]') +
      service('other', 'clusterIP: 10.96.0.10, ports: [ { port: 81 } ]') +
      slice('other', '{ addresses: [ 10.0.0.1 ] }') +
      service('twin', 'clusterIP: 10.96.0.11, ports: [ { port: 81 } ]') +
      slice('twin', '{ addresses: [ 10.0.0.1 ] }'),
  );
  const targets = compile(resources);
  t.same(targets.lookup('10.96.0.10:80'), { kind: 'conflict', services: ['api.default', 'web.default'] });
  t.match(
    targets.warnings.filter((text) => text.includes('has the address')),
    [
      /^mesh.yaml:2: Service default\/web has the address 10.96.0.10:80 of Service default\/api \(mesh.yaml:7\)/,
    ],
  );
  t.equal(targets.lookup('web.default:80').kind, 'service', 'by name they are apart');
  t.equal(targets.lookup('10.96.0.10:81').kind, 'service', 'another port of the address is free');
  t.equal(targets.lookup('10.0.0.1:8080').kind, 'endpoint', 'services may share endpoints');
});

t.test('an address with an identity is never without it', async (t) => {
  const resources = await load(
    slice('web', '{ addresses: [ 10.0.0.1 ] }', {
      annotations: '"ferrule.dev/identity": web.shop.serviceaccount.identity.linkerd.cluster.local',
    }) +
      service('metrics', 'clusterIP: 10.96.0.20, ports: [ { port: 90 } ]') +
      slice('metrics', '{ addresses: [ 10.0.0.1 ] }, { addresses: [ 10.0.0.5 ] }', {
        ports: '{ port: 9090 }',
      }),
  );
  const targets = compile(resources);
  const identity = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
  t.match(targets.lookup('10.0.0.1:8080'), {
    endpoint: { identity, serverName: identity, labels: { dst_serviceaccount: 'web' } },
  });
  t.match(
    targets.lookup('10.0.0.1:22'),
    { kind: 'endpoint', endpoint: { port: 22, identity } },
    'a port not listed',
  );
  t.match(targets.lookup('10.0.0.1:9090'), { endpoint: { identity } }, 'a port listed by another slice');
  t.match(targets.lookup('10.96.0.20:90'), { endpoints: [{ ip: '10.0.0.1', identity }, { ip: '10.0.0.5' }] });
  t.notMatch(targets.lookup('10.0.0.5:9090'), { endpoint: { identity: /./ } });
  t.equal(
    targets.lookup('10.0.0.5:22').kind,
    'unknown',
    'an address without an identity is known by its ports only',
  );
});

t.test('external workloads: through targetRef and through the selector', async (t) => {
  const web = service(
    'web',
    'clusterIP: 10.96.0.10, selector: { app: web }, ' +
      'ports: [ { name: http, port: 80, targetPort: http }, { name: raw, port: 81, targetPort: 7000 } ]',
  );
  const down = 'status: { conditions: [ { type: Ready, status: "False" } ] }\n';
  const vms = workload('vm-a', '192.0.2.1') + workload('vm-b', '192.0.2.2', down);
  const selected = await load(web + vms);
  t.same(endpointsOf(selected, '10.96.0.10:80'), ['192.0.2.1 8080'], 'named target port');
  t.same(endpointsOf(selected, '10.96.0.10:81'), ['192.0.2.1 7000']);
  t.match(compile(selected).lookup('192.0.2.2:5000'), {
    kind: 'endpoint',
    endpoint: {
      identity: 'spiffe://root.example/vm-b',
      serverName: 'vm-b.example',
      labels: { dst_external_workload: 'vm-b' },
    },
  });

  const bound = await load(
    web +
      vms +
      slice('web', '{ addresses: [ 192.0.2.2 ], targetRef: { kind: ExternalWorkload, name: vm-b } }', {
        ports: '{ name: http, port: 8080 }',
        annotations: '"ferrule.dev/identity": other.example',
      }),
  );
  t.same(endpointsOf(bound, '10.96.0.10:80'), ['192.0.2.2 8080'], 'a slice says who is behind the service');
  t.match(
    compile(bound).lookup('10.96.0.10:80'),
    { endpoints: [{ identity: 'spiffe://root.example/vm-b' }] },
    'the workload speaks for itself',
  );

  const dangling = compile(
    await load(
      web +
        slice('web', '{ addresses: [ 192.0.2.3 ], targetRef: { kind: ExternalWorkload, name: gone } }', {
          ports: '{ name: http, port: 8080 }',
        }) +
        slice('other', '{ addresses: [ 192.0.2.3 ] }', { ports: '{ port: 9000 }' }),
    ),
  );
  t.ok(dangling.warnings.some((text) => /endpoint left out: .* ExternalWorkload default\/gone/.test(text)));
  for (const target of ['10.96.0.10:80', '192.0.2.3:8080', '192.0.2.3:9000', '192.0.2.3:22']) {
    t.match(
      dangling.lookup(target),
      { kind: 'service', endpoints: [] },
      `${target}: nobody is dialled whose identity is not known`,
    );
  }
});

t.test('an unchanged target stays the same object', async (t) => {
  const web =
    service('web', 'clusterIP: 10.96.0.10, ports: [ { port: 80 } ]') +
    slice('web', '{ addresses: [ 10.0.0.1 ] }');
  const api = service('api', 'clusterIP: 10.96.0.11, ports: [ { port: 80 } ]');
  const before = compile(await load(web + api + slice('api', '{ addresses: [ 10.0.0.2 ] }')));
  const after = compile(await load(api + slice('api', '{ addresses: [ 10.0.0.3 ] }') + web), {
    previous: before,
  });
  t.equal(after.lookup('10.96.0.10:80'), before.lookup('10.96.0.10:80'));
  t.equal(after.lookup('10.0.0.1:8080'), before.lookup('10.0.0.1:8080'));
  t.not(after.lookup('10.96.0.11:80'), before.lookup('10.96.0.11:80'));
  t.match(after.lookup('10.96.0.11:80'), { endpoints: [{ ip: '10.0.0.3' }] });
});

t.test('of two resources with one name the first by place holds', async (t) => {
  const late = await load(service('web', 'clusterIP: 10.96.0.11, ports: [ { port: 80 } ]'), 'b.yaml');
  const early = await load(service('web', 'clusterIP: 10.96.0.10, ports: [ { port: 80 } ]'), 'a.yaml');
  const targets = compile([...late, ...early]);
  t.equal(targets.lookup('10.96.0.10:80').kind, 'service');
  t.equal(targets.lookup('10.96.0.11:80').kind, 'unknown');
  t.match(targets.warnings[0], /^b.yaml:2: Service default\/web is defined twice; the one at a.yaml:2 holds/);
});

t.test('lines for a hosts file', async (t) => {
  const resources = await load(
    service('web', 'clusterIPs: [ 10.96.0.10, "fd00::10" ], ports: [ { port: 80 } ]') +
      service('api', 'clusterIP: 10.96.0.11, ports: [ { port: 80 } ]').replace(
        'name: api',
        'name: api, namespace: shop',
      ),
  );
  t.same(hostsLines(resources), [
    '10.96.0.11 api.shop.svc.cluster.local api.shop',
    '10.96.0.10 web.default.svc.cluster.local web.default web',
    'fd00::10 web.default.svc.cluster.local web.default web',
  ]);
  t.match(hostsLines(resources, 'shop')[0], / api.shop api$/);
});
