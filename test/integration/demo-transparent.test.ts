/** `ferrule demo` in network namespaces with real iptables rules. */

import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { type Demo, startDemo, temporaryFolder } from '../support/demo.ts';
import { checkServices } from '../support/demo-services.ts';
import { canUseNamespaces, exec } from '../support/netns.ts';
import { missing, requirePeer } from '../support/peers.ts';

// A dozen meshes are built and removed; alone tap would allow 30 s.
t.setTimeout(240_000);

const TRANSPARENT = ['--mode', 'transparent'] as const;

function usable(t: Test): boolean {
  const namespaces = canUseNamespaces();
  if (!namespaces.ok) missing(t, namespaces.reason);
  return namespaces.ok && requirePeer(t, 'iptables') !== undefined;
}

/** Runs a program in a pod of the demo. */
function inPod(demo: Demo, pod: 'client' | 'server', command: string, ...args: string[]) {
  const name = demo.namespaces().find((one) => one.endsWith(`-${pod}`)) ?? '';
  return exec({ name, path: `/run/netns/${name}` }, command, args);
}

t.test('ends by itself and sums up', async (t) => {
  if (!usable(t)) return;
  const demo = startDemo(t, [...TRANSPARENT, '--for', '3s', '--json']);
  const end = await demo.ended;
  t.equal(end.status, 0, end.stderr);
  const summary = JSON.parse(end.stdout);
  t.match(summary, { transparent: true, failures: 0, mtlsShare: 1 });
  t.ok(summary.certificateRotations >= 1, `${summary.certificateRotations} rotations`);
  t.ok(summary.requests > 100, `${summary.requests} requests in 3 s`);
  checkServices(t, summary);
  t.strictSame(demo.leftovers(), [], 'nothing is left when it returns');
});

t.test('virtual IPs, rules and sidecars of an own user', async (t) => {
  if (!usable(t)) return;
  const demo = startDemo(t, TRANSPARENT);
  await demo.traffic();
  const page = `fetch('http://10.96.0.11/hello').then((r) => r.text()).then((text) => process.stdout.write(text))`;
  const answer = inPod(demo, 'client', process.execPath, '-e', page);
  t.match(answer.stdout, /^GET \/hello served by web-[12]\n$/, answer.stderr);
  const capture = inPod(demo, 'server', 'sh', '-c', 'iptables-nft-save -t nat; iptables-legacy-save -t nat');
  t.match(capture.stdout, /--to-ports 4143/);
  const sidecars = demo.processes().filter(({ command }) => /-sidecar\.yaml/.test(command));
  t.equal(sidecars.length, 2);
  const identities = sidecars.map(({ pid }) => {
    const ids = /^Uid:\t(\d+)[\s\S]*?^Gid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return [ids?.[1] ?? '', ids?.[2] ?? ''];
  });
  // Group 2102 alone where the checkout is closed to others.
  for (const [uid, gid] of identities) t.ok(gid === '2102' && ['2102', '0'].includes(uid), `${uid}:${gid}`);
  demo.kill('SIGINT');
  const end = await demo.ended;
  t.equal(end.status, 0, end.stderr);
  t.strictSame(demo.leftovers(), []);
});

t.test('the root is rolled over, keys are the sidecars alone to read, plaintext is not let in', async (t) => {
  if (!usable(t)) return;
  const demo = startDemo(t, [...TRANSPARENT, '--json']);
  await demo.traffic();
  const settings = demo.processes().find(({ command }) => command.includes('/server-sidecar.yaml'))!;
  const folder = dirname(/\S+\/server-sidecar\.yaml/.exec(settings.command)![0]);
  const owner = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${settings.pid}/status`, 'utf8'))?.[1]);
  for (const pod of ['client', 'server']) {
    const { mode, uid } = statSync(join(folder, `${pod}-identity`, 'tls.key'));
    t.strictSame([mode & 0o777, uid], [0o600, owner], `the key of the ${pod} pod`);
  }
  await demo.until('the roll-over', () => /the root was rolled over/.exec(demo.stderr)?.[0]);
  // A client that the rules leave alone, because it runs as the proxy does: no sidecar speaks TLS for it.
  const ask = `require('node:http').get('http://10.77.0.2:8080/', { agent: false, timeout: 10_000 })
    .on('response', ({ statusCode }) => (process.stdout.write(String(statusCode)), process.exit()))
    .on('timeout', () => (process.stdout.write('timeout'), process.exit()))
    .on('error', (error) => process.stdout.write(error.code))`;
  const asProxy = ['setpriv', '--reuid', String(owner), '--regid', '2102', '--clear-groups'] as const;
  const plain = inPod(demo, 'client', ...asProxy, process.execPath, '-e', ask);
  t.equal(plain.stdout, 'ECONNRESET', plain.stderr);
  demo.kill('SIGINT');
  const end = await demo.ended;
  t.equal(end.status, 0, end.stderr);
  const summary = JSON.parse(end.stdout);
  t.match(summary, { failures: 0, mtlsShare: 1, rootRollovers: 1 });
  t.ok(summary.certificateRotations >= 4, `${summary.certificateRotations} rotations`);
  t.strictSame(demo.leftovers(), []);
});

t.test('leaves nothing when it is killed', async (t) => {
  if (!usable(t)) return;
  const early = startDemo(t, TRANSPARENT);
  await early.until('a namespace', () => early.namespaces()[0]);
  early.kill('SIGKILL');
  await early.ended;
  await early.gone();
  const late = startDemo(t, TRANSPARENT);
  await late.traffic();
  t.equal(late.namespaces().length, 2);
  late.kill('SIGKILL');
  t.equal((await late.ended).signal, 'SIGKILL');
  await late.gone();
});

t.test('falls back aloud when a piece fails', async (t) => {
  if (!usable(t)) return;
  const broken = join(temporaryFolder(t), 'bin');
  mkdirSync(broken);
  for (const name of ['iptables', 'iptables-nft', 'iptables-legacy']) {
    for (const suffix of ['', '-save', '-restore']) {
      writeFileSync(join(broken, `${name}${suffix}`), '#!/bin/sh\necho out of order >&2\nexit 4\n');
      chmodSync(join(broken, `${name}${suffix}`), 0o755);
    }
  }
  const env = { PATH: `${broken}:${process.env.PATH}` };
  const demo = startDemo(t, ['--for', '1s', '--json'], { env });
  const end = await demo.ended;
  t.equal(end.status, 0, end.stderr);
  t.match(end.stderr, /no transparent demo here: ferrule init: [\s\S]*out of order[\s\S]*using loopback/);
  t.equal(JSON.parse(end.stdout).transparent, false);
  t.strictSame(demo.leftovers(), []);
  const strict = startDemo(t, [...TRANSPARENT, '--for', '1s'], { env });
  const refused = await strict.ended;
  t.equal(refused.status, 69, refused.stderr);
  t.match(refused.stderr, /no transparent demo here: ferrule init: /);
  t.strictSame(strict.leftovers(), []);
});
