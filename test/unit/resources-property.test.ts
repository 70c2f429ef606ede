import fc from 'fast-check';
import t from 'tap';
import { parseIp } from '../../proxy/core/address.ts';
import type { TargetSnapshot } from '../../proxy/model/target.ts';
import { compile } from '../../proxy/resources/compile.ts';
import { loadResources } from '../../proxy/resources/load.ts';
import type { EndpointSlice, ExternalWorkload, Resource, Service } from '../../proxy/resources/types.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 5_000 : 500 };

/** Few of each, so that names, addresses and ports meet often. */
const ip = fc.integer({ min: 1, max: 6 }).map((n) => parseIp(`10.0.0.${n}`)!);
const port = fc.integer({ min: 8080, max: 8082 });
const portName = fc.constantFrom('', 'http', 'admin');
const namespace = fc.constantFrom('default', 'shop');
const serviceName = fc.constantFrom('web', 'api');
const protocol = fc.constantFrom(undefined, 'http1' as const, 'http2' as const);
const mesh = fc.option(
  fc
    .constantFrom('a.example', 'b.example')
    .map((name) => ({ identity: name, serverName: name, proxyPort: undefined })),
  { nil: undefined },
);

const service: fc.Arbitrary<Service> = fc
  .record({
    namespace,
    name: serviceName,
    clusterIps: fc.uniqueArray(
      fc.integer({ min: 1, max: 3 }).map((n) => parseIp(`10.96.0.${n}`)!),
      {
        selector: String,
        maxLength: 2,
      },
    ),
    ports: fc.uniqueArray(fc.record({ name: portName, port, targetPort: port, protocol }), {
      selector: (p) => p.port,
      maxLength: 2,
    }),
  })
  .map((rest) => ({
    ...rest,
    kind: 'Service',
    labels: {},
    place: 'x:1',
    family: 4,
    selector: { app: 'vm' },
    publishNotReady: false,
    balance: undefined,
  }));

const slice: fc.Arbitrary<EndpointSlice> = fc
  .record({
    namespace,
    name: fc.constantFrom('s1', 's2', 's3', 's4'),
    service: fc.option(serviceName, { nil: undefined }),
    mesh,
    weight: fc.option(fc.constantFrom(0.5, 2), { nil: undefined }),
    ports: fc.array(fc.record({ name: portName, port, protocol }), { maxLength: 2 }),
    endpoints: fc.array(
      fc.record({
        addresses: fc.uniqueArray(ip, { selector: String, minLength: 1, maxLength: 2 }),
        ready: fc.boolean(),
        serving: fc.boolean(),
        terminating: fc.boolean(),
        zone: fc.option(fc.constantFrom('a', 'b'), { nil: undefined }),
        forZones: fc.option(fc.constantFrom(['a'], ['b', 'c']), { nil: undefined }),
        target: fc.constant(undefined),
        place: fc.constant('x:3'),
      }),
      { maxLength: 4 },
    ),
  })
  .map((rest) => ({ ...rest, kind: 'EndpointSlice', labels: {}, place: 'x:2' }));

const workload: fc.Arbitrary<ExternalWorkload> = fc
  .record({
    namespace,
    name: fc.constantFrom('vm1', 'vm2'),
    addresses: fc.tuple(ip),
    ready: fc.boolean(),
    ports: fc.array(fc.record({ name: portName, port, protocol }), { maxLength: 2 }),
  })
  .map((rest) => ({
    ...rest,
    kind: 'ExternalWorkload',
    labels: { app: 'vm' },
    place: 'x:4',
    weight: undefined,
    mesh: { identity: `${rest.name}.example`, serverName: `${rest.name}.example`, proxyPort: undefined },
  }));

const identify = (resource: Resource): string => `${resource.kind} ${resource.namespace}/${resource.name}`;
const resources: fc.Arbitrary<Resource[]> = fc.uniqueArray(fc.oneof(service, slice, workload), {
  selector: identify,
  maxLength: 10,
});

/** Every address and name that the resources of this file can form. */
const TARGETS: readonly string[] = [8080, 8081, 8082, 9].flatMap((p) => [
  ...[1, 2, 3, 4, 5, 6].map((n) => `10.0.0.${n}:${p}`),
  ...[1, 2, 3].map((n) => `10.96.0.${n}:${p}`),
  ...['web.default', 'web.shop', 'api.default', 'api.shop'].map((name) => `${name}:${p}`),
]);

/** Addresses and ports the slices and workloads of a service's namespace offer it, by readiness. */
function offers(
  all: readonly Resource[],
  of: Service,
  number: number,
): { ready: Set<string>; leaving: Set<string> } {
  const ready = new Set<string>();
  const leaving = new Set<string>();
  const wanted = of.ports.find((p) => p.port === number)!;
  const local = all.filter((resource) => resource.namespace === of.namespace);
  const bound = local.filter((resource) => resource.kind === 'EndpointSlice' && resource.service === of.name);
  for (const resource of bound as EndpointSlice[]) {
    for (const endpoint of resource.endpoints) {
      for (const address of endpoint.addresses) {
        for (const p of resource.ports) {
          if (p.name !== wanted.name) continue;
          if (endpoint.ready) ready.add(`${address.ip}:${p.port}`);
          else if (endpoint.serving && endpoint.terminating) leaving.add(`${address.ip}:${p.port}`);
        }
      }
    }
  }
  if (bound.length > 0) return { ready, leaving };
  for (const resource of local) {
    if (resource.kind === 'ExternalWorkload' && resource.ready) {
      ready.add(`${resource.addresses[0].ip}:${wanted.targetPort}`);
    }
  }
  return { ready, leaving };
}

/** IPs that something gives an identity. */
function meshedIps(all: readonly Resource[]): Set<string> {
  const ips = new Set<string>();
  for (const resource of all) {
    if (resource.kind === 'ExternalWorkload') ips.add(resource.addresses[0].ip);
    if (resource.kind !== 'EndpointSlice' || resource.mesh === undefined) continue;
    for (const { addresses } of resource.endpoints) for (const { ip } of addresses) ips.add(ip);
  }
  return ips;
}

const endpointsOf = (answer: TargetSnapshot) =>
  answer.kind === 'service' ? answer.endpoints : answer.kind === 'endpoint' ? [answer.endpoint] : [];

t.test('a service has exactly the endpoints that are ready, each once', async (t) => {
  fc.assert(
    fc.property(resources, (all) => {
      const targets = compile(all);
      for (const of of all.filter((resource) => resource.kind === 'Service')) {
        for (const { port: number } of of.ports) {
          const answer = targets.lookup(`${of.name}.${of.namespace}:${number}`);
          if (answer.kind !== 'service') return false;
          const got = answer.endpoints.map((endpoint) => `${endpoint.ip}:${endpoint.port}`);
          const { ready, leaving } = offers(all, of, number);
          const expected = [...(ready.size > 0 ? ready : leaving)].sort();
          if (got.length !== new Set(got).size || got.sort().join() !== expected.join()) return false;
        }
      }
      return true;
    }),
    RUNS,
  );
  t.pass(`${RUNS.numRuns} sets of resources`);
});

t.test('an address with an identity is never answered without one', async (t) => {
  fc.assert(
    fc.property(resources, (all) => {
      const targets = compile(all);
      const meshed = meshedIps(all);
      for (const target of TARGETS) {
        const answer = targets.lookup(target);
        if (answer.kind === 'unknown' && meshed.has(target.split(':')[0])) return false;
        for (const endpoint of endpointsOf(answer)) {
          if (meshed.has(endpoint.ip) !== (endpoint.identity !== undefined)) return false;
          if (!(endpoint.weight > 0)) return false;
        }
      }
      return true;
    }),
    RUNS,
  );
  t.pass(`${RUNS.numRuns} sets of resources`);
});

t.test('the order of documents does not matter, and what did not change stays the same object', async (t) => {
  fc.assert(
    fc.property(
      resources.chain((all) =>
        fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })),
      ),
      ([all, shuffled]) => {
        const before = compile(all);
        const after = compile(shuffled, { previous: before });
        const fresh = compile(shuffled);
        return TARGETS.every((target) => {
          const answer = before.lookup(target);
          const stored = before.stored(target) === undefined || after.lookup(target) === answer;
          return stored && JSON.stringify(fresh.lookup(target)) === JSON.stringify(answer);
        });
      },
    ),
    RUNS,
  );
  t.pass(`${RUNS.numRuns} sets of resources`);
});

t.test('no text crashes the loader, and mutilated resources are read or reported', async (t) => {
  const whole =
    'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: a, labels: { b: c } }\n' +
    'addressType: IPv4\nendpoints:\n- addresses: [ 10.0.0.1 ]\n  conditions: { ready: true }\nports: [ { port: 80 } ]\n';
  const values = fc.constantFrom<unknown>(null, 3, 'x', [], {}, [null], [[]], [{}], { a: 1 }, true, -1, 1e99);
  const edit = fc.record({
    at: fc.nat(whole.length),
    cut: fc.nat(30),
    put: fc.string({ unit: 'binary', maxLength: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(edit, async ({ at, cut, put }) => {
      await loadResources(whole.slice(0, at) + put + whole.slice(at + cut), 'x.yaml');
    }),
    RUNS,
  );
  const fields = ['metadata', 'spec', 'addressType', 'endpoints', 'ports', 'status'];
  const kinds = fc.constantFrom(
    ['v1', 'Service'],
    ['discovery.k8s.io/v1', 'EndpointSlice'],
    ['workload.linkerd.io/v1beta1', 'ExternalWorkload'],
  );
  await fc.assert(
    fc.asyncProperty(
      kinds,
      fc.dictionary(fc.constantFrom(...fields), values),
      async ([apiVersion, kind], rest) => {
        const object = { apiVersion, kind, metadata: { name: 'a' }, ...rest };
        const { resources: loaded, mistakes } = await loadResources(JSON.stringify(object), 'x.json');
        if (mistakes.length === 0 && loaded.length !== 1) throw new Error('neither read nor reported');
        compile(loaded);
      },
    ),
    RUNS,
  );
  t.pass(`${2 * RUNS.numRuns} texts`);
});
