import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { loadResources } from '../../proxy/resources/load.ts';
import type { EndpointSlice, ExternalWorkload, Service } from '../../proxy/resources/types.ts';

const FIXTURES = new URL('../fixtures/resources/', import.meta.url);

const fixture = (name: string) => loadResources(readFileSync(new URL(name, FIXTURES), 'utf8'), name);

t.test('resources found in the wild load as they are', async (t) => {
  const names = readdirSync(FIXTURES).filter((name) => name.endsWith('.yaml'));
  t.ok(names.length >= 40, 'the fixtures are there');
  for (const name of names) {
    const { resources, mistakes, warnings, unused } = await fixture(name);
    t.same(mistakes, [], `${name} is usable`);
    const seen = resources.length + warnings.length + unused.size;
    t.ok(seen > 0, `${name}: everything in it is used, counted or warned of`);
    for (const warning of warnings) t.match(warning, new RegExp(`^${name}:\\d+: `));
  }
});

t.test('what has no effect is named', async (t) => {
  const retries = await fixture('23-service.yaml');
  t.equal(retries.resources.length, 1);
  t.same(
    retries.warnings.map((text) => text.slice(0, text.indexOf(' is not'))),
    ['retry-name', 'retry-on', 'retry-max', 'timeout'].map(
      (name, index) =>
        `23-service.yaml:${6 + index}: Service default/my-service: metadata.annotations["linkerd.io/${name}"]`,
    ),
  );
  const server = await fixture('06-server-serverauthorization.yaml');
  t.same(
    [...server.unused],
    [
      ['Server', 1],
      ['ServerAuthorization', 1],
    ],
  );
  const canary = await fixture('12-canary.yaml');
  t.same(canary.warnings, ['12-canary.yaml:1: unknown kind Canary (flagger.app/v1beta1), left out']);
  t.match((await fixture('19-fragment.yaml')).warnings, [/neither apiVersion nor kind/]);
  t.match((await fixture('10-fragment.yaml')).warnings, [/^10-fragment.yaml:7: not valid YAML/]);
});

t.test('the policy of a service is read, and an unknown one is named', async (t) => {
  const [ewma] = (await fixture('03-service.yaml')).resources as Service[];
  t.equal(ewma.balance, 'ewma');
  const annotated = (value: string) =>
    loadResources(
      `apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n    linkerd.io/load-balancer: ${value}\n` +
        'spec: { ports: [ { port: 80 } ], trafficDistribution: PreferClose }\n',
      'web.yaml',
    );
  for (const [value, policy] of [
    ['round-robin', 'round-robin'],
    ['least-request', 'least-request'],
    ['p2c', 'least-request'],
  ]) {
    const { resources, warnings, mistakes } = await annotated(value);
    t.equal((resources[0] as Service).balance, policy);
    t.same([...warnings, ...mistakes], []);
  }
  const { resources, warnings, mistakes } = await annotated('fastest');
  t.equal((resources[0] as Service).balance, undefined);
  t.same(mistakes, [], 'the service stays usable');
  t.same(warnings, [
    'web.yaml:6: Service default/web: metadata.annotations["linkerd.io/load-balancer"] must be one of ewma, ' +
      'least-request, p2c, round-robin, is "fastest": ewma is used',
  ]);
});

t.test('every mistake of a file is reported with its line', async (t) => {
  const text = `apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  clusterIP: 10.0.0.300
  ports:
  - port: 99999
    targetPort: "80"
  - name: http
    port: "80"
    protocol: TPC
  - name: other
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  annotations:
    ferrule.dev/weight: "0"
    ferrule.dev/server-name: x
addressType: IPv4
endpoints:
- addresses: ["::1", "10.0.0.1"]
  conditions: { ready: "yes" }
- 7
- addresses: []
ports:
- port: 0
---
apiVersion: discovery.k8s.io/v1beta1
kind: EndpointSlice
metadata: { name: old }
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: { name: vm, namespace: Shop }
spec:
  meshTls: { identity: a.b, serverName: a.b }
  workloadIPs: [ { ip: 0.0.0.0 } ]
`;
  const { mistakes } = await loadResources(text, 'mesh.d/web.yaml');
  t.same(mistakes, [
    'mesh.d/web.yaml:5: Service default/web: spec.clusterIP must be an IP address or None, is "10.0.0.300"',
    'mesh.d/web.yaml:7: Service default/web: spec.ports[0].port must be 1 to 65535, is 99999',
    'mesh.d/web.yaml:8: Service default/web: spec.ports[0].targetPort must be a number or the name of a port, ' +
      'is "80": remove the quotes',
    'mesh.d/web.yaml:10: Service default/web: spec.ports[1].port must be 1 to 65535, is "80" (a string)',
    'mesh.d/web.yaml:11: Service default/web: spec.ports[1].protocol must be TCP, UDP or SCTP, is "TPC"',
    'mesh.d/web.yaml:12: Service default/web: spec.ports[2].port is required',
    'mesh.d/web.yaml:19: EndpointSlice default/web-1: metadata.annotations["ferrule.dev/weight"] must be above 0 ' +
      'and at most 1000, is "0"',
    'mesh.d/web.yaml:20: EndpointSlice default/web-1: metadata.annotations["ferrule.dev/server-name"] needs ' +
      'ferrule.dev/identity beside it',
    'mesh.d/web.yaml:23: EndpointSlice default/web-1: endpoints[0].addresses[0] must be an IPv4 address as ' +
      'addressType says, is "::1"',
    'mesh.d/web.yaml:24: EndpointSlice default/web-1: endpoints[0].conditions.ready must be true or false, is "yes"',
    'mesh.d/web.yaml:25: EndpointSlice default/web-1: endpoints[1] must be an object, is 7',
    'mesh.d/web.yaml:26: EndpointSlice default/web-1: endpoints[2].addresses is required',
    'mesh.d/web.yaml:28: EndpointSlice default/web-1: ports[0].port must be 1 to 65535, is 0',
    'mesh.d/web.yaml:30: EndpointSlice: apiVersion must be discovery.k8s.io/v1, is discovery.k8s.io/v1beta1',
    'mesh.d/web.yaml:36: ExternalWorkload: metadata.namespace must be 1 to 63 lower-case letters, digits and ' +
      'inner dashes, is "Shop"',
    'mesh.d/web.yaml:37: ExternalWorkload default/vm: spec.meshTLS is required',
    'mesh.d/web.yaml:39: ExternalWorkload default/vm: spec.workloadIPs[0].ip must be an IP address, is "0.0.0.0"',
  ]);
});

t.test('YAML that cannot be read is a mistake with its line, never a crash', async (t) => {
  const service = 'apiVersion: v1\nkind: Service\n';
  const cases: readonly [string, RegExp][] = [
    [`${service}metadata: { name: web\nspec:\n`, /^f.yaml:\d+: not valid YAML/],
    [`${service}kind: Service\n`, /^f.yaml:3: not valid YAML: Map keys must be unique/],
    [`${service}metadata: *nowhere\n`, /^f.yaml:1: not valid YAML: Unresolved alias/],
    [`${service}metadata: ${'['.repeat(50_000)}\n`, /^f.yaml.*(too deeply|not valid YAML)/],
    [`${service}metadata: [1]\nspec: 3\n`, /metadata must be an object, is \[1\]/],
    ['kind: Service\n', /^f.yaml:1: document: apiVersion is required/],
    ['apiVersion: v1\nkind: List\nitems: 3\n', /items must be a list/],
  ];
  for (const [text, message] of cases) {
    const { mistakes } = await loadResources(text, 'f.yaml');
    t.ok(mistakes.length > 0, JSON.stringify(text.slice(0, 60)));
    t.match(mistakes[0], message);
  }
  const rows = ['a: &a [x,x,x,x,x,x,x,x,x,x]'];
  for (let letter = 'b'.charCodeAt(0); letter < 'l'.charCodeAt(0); letter++) {
    const before = `*${String.fromCharCode(letter - 1)},`.repeat(10);
    rows.push(`${String.fromCharCode(letter)}: &${String.fromCharCode(letter)} [${before}]`);
  }
  const bomb = await loadResources(`${service}${rows.join('\n')}\n`, 'bomb.yaml');
  t.match(bomb.mistakes, [/bomb.yaml:1: not valid YAML: Excessive alias count/]);
});

t.test('JSON, lists and anchors', async (t) => {
  const json = JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'List',
      items: [
        { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec: { ports: [{ port: 80 }] } },
        { apiVersion: 'v1', kind: 'Service', metadata: { name: 'b' }, spec: { ports: [{ port: 0 }] } },
      ],
    },
    undefined,
    '\t',
  );
  const list = await loadResources(json, 'list.json');
  t.equal(list.resources.length, 2);
  t.match(list.mistakes, [
    /^list.json:28: Service default\/b: spec.ports\[0\].port must be 1 to 65535, is 0$/,
  ]);

  const anchored = await loadResources(
    'apiVersion: v1\nkind: Service\nmetadata: &m { name: a, namespace: shop }\nspec: { ports: [ { port: 80 } ] }\n' +
      '---\n# nothing\n---\napiVersion: v1\nkind: Service\nmetadata: { name: b }\nspec: { ports: &p [ { port: 81 } ] }\n',
    'a.yaml',
  );
  t.same(
    anchored.resources.map(({ namespace, name, place }) => [namespace, name, place]),
    [
      ['shop', 'a', 'a.yaml:1'],
      ['default', 'b', 'a.yaml:8'],
    ],
  );
  t.same((await loadResources('', 'e.yaml')).resources, []);
});

const EVERYTHING = `apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop, uid: x, labels: { a: b } }
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [ 10.96.0.10, "fd00::10" ]
  ipFamilies: [ IPv6, IPv4 ]
  ipFamilyPolicy: PreferDualStack
  publishNotReadyAddresses: true
  sessionAffinity: None
  internalTrafficPolicy: Cluster
  type: NodePort
  selector: { app: web }
  ports:
  - { name: http, port: 80, targetPort: http-alt, nodePort: 30080, appProtocol: http }
  - { name: dns, port: 53, protocol: UDP }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: shop
  labels: { kubernetes.io/service-name: web }
  annotations: { ferrule.dev/identity: "spiffe://example.org/ns/shop/sa/web", ferrule.dev/proxy-port: "4143" }
addressType: IPv6
endpoints:
- addresses: [ "fd00::1", "fd00:0::1" ]
  conditions: { ready: null, serving: true, terminating: false }
  hints: { forZones: [ { name: a } ] }
  nodeName: n
  zone: a
  targetRef: { kind: Pod, name: web-0, uid: x }
ports: [ { name: http, port: 8080, protocol: TCP } ]
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: { name: vm, namespace: shop, annotations: { ferrule.dev/weight: "2.5" } }
spec:
  meshTLS: { identity: "spiffe://root.example/vm", serverName: vm.example }
  workloadIPs: [ { ip: 192.0.2.1 } ]
  ports: [ { name: http, port: 8080 } ]
status: { conditions: [ { type: Ready, status: "False" } ] }
`;

t.test('a service, a slice and a workload with everything in them', async (t) => {
  const { resources, mistakes, warnings } = await loadResources(EVERYTHING, 'all.yaml');
  t.same(mistakes, []);
  t.same(
    warnings.map((text) => text.replace(/^all.yaml:(\d+): \S+ \S+: /, '$1 ')),
    [
      '12 spec.type NodePort: only its cluster IP is honoured',
      '16 spec.ports[1].protocol UDP is not proxied',
    ],
  );
  const [service, slice, workload] = resources as [Service, EndpointSlice, ExternalWorkload];
  t.same(service.clusterIps.map(String), ['10.96.0.10:0', '[fd00::10]:0']);
  t.equal(service.family, 6);
  t.ok(service.publishNotReady);
  t.same(service.ports, [{ name: 'http', port: 80, targetPort: 'http-alt', protocol: 'http1' }]);
  t.same(slice.mesh, {
    identity: 'spiffe://example.org/ns/shop/sa/web',
    serverName: 'web.shop.serviceaccount.identity.linkerd.example.org',
    proxyPort: 4143,
  });
  t.equal(slice.endpoints[0].addresses.length, 1, 'two spellings of one address are one');
  t.same(slice.ports, [{ name: 'http', port: 8080, protocol: undefined }]);
  t.match(slice.endpoints[0], { ready: true, serving: true, terminating: false, zone: 'a', forZones: ['a'] });
  t.match(workload, { ready: false, weight: 2.5, mesh: { serverName: 'vm.example' } });
});

t.test('identities are parsed strictly', async (t) => {
  const slice = (annotations: string) =>
    loadResources(
      `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: a, annotations: { ${annotations} } }\n` +
        'addressType: IPv4\n',
      'i.yaml',
    );
  const identity = (text: string) => slice(`ferrule.dev/identity: ${JSON.stringify(text)}`);
  const good = await identity('web.shop.serviceaccount.identity.linkerd.cluster.local');
  t.match(good.resources, [
    { mesh: { serverName: 'web.shop.serviceaccount.identity.linkerd.cluster.local' } },
  ]);
  for (const bad of [
    'spiffe://x',
    'spiffe://x/',
    'spiffe://x/a//b',
    'spiffe://x/../b',
    'spiffe://X/a',
    'a b',
    '',
  ]) {
    t.match((await identity(bad)).mistakes, [/ferrule.dev\/identity"\] must be /], bad);
  }
  t.match((await identity('spiffe://x/vm')).mistakes, [/needs ferrule.dev\/server-name beside it/]);
  t.match((await slice('ferrule.dev/proxy-port: "4143"')).mistakes, [
    /needs ferrule.dev\/identity beside it/,
  ]);
  const port = '"ferrule.dev/identity": a.b, "ferrule.dev/proxy-port": "0"';
  t.match((await slice(port)).mistakes, [/must be 1 to 65535, is "0"/]);
});
