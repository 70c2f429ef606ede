import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Config, describeConfig } from '../../proxy/config/config.ts';
import { type ConfigInput, loadConfig } from '../../proxy/config/load.ts';
import { printDefaultConfig } from '../../proxy/config/print.ts';
import { NAMED_SETTINGS } from '../../proxy/config/settings.ts';

/** Loads `yaml` from a file of its own in the test's folder, without the variables of the machine. */
async function load(t: Test, yaml: string, rest: Partial<ConfigInput> = {}) {
  const file = join(t.testdir(), 'ferrule.yaml');
  writeFileSync(file, yaml);
  return loadConfig({ file, env: {}, flags: {}, ...rest });
}

const nothing = { env: {}, flags: {} };

t.test('without anything, the documented defaults', async (t) => {
  const config = await loadConfig(nothing);
  t.strictSame(describeConfig(config), {
    file: null,
    workload: { namespace: 'default', serviceAccount: 'default', pod: hostname(), zone: null },
    trustDomain: 'cluster.local',
    identity: { source: 'none' },
    discovery: [],
    outbound: {
      listen: ['127.0.0.1:4140', '[::1]:4140'],
      originalDst: 'auto',
      requireIdentity: false,
      multiplex: true,
      unknown: 'forward',
      opaquePorts: [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211],
      discoveryTimeoutMs: 3000,
      listeners: [],
    },
    inbound: {
      listen: ['0.0.0.0:4143', '[::]:4143'],
      originalDst: 'auto',
      defaultPolicy: 'all-unauthenticated',
      opaquePorts: [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211],
      clusterNetworks: [],
      ports: [],
    },
    admin: { listen: ['0.0.0.0:4191', '[::]:4191'], tokenFile: null },
    workers: 1,
    shutdown: { graceMs: 30_000, drainDelayMs: 5000 },
    log: { level: 'info', format: 'text', access: 'off' },
  });
});

t.test('the printed default file changes nothing and names every setting', async (t) => {
  const text = printDefaultConfig();
  const { file, ...loaded } = await load(t, text);
  const { file: none, ...defaults } = await loadConfig(nothing);
  t.strictSame(loaded, defaults);
  t.ok(file?.endsWith('ferrule.yaml'));
  t.equal(none, undefined);
  for (const { name, env, flag } of NAMED_SETTINGS) {
    t.ok(text.includes(`# ${env}, --${flag}\n`), name);
  }
  t.strictSame(
    text.split('\n').filter((line) => line.length > 120),
    [],
    'every line fits a terminal',
  );
});

t.test('the examples are valid, and mean the same in the file and as text', async (t) => {
  // The paths of an identity mean nothing without this.
  const env: Record<string, string> = { FERRULE_IDENTITY_SOURCE: 'files' };
  let yaml = printDefaultConfig().replace('source: none\n', 'source: files\n');
  for (const { name, env: variable, setting } of NAMED_SETTINGS) {
    if (setting.example === undefined) continue;
    env[variable] = setting.example.text;
    const key = name.split('.').at(-1);
    const [comment, value] = setting.default === undefined ? ['# ', setting.example.yaml] : ['', '[]'];
    const changed = yaml.replace(`${comment}${key}: ${value}\n`, `${key}: ${setting.example.yaml}\n`);
    t.not(changed, yaml, name);
    yaml = changed;
  }
  t.chdir(t.testdir({ 'ferrule.yaml': yaml }));
  const { file: _, ...fromFile } = await loadConfig({ file: 'ferrule.yaml', ...nothing });
  const { file: none, ...fromText } = await loadConfig({ env, flags: {} });
  t.strictSame(describeConfig(fromFile as Config), describeConfig(fromText as Config));
  t.equal(fromFile.outbound.listeners.length, 1);
});

t.test('reads a complete file', async (t) => {
  const config = await load(
    t,
    `workload: { namespace: shop, serviceAccount: web, pod: web-0, zone: a }
trustDomain: mesh.example
identity: { source: none }
discovery: { source: file, path: ./mesh.d }
outbound:
  listen: 127.0.0.1:5140
  originalDst: off
  requireIdentity: true
  unknown: refuse
  discoveryTimeout: 1500ms
  listeners:
    - { listen: 127.0.0.1:5000, service: payments.default:8080 }
    - { listen: "[::1]:0", service: db.default:postgres }
inbound:
  listen: []
  originalDst: required
  defaultPolicy: cluster-authenticated
  clusterNetworks: [ 10.0.0.0/8, "fd00::/8" ]
  ports:
    - { listen: 0.0.0.0:18080, port: 8080, policy: deny }
    - { listen: 0.0.0.0:18081, port: 8081 }
admin: { listen: 127.0.0.1:0, tokenFile: run/token }
workers: 64
shutdown: { grace: 2m, drainDelay: 0s }
log: { level: debug, format: json, access: apache }
`,
  );
  const folder = t.testdirName;
  t.strictSame(describeConfig(config), {
    file: `${folder}/ferrule.yaml`,
    workload: { namespace: 'shop', serviceAccount: 'web', pod: 'web-0', zone: 'a' },
    trustDomain: 'mesh.example',
    identity: { source: 'none' },
    discovery: [{ source: 'file', path: `${folder}/mesh.d` }],
    outbound: {
      listen: ['127.0.0.1:5140'],
      originalDst: 'off',
      requireIdentity: true,
      multiplex: true,
      unknown: 'refuse',
      opaquePorts: [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211],
      discoveryTimeoutMs: 1500,
      listeners: [
        { listen: '127.0.0.1:5000', service: 'payments.default:8080' },
        { listen: '[::1]:0', service: 'db.default:postgres' },
      ],
    },
    inbound: {
      listen: [],
      originalDst: 'required',
      defaultPolicy: 'cluster-authenticated',
      opaquePorts: [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211],
      clusterNetworks: ['10.0.0.0/8', 'fd00::/8'],
      ports: [
        { listen: '0.0.0.0:18080', port: 8080, policy: 'deny' },
        { listen: '0.0.0.0:18081', port: 8081, policy: 'cluster-authenticated' },
      ],
    },
    admin: { listen: ['127.0.0.1:0'], tokenFile: `${folder}/run/token` },
    workers: 64,
    shutdown: { graceMs: 120_000, drainDelayMs: 0 },
    log: { level: 'debug', format: 'json', access: 'apache' },
  });
});

t.test('a variable wins over the file, a flag over both', async (t) => {
  const yaml = 'workers: 2\nlog: { level: warn, format: json }\ntrustDomain: from.file\n';
  const env = { FERRULE_WORKERS: '3', FERRULE_LOG_LEVEL: 'debug', FERRULE_TRUST_DOMAIN: ' ' };
  const config = await load(t, yaml, { env, flags: { workers: '4' } });
  t.equal(config.workers, 4, 'flag');
  t.equal(config.log.level, 'debug', 'variable');
  t.equal(config.log.format, 'json', 'file, beside a variable in the same section');
  t.equal(config.trustDomain, 'from.file', 'an empty variable is none');
});

t.test('lists and records in variables and flags', async (t) => {
  const env = {
    FERRULE_DISCOVERY: 'file:./a,file:/b:c',
    FERRULE_OUTBOUND_LISTEN: '[]',
    FERRULE_OUTBOUND_LISTENERS: '127.0.0.1:5000=pay.default:8080, [::1]:5000=db.default:sql',
    FERRULE_INBOUND_LISTEN: '10.0.0.1:4143,[fd00::1]:4143',
    FERRULE_INBOUND_PORTS: '127.0.0.1:0=80,127.0.0.2:90=81/deny',
  };
  const config = await loadConfig({ env, flags: { 'inbound-cluster-networks': '10.0.0.0/8' } });
  t.match(describeConfig(config), {
    discovery: [
      { source: 'file', path: join(process.cwd(), 'a') },
      { source: 'file', path: '/b:c' },
    ],
    outbound: {
      listen: [],
      listeners: [
        { listen: '127.0.0.1:5000', service: 'pay.default:8080' },
        { listen: '[::1]:5000', service: 'db.default:sql' },
      ],
    },
    inbound: {
      listen: ['10.0.0.1:4143', '[fd00::1]:4143'],
      opaquePorts: [25, 587, 3306, 4444, 5432, 6379, 9300, 11_211],
      clusterNetworks: ['10.0.0.0/8'],
      ports: [
        { listen: '127.0.0.1:0', port: 80, policy: 'all-unauthenticated' },
        { listen: '127.0.0.2:90', port: 81, policy: 'deny' },
      ],
    },
  });
});

t.test('FERRULE_CONFIG names the file, --config wins', async (t) => {
  const folder = t.testdir({ 'a.yaml': 'workers: 5', 'b.yaml': 'workers: 6' });
  const env = { FERRULE_CONFIG: join(folder, 'a.yaml') };
  t.equal((await loadConfig({ env, flags: {} })).workers, 5);
  t.equal((await loadConfig({ file: join(folder, 'b.yaml'), env, flags: {} })).workers, 6);
});

t.test('values mean what they look like', async (t) => {
  t.equal((await load(t, '%YAML 1.1\n---\noutbound: { originalDst: off }')).outbound.originalDst, 'off');
  t.equal((await load(t, 'workload: { zone: 010 }')).workload.zone, '010', 'no octal');
  t.equal((await load(t, 'workload: { zone: "1e3" }')).workload.zone, '1e3');
  t.equal((await load(t, '\ufeffworkers: 2\r\nlog:\r\n  level: debug\r\n')).log.level, 'debug', 'BOM, CRLF');
  t.equal((await load(t, '')).workers, 1, 'empty file');
  t.equal((await load(t, 'outbound:\nworkers: 2')).workers, 2, 'a section with everything commented out');
  const aliased = await load(t, 'outbound: { originalDst: &mode required }\ninbound: { originalDst: *mode }');
  t.equal(aliased.inbound.originalDst, 'required', 'alias');
});

t.test('auto takes a worker per core', async (t) => {
  const { workers } = await load(t, 'workers: auto');
  t.ok(workers >= 1 && workers <= 64);
});

t.test('a short grace shortens the default drain delay', async (t) => {
  const { shutdown } = await load(t, 'shutdown: { grace: 1s }');
  t.strictSame(shutdown, { graceMs: 1000, drainDelayMs: 1000 });
});

t.test('a default configuration loads no YAML library', async (t) => {
  const script = `
    import { registerHooks } from 'node:module';
    registerHooks({ resolve(name, context, next) {
      if (name === 'yaml') throw new Error('yaml was loaded');
      return next(name, context);
    } });
    const { loadConfig } = await import(${JSON.stringify(new URL('../../proxy/config/load.ts', import.meta.url))});
    const { workers } = await loadConfig({ env: { FERRULE_WORKERS: '2' }, flags: {} });
    console.log(workers);
    await loadConfig({ file: '/dev/null', env: {}, flags: {} }).catch((error) => console.log(error.message));
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  t.equal(output, '2\nyaml was loaded\n', 'and the trap would have caught it');
});
