import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { type ConfigInput, loadConfig } from '../../proxy/config/load.ts';
import { printDefaultConfig } from '../../proxy/config/print.ts';
import { EXIT, UserError } from '../../proxy/core/errors.ts';

const nothing = { env: {}, flags: {} };

/** The lines of the error for `yaml` without its title; the file is called F. */
async function mistakes(t: Test, yaml: string | Buffer, rest: Partial<ConfigInput> = {}): Promise<string[]> {
  const file = join(t.testdir(), 'ferrule.yaml');
  writeFileSync(file, yaml);
  return mistakesOf({ file, ...nothing, ...rest }).then((lines) =>
    lines.map((line) => line.replaceAll(/[^\s(]*ferrule\.yaml/g, 'F')),
  );
}

async function mistakesOf(input: ConfigInput): Promise<string[]> {
  try {
    await loadConfig(input);
  } catch (error) {
    if (!(error instanceof UserError) || error.exitCode !== EXIT.usage) throw error;
    return error.message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}

t.test('every mistake at once, each with its line and what is allowed', async (t) => {
  const lines = await mistakes(
    t,
    `workload: { namespace: Shop, zone: ~ }
workers: 65
identity:
  source: files
  certificate: tls.crt
discovery:
  - { source: dns, path: x }
  - { source: file }
  - mesh.d
outbound:
  lisen: 127.0.0.1:4140
  listen: [ 127.0.0.1:0, "::1:4140" ]
  discoveryTimeout: 3
  requireIdentity: yes
  listeners: { listen: 127.0.0.1:5000, service: payments:8080 }
inbound:
  listen:
  ports:
    - { listen: 0.0.0.0:18080, port: 0, polcy: deny }
admin: on
toString: x
listen: 127.0.0.1:4140
workers: 2
`,
    {
      env: { FERRULE_LOG_LEVEL: 'loud', FERRULE_INBOUND_PROTS: 'x' },
      flags: { 'shutdown-grace': '1d', wrokers: '2' },
    },
  );
  t.strictSame(lines, [
    'F:1: workload.namespace: must be a lower-case name of letters, digits and inner hyphens, at most 63 long, is "Shop"',
    'F:1: workload.zone: has no value: leave it out or give it one',
    'F:2: workers: must be auto or a number of 1 to 64, is "65"',
    'F:4: identity.key: is needed by identity.source: files',
    'F:4: identity.trustAnchors: is needed by identity.source: files',
    'F:7: discovery[0].source: "dns" is not in this version (it has file discovery only); allowed: file',
    'F:8: discovery[1].path: is missing',
    'F:9: discovery[2]: must be a map of source, path, is "mesh.d" (in text SOURCE:PATH)',
    'F:11: outbound: "lisen" is unknown; did you mean listen? Allowed here: listen, originalDst, requireIdentity, multiplex, unknown, ' +
      'opaquePorts, discoveryTimeout, listeners',
    'F:12: outbound.listen[0]: must be an address and port of 1 to 65535, such as 127.0.0.1:4140 or "[::1]:4140", ' +
      'is "127.0.0.1:0"',
    'F:12: outbound.listen[1]: must be an address and port of 1 to 65535, such as 127.0.0.1:4140 or "[::1]:4140", ' +
      'is "::1:4140"',
    'F:13: outbound.discoveryTimeout: must be a duration of 10ms to 10m, such as 500ms, 3s, 2m or 1h, is "3"',
    'F:14: outbound.requireIdentity: must be true or false, is "yes"',
    'F:15: outbound.listeners[0].service: must be name.namespace:port, such as payments.default:8080 or ' +
      'payments.default:http, is "payments:8080"',
    'F:17: inbound.listen: has no value: leave it out for the default, or write []',
    'F:19: inbound.ports[0]: "polcy" is unknown; did you mean policy? Allowed here: listen, port, policy',
    'F:19: inbound.ports[0].port: must be a port of 1 to 65535, is "0"',
    'F:20: admin: must be a map of listen, tokenFile',
    'F:21: "toString" is unknown. Allowed here: workload, trustDomain, identity, discovery, outbound, inbound, admin, ' +
      'workers, shutdown, log',
    'F:22: "listen" is unknown; it exists as outbound.listen, inbound.listen, admin.listen. Allowed here: workload, ' +
      'trustDomain, identity, discovery, outbound, inbound, admin, workers, shutdown, log',
    'F:23: "workers" is there twice, first at F:2',
    'FERRULE_LOG_LEVEL: log.level: must be one of off, error, warn, info, debug, is "loud"',
    'FERRULE_INBOUND_PROTS: there is no such setting; did you mean FERRULE_INBOUND_PORTS?',
    '--shutdown-grace: shutdown.grace: must be a duration of 0s to 24h, such as 500ms, 3s, 2m or 1h, is "1d"',
    '--wrokers: there is no such flag; did you mean --workers?',
  ]);
});

t.test('a mistake in the file is one even where a flag overrides it', async (t) => {
  t.match(await mistakes(t, 'workers: x', { flags: { workers: '2' } }), [/^F:1: workers: /]);
});

t.test('addresses that cannot both be bound', async (t) => {
  const clash = (yaml: string) => mistakes(t, yaml);
  t.strictSame(await clash('admin: { listen: 127.0.0.1:4143 }'), [
    'F:1: admin.listen[0]: 127.0.0.1:4143 is taken by inbound.listen (its default: 0.0.0.0:4143)',
  ]);
  t.strictSame(await clash('outbound:\n  listen: 127.0.0.1:4191'), [
    'F:2: outbound.listen[0]: 127.0.0.1:4191 is taken by admin.listen (its default: 0.0.0.0:4191)',
  ]);
  t.strictSame(
    await clash(
      'inbound:\n  ports:\n  - { listen: 10.0.0.1:80, port: 81 }\n  - { listen: 10.0.0.1:80, port: 82 }',
    ),
    ['F:4: inbound.ports[1].listen: 10.0.0.1:80 is taken by inbound.ports (F:3: 10.0.0.1:80)'],
  );
  t.strictSame(await clash('admin: { listen: [ 127.0.0.1:0, 127.0.0.1:0 ] }'), [], 'port 0 is any free one');
  t.strictSame(await clash('admin: { listen: [ 127.0.0.1:90, 127.0.0.2:90, "[::1]:90" ] }'), []);
});

t.test('an explicit port must not lead back into the proxy', async (t) => {
  t.strictSame(await mistakes(t, 'inbound:\n  ports: { listen: 0.0.0.0:18080, port: 4191 }'), [
    "F:2: inbound.ports[0].port: must be the application's port; 4191 is the proxy's own (admin.listen)",
  ]);
  t.strictSame(await mistakes(t, 'inbound:\n  ports: { listen: 10.0.0.1:8080, port: 8080 }'), []);
});

t.test('settings that need others', async (t) => {
  const cluster = 'inbound:\n  defaultPolicy: cluster-authenticated\n';
  t.strictSame(await mistakes(t, cluster), [
    'F:2: inbound.defaultPolicy: cluster-authenticated needs inbound.clusterNetworks, the networks it means',
  ]);
  t.strictSame(await mistakes(t, `${cluster}  clusterNetworks: 10.0.0.0/8`), []);
  t.match(await mistakes(t, `${cluster}  clusterNetworks: ten`), [
    /^F:3: inbound.clusterNetworks\[0\]: must be a network/,
  ]);
  t.strictSame(
    await mistakes(t, 'inbound:\n  ports: { listen: 0.0.0.0:81, port: 80, policy: cluster-unauthenticated }'),
    [
      'F:2: inbound.ports[0].policy: cluster-unauthenticated needs inbound.clusterNetworks, the networks it means',
    ],
  );
  t.strictSame(await mistakes(t, 'outbound:\n  listeners: { listen: 127.0.0.1:81, service: a.b:80 }'), [
    'F:2: outbound.listeners: need a discovery source that knows their services: ' +
      'discovery: { source: file, path: ./mesh.d }',
  ]);
  t.strictSame(await mistakes(t, 'shutdown:\n  grace: 1s\n  drainDelay: 2s'), [
    'F:3: shutdown.drainDelay: must not be longer than shutdown.grace, which includes it',
  ]);
});

t.test('what is wrong by itself makes nothing else wrong', async (t) => {
  const one = async (yaml: string, mistake: RegExp) =>
    t.match(await mistakes(t, yaml), { length: 1, 0: mistake });
  await one('shutdown:\n  grace: soon\n  drainDelay: 1m', /^F:2: shutdown.grace: /);
  const listeners = 'outbound:\n  listeners: { listen: 127.0.0.1:81, service: a.b:80 }';
  await one(`discovery: mesh.d\n${listeners}`, /^F:1: discovery\[0\]: /);
  await one('a: [ x: ] ] y: }', /^F:1: not valid YAML: /);
  await one('outbound:\n  discoveryTimeout: 9ms', /^F:2: outbound.discoveryTimeout: .*of 10ms to 10m/);
  await one('outbound:\n  discoveryTimeout: 11m', /^F:2: outbound.discoveryTimeout: .*of 10ms to 10m/);
});

t.test('broken YAML', async (t) => {
  t.match(await mistakes(t, 'workers: 1\n\t- x'), [/^F:2: not valid YAML: /]);
  t.strictSame(await mistakes(t, 'workers: 1\n---\nworkers: 2'), [
    'F:2: not valid YAML: the file must be one document: remove `---`',
  ]);
  t.match(await mistakes(t, 'outbound:\n  listen: [::1]:4140'), [
    /^F:2: not valid YAML: .*needs quotes: "\[::1\]:4140"$/,
  ]);
  t.match(await mistakes(t, 'outbound:\n  listen: [ [::1]:4140 ]'), [
    /^F:2: a key .*needs quotes: "\[::1\]:4140"$/,
    /^F:2: /,
  ]);
  t.match(await mistakes(t, 'workers: !!int 2'), [/^F:1: not valid YAML: Unresolved tag/]);
  t.strictSame(await mistakes(t, '- workers'), ['F:1: must be a map of settings such as `workers: 1`']);
  t.match(await mistakes(t, '__proto__: 1\nconstructor: 2\n<<: 3'), [
    /^F:1: "__proto__"/,
    /^F:2: "constructor"/,
    /^F:3: "<<"/,
  ]);
  t.match(await mistakes(t, 'workers: *none'), [
    /^F:1: \*none refers to nothing/,
    /^F:1: workers: has no value/,
  ]);
  t.match(await mistakes(t, 'workers: &self [*self]'), [/^F:1: \*self refers to nothing/, /^F:1: workers: /]);
  t.match(await mistakes(t, '? { a: 1 }\n: 2'), [/^F:1: a key must be the name of a setting$/]);
  t.strictSame(await mistakes(t, Buffer.from([0x61, 0xff])), ['F: cannot be read: it is not UTF-8 text']);
});

t.test('what would exhaust the machine is refused in no time', { timeout: 20_000 }, async (t) => {
  const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 20; i++)
    bomb.push(`a${i}: &a${i} [${new Array(9).fill(i === 1 ? '*a' : `*a${i - 1}`)}]`);
  t.match(
    (await mistakes(t, `${bomb.join('\n')}\noutbound: { listen: *a19 }`)).at(-1),
    /is a list$/,
    'aliases',
  );
  t.match(await mistakes(t, '['.repeat(50_000)), [/nested too deeply/], 'brackets');
  t.match(
    await mistakes(t, `workers: ${'['.repeat(40)}${']'.repeat(40)}`),
    [/16 levels deep/, /workers/],
    'levels',
  );
  t.match(await mistakes(t, `# ${'x'.repeat(1 << 20)}`), [/^F: is longer than 1048576 bytes/], 'size');
  t.match(await mistakesOf({ file: '/dev/zero', ...nothing }), [/^\/dev\/zero: is longer than/], 'no end');
  const many = Array.from({ length: 500 }, (_, i) => `key${i}: x`).join('\n');
  const lines = await mistakes(t, many);
  t.equal(lines.length, 101);
  t.equal(lines.at(-1), 'and 400 more');
});

t.test('files that cannot be read', async (t) => {
  const folder = t.testdir();
  const env = { FERRULE_WORKERS: '0' };
  t.match(
    await mistakesOf({ file: join(folder, 'none.yaml'), env, flags: {} }),
    [/none\.yaml: cannot be read: there is no such file$/, /^FERRULE_WORKERS: /],
    'and the other mistakes all the same',
  );
  t.match(await mistakesOf({ file: folder, ...nothing }), [
    /: cannot be read: it is a directory: name a file in it$/,
  ]);
});

t.test("other people's variables are left alone", async (t) => {
  const env = {
    // What Kubernetes sets for Services named ferrule-inbound and ferrule.
    FERRULE_INBOUND_SERVICE_HOST: '10.0.0.1',
    FERRULE_INBOUND_SERVICE_PORT: '80',
    FERRULE_INBOUND_SERVICE_PORT_HTTP: '80',
    FERRULE_INBOUND_PORT: 'tcp://10.0.0.1:80',
    FERRULE_INBOUND_PORT_80_TCP: 'tcp://10.0.0.1:80',
    FERRULE_INBOUND_PORT_80_TCP_ADDR: '10.0.0.1',
    FERRULE_PORT: 'tcp://10.0.0.1:80',
    FERRULE_IMAGE_VERSION: '1',
    FERRULE_REQUIRE_PEERS: '1',
    FERRULE_SOAK: '1',
  };
  t.strictSame(await mistakesOf({ env, flags: {} }), []);
  t.match(await mistakesOf({ env: { FERRULE_INBOUND_PORT: '127.0.0.1:80=81' }, flags: {} }), [
    /^FERRULE_INBOUND_PORT: there is no such setting; did you mean FERRULE_INBOUND_PORTS\?$/,
  ]);
  t.match(await mistakesOf({ env: { FERRULE_ADMIN_SOMETHING_ELSE: '1' }, flags: {} }), [
    /^FERRULE_ADMIN_SOMETHING_ELSE: there is no such setting$/,
  ]);
});

t.test('no text whatever does anything but load or explain itself', async (t) => {
  const file = join(t.testdir(), 'ferrule.yaml');
  const valid = printDefaultConfig();
  const pieces = fc.constantFrom(
    ...valid.split(/(?<=[\n:,[\]{}])/),
    ...[
      '&a ',
      '*a',
      '!!x ',
      '%YAML 1.1\n',
      '---\n',
      '? ',
      '- ',
      '| \n',
      '"',
      "'",
      '\t',
      '<<: ',
      '\0',
      '{',
      '[',
    ],
  );
  const mutation = fc.tuple(fc.nat(valid.length), fc.nat(20), fc.oneof(pieces, fc.string()));
  const mutated = fc
    .array(mutation, { minLength: 1, maxLength: 4 })
    .map((edits) =>
      edits.reduce((text, [at, cut, insert]) => text.slice(0, at) + insert + text.slice(at + cut), valid),
    );
  const shuffled = fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join(''));
  const text = fc.oneof(fc.string({ unit: 'binary' }), shuffled, mutated);
  let loaded = 0;
  let refused = 0;
  const property = fc.asyncProperty(text, text, async (yaml, value) => {
    writeFileSync(file, yaml);
    const input = { file, env: { FERRULE_INBOUND_PORTS: value }, flags: { discovery: value } };
    for (const candidate of [{ ...input, ...nothing }, input]) {
      const lines = await mistakesOf(candidate);
      if (lines.length === 0) loaded++;
      else refused++;
      for (const line of lines.slice(0, 100)) {
        if (!/^(\S*ferrule\.yaml(:\d+)?|FERRULE_INBOUND_PORTS|--discovery): ./.test(line))
          throw new Error(line);
      }
    }
  });
  await fc.assert(property, { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 20_000 : 1000 });
  t.ok(loaded > 50 && refused > 50, `both happened: ${loaded} loaded, ${refused} refused`);
});
