/** The file source on real files: everything editors, deployment tools and Kubernetes do to them. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { FileSource } from '../../proxy/control/file-source.ts';
import { log } from '../../proxy/core/log.ts';
import type { TargetSnapshot } from '../../proxy/model/target.ts';

/** Generous: a loaded machine must not fail the test, and a right one never waits for it. */
const DEADLINE_MS = 20_000;
/** Long enough that a change seen within the deadline was seen through events. */
const NO_POLL_MS = 10 * DEADLINE_MS;

const lines: string[] = [];
log.sink = (line) => void lines.push(line);

/** Waits until `condition` holds. */
async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + DEADLINE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await delay(5);
  }
}

/** A service with one endpoint, `web.default:80`. */
function web(ip: string, name = 'web'): string {
  return `apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { ports: [ { port: 80 } ] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
endpoints: [ { addresses: [ ${ip} ] } ]
ports: [ { port: 8080 } ]
`;
}

/** The answers to one watched target. */
class Answers {
  readonly all: string[] = [];
  readonly onAnswer = (snapshot: TargetSnapshot): void => {
    const text =
      snapshot.kind === 'service' ? snapshot.endpoints.map((endpoint) => endpoint.ip).join() : snapshot.kind;
    this.all.push(text);
  };

  get last(): string | undefined {
    return this.all.at(-1);
  }
}

/** A started source on `path` and what it says of `web.default:80`. */
async function follow(
  t: Test,
  path: string,
  pollMs = NO_POLL_MS,
): Promise<{ source: FileSource; answers: Answers }> {
  const source = new FileSource(path, { pollMs });
  t.teardown(() => source.close());
  const answers = new Answers();
  source.watch('web.default:80', answers.onAnswer);
  await source.start();
  return { source, answers };
}

t.test('edit, add, rename, delete', async (t) => {
  const dir = t.testdir({ 'web.yaml': web('10.0.0.1'), 'notes.txt': 'kind: [', '.hidden.yaml': 'kind: [' });
  const { source, answers } = await follow(t, dir);
  t.same(answers.all, ['10.0.0.1']);
  t.match(source.health, { synced: true, error: undefined });

  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.2'));
  await until('the edit is seen', () => answers.last === '10.0.0.2');

  writeFileSync(join(dir, '.web.yaml.tmp'), web('10.0.0.3'));
  renameSync(join(dir, '.web.yaml.tmp'), join(dir, 'web.yaml'));
  await until('the replacement is seen', () => answers.last === '10.0.0.3');

  let other: string | undefined;
  source.watch('api.default:80', (snapshot) => {
    other = snapshot.kind;
  });
  t.equal(other, 'unknown', 'answered before watch returned');
  renameSync(join(dir, 'web.yaml'), join(dir, 'renamed.yml'));
  writeFileSync(
    join(dir, 'api.json'),
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'api' },
      spec: { ports: [{ port: 80 }] },
    }),
  );
  await until('the new file is seen', () => other === 'service');
  t.same(answers.all, ['10.0.0.1', '10.0.0.2', '10.0.0.3'], 'a renamed file is not missing for a moment');

  rmSync(join(dir, 'renamed.yml'));
  await until('the removal is seen', () => answers.last === 'unknown');
  t.equal(source.resources.length, 1);
  rmSync(join(dir, 'api.json'));
  await until('the directory is empty', () => other === 'unknown');
  t.match(source.health, { synced: true, error: undefined });
});

t.test('a broken file is named, keeps its last good state, and holds nobody else up', async (t) => {
  const dir = t.testdir({ 'web.yaml': web('10.0.0.1'), 'api.yaml': web('10.0.1.1', 'api') });
  const { source, answers } = await follow(t, dir);
  const api = new Answers();
  source.watch('api.default:80', api.onAnswer);
  let healthChanges = 0;
  source.onHealth(() => healthChanges++);
  const goodMs = source.health.lastGoodMs;

  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.2').replace('port: 80 ', 'port: 99999 '));
  writeFileSync(join(dir, 'api.yaml'), web('10.0.1.2', 'api'));
  await until(
    'the mistake is reported and the other file read',
    () => source.health.error !== undefined && api.last === '10.0.1.2',
  );
  const message = `${join(dir, 'web.yaml')}:4: Service default/web: spec.ports[0].port must be 1 to 65535, is 99999`;
  t.equal(source.health.error, message);
  t.ok(
    lines.some((line) => line.includes(message) && line.includes('error')),
    'and logged',
  );
  t.ok(source.health.synced);
  t.same(answers.all, ['10.0.0.1'], 'the last good state stays');
  t.equal(source.health.lastGoodMs, goodMs, 'and its age grows');
  t.ok(healthChanges > 0);

  truncateSync(join(dir, 'api.yaml'));
  await until('the empty file is reported', () => source.health.error?.includes('is empty') ?? false);
  t.equal(api.last, '10.0.1.2', 'a file emptied by a full disk removes nothing');

  rmSync(join(dir, 'api.yaml'));
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.3'));
  await until('it is mended', () => answers.last === '10.0.0.3');
  t.equal(source.health.error, undefined);
  t.ok(source.health.lastGoodMs! >= goodMs!);
  t.equal(api.last, 'unknown');
});

t.test('a file that never was right keeps the source from answering', async (t) => {
  const dir = t.testdir({
    'web.yaml': web('10.0.0.1'),
    'bad.yaml': 'apiVersion: v1\nkind: Service\nspec: [',
  });
  const { source, answers } = await follow(t, dir);
  t.notOk(source.health.synced);
  t.match(source.health.error, /bad\.yaml:\d+: not valid YAML/);
  t.same(answers.all, [], 'an address in it could have had an identity');
  writeFileSync(join(dir, 'bad.yaml'), web('10.0.2.1', 'other'));
  await until('it is mended', () => source.health.synced);
  t.same(answers.all, ['10.0.0.1']);

  writeFileSync(join(dir, 'late.yaml'), 'apiVersion: v1\nkind: Service\n');
  await until('a later one is reported', () => source.health.error?.includes('late.yaml:1: ') ?? false);
  t.ok(source.health.synced, 'and takes nothing away');
});

t.test('a directory of whatever people keep beside their services is usable', async (t) => {
  const { source, answers } = await follow(
    t,
    fileURLToPath(new URL('../fixtures/resources', import.meta.url)),
  );
  t.match(source.health, { synced: true, error: undefined });
  t.same(answers.all, ['unknown']);
  t.ok(source.resources.some(({ name }) => name === 'webapp'));
  const warned = (text: string): boolean =>
    lines.some((line) => line.includes('warn') && line.includes(text));
  t.ok(warned('09-servicemonitor.yaml:2: unknown kind ServiceMonitor'), 'unknown kinds are logged');
  t.ok(warned('not used by this version: '), 'and known ones counted');
});

t.test('a directory that is not there yet, goes away, and comes back', async (t) => {
  const dir = join(t.testdir({}), 'mesh.d');
  const { source, answers } = await follow(t, dir, 20);
  t.match(source.health, { synced: false, error: `${dir} is not there` });
  t.same(answers.all, []);
  mkdirSync(dir);
  await until('the empty directory counts', () => source.health.synced);
  t.same(answers.all, ['unknown']);
  t.equal(source.health.error, undefined);
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.1'));
  await until('its first file is read', () => answers.last === '10.0.0.1');
  rmSync(dir, { recursive: true });
  // The file may be seen to go before its directory does: that is a removal.
  await until('its absence is reported', () => source.health.error === `${dir} is not there`);
  t.ok(source.health.synced);
  mkdirSync(dir);
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.2'));
  await until('it is back', () => answers.last === '10.0.0.2' && source.health.error === undefined);
  t.pass('followed throughout');
});

t.test('a directory moved away whole keeps what it said', async (t) => {
  const base = t.testdir({ 'mesh.d': { 'web.yaml': web('10.0.0.1') } });
  const dir = join(base, 'mesh.d');
  const { source, answers } = await follow(t, dir, 20);
  renameSync(dir, join(base, 'away'));
  await until('its absence is reported', () => source.health.error === `${dir} is not there`);
  t.same(answers.all, ['10.0.0.1']);
  mkdirSync(dir);
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.2'));
  await until('the new one is followed', () => answers.last === '10.0.0.2');
  t.notOk(answers.all.includes('unknown'), 'never without an answer');
});

t.test('the links of a mounted ConfigMap are swapped as one', async (t) => {
  const dir = t.testdir({ '..1': { 'web.yaml': web('10.0.0.1'), 'api.yaml': web('10.0.1.1', 'api') } });
  symlinkSync('..1', join(dir, '..data'));
  for (const name of ['web.yaml', 'api.yaml']) symlinkSync(join('..data', name), join(dir, name));
  const { source, answers } = await follow(t, dir);
  t.same(answers.all, ['10.0.0.1']);
  mkdirSync(join(dir, '..2'));
  writeFileSync(join(dir, '..2', 'web.yaml'), web('10.0.0.2'));
  writeFileSync(join(dir, '..2', 'api.yaml'), web('10.0.1.2', 'api'));
  symlinkSync('..2', join(dir, '..data_tmp'));
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'));
  rmSync(join(dir, '..1'), { recursive: true });
  await until('the swap is seen', () => answers.last === '10.0.0.2');
  const api = new Answers();
  source.watch('api.default:80', api.onAnswer);
  t.same(api.all, ['10.0.1.2']);
  t.same(answers.all, ['10.0.0.1', '10.0.0.2']);
});

t.test('a single file, replaced and touched', async (t) => {
  const file = join(t.testdir({ 'web.yaml': web('10.0.0.1'), 'other.yaml': 'kind: [' }), 'web.yaml');
  const { source, answers } = await follow(t, file);
  t.equal(source.name, `file:${file}`);
  t.same(answers.all, ['10.0.0.1']);
  writeFileSync(`${file}.new`, web('10.0.0.2'));
  renameSync(`${file}.new`, file);
  await until('the replacement is seen', () => answers.last === '10.0.0.2');
  const goodMs = source.health.lastGoodMs!;
  await until('the clock moves', () => Date.now() > goodMs);
  utimesSync(file, 1, 1);
  await until('the touch is looked at', () => source.health.lastGoodMs! > goodMs);
  t.same(answers.all, ['10.0.0.1', '10.0.0.2'], 'what says the same is no change');
});

t.test('without events the poll sees changes, and the age stays young', async (t) => {
  const base = t.testdir({ real: { 'web.yaml': web('10.0.0.1') }, 'mesh.d': {} });
  // Events are heard of the link's directory, not of where it leads.
  symlinkSync(join('..', 'real', 'web.yaml'), join(base, 'mesh.d', 'web.yaml'));
  const { source, answers } = await follow(t, join(base, 'mesh.d'), 20);
  const goodMs = source.health.lastGoodMs!;
  await until('an unchanged directory is checked', () => source.health.lastGoodMs! > goodMs);
  writeFileSync(join(base, 'real', 'web.yaml'), web('10.0.0.2'));
  await until('the change is seen', () => answers.last === '10.0.0.2');
  rmSync(join(base, 'real', 'web.yaml'));
  await until(
    'the dangling link is reported',
    () => source.health.error?.includes('web.yaml is not there') ?? false,
  );
  t.same(answers.all, ['10.0.0.1', '10.0.0.2'], 'and what it led to stays in force');
});

t.test('a file being written is read when it is whole', async (t) => {
  const dir = t.testdir({ 'web.yaml': web('10.0.0.1') });
  const { answers } = await follow(t, dir);
  // In pieces 20 ms apart (a slow writer, not a wait). Between them whole documents stand there: read then,
  // they would say something else. Both sides' timers are of one event loop, so that load cannot turn their
  // order.
  const text = `${web('10.0.0.2')}---\n${web('10.0.0.3', 'extra')}`;
  writeFileSync(join(dir, 'web.yaml'), '');
  for (let start = 0; start < text.length; start += 60) {
    writeFileSync(join(dir, 'web.yaml'), text.slice(start, start + 60), { flag: 'a' });
    await delay(20);
  }
  await until('it is read', () => answers.last === '10.0.0.2');
  t.same(answers.all, ['10.0.0.1', '10.0.0.2']);
});

t.test('what is no resource file is refused by name', async (t) => {
  const dir = t.testdir({ 'web.yaml': web('10.0.0.1') });
  const { source, answers } = await follow(t, dir);
  writeFileSync(join(dir, 'huge.yaml'), '');
  truncateSync(join(dir, 'huge.yaml'), 16 * 1024 * 1024 + 1);
  await until(
    'the huge file is refused',
    () => source.health.error?.includes('huge.yaml has 16777217 bytes') ?? false,
  );
  rmSync(join(dir, 'huge.yaml'));
  await until('it is gone', () => source.health.error === undefined);
  execFileSync('mkfifo', [join(dir, 'pipe.yaml')]);
  await until(
    'the pipe is refused',
    () => source.health.error?.includes('pipe.yaml is not a regular file') ?? false,
  );
  rmSync(join(dir, 'pipe.yaml'));
  mkdirSync(join(dir, 'folder.yaml'));
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.2'));
  await until('the rest goes on', () => answers.last === '10.0.0.2' && source.health.error === undefined);
  t.notOk(answers.all.includes('unknown'));
});

t.test('too many files are refused', async (t) => {
  const dir = t.testdir({});
  for (let n = 0; n <= 10_000; n++) writeFileSync(join(dir, `${n}.yaml`), '');
  const { source } = await follow(t, dir);
  t.match(source.health, {
    synced: false,
    error: `${dir} holds 10001 resource files; at most 10000 are allowed`,
  });
});

t.test('nothing is said after close or unwatch', async (t) => {
  const dir = t.testdir({ 'web.yaml': web('10.0.0.1') });
  const { source, answers } = await follow(t, dir);
  const seen = new Answers();
  const unwatch = source.watch('web.default:80', seen.onAnswer);
  unwatch();
  unwatch();
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.2'));
  await until('the edit is seen', () => answers.last === '10.0.0.2');
  t.same(seen.all, ['10.0.0.1']);
  source.close();
  writeFileSync(join(dir, 'web.yaml'), web('10.0.0.3'));
  const witness = await follow(t, dir);
  await until('another source has read it', () => witness.answers.last === '10.0.0.3');
  t.equal(answers.last, '10.0.0.2');
  t.ok(existsSync(join(dir, 'web.yaml')));
});
