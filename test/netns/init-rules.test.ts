/** That `ferrule init` changes the kernel's rules as promised: its own, all or nothing, and back again. */

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { exec, type Namespace } from '../support/netns.ts';
import { requirePeer } from '../support/peers.ts';
import { createPod, dial, init, initWithoutCapabilities, startGreeters } from '../support/pod.ts';

const BACKENDS = ['nft', 'legacy'] as const;
const FAMILIES = ['iptables', 'ip6tables'] as const;

/** The tables of both families as iptables-save prints them, without dates and counters. */
function saved(namespace: Namespace, backend: string): string {
  return FAMILIES.map((family) => exec(namespace, `${family}-${backend}-save`).stdout)
    .join('')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\[\d+:\d+\]/g, '');
}

/** Rules that are not ours: in the table and chains we use, and in another table. */
function addForeignRules(namespace: Namespace, backend: string): void {
  for (const family of FAMILIES) {
    const program = `${family}-${backend}`;
    for (const rule of [
      '-t nat -N OTHERS',
      '-t nat -A OTHERS -p udp -j RETURN',
      '-t nat -A PREROUTING -p udp --dport 53 -j OTHERS',
      '-t nat -A OUTPUT -p tcp --dport 99 -m comment --comment not-ours -j RETURN',
      '-t filter -A INPUT -p tcp --dport 98 -j ACCEPT',
    ]) {
      const { status, stderr } = exec(namespace, program, ['-w', '10', ...rule.split(' ')]);
      if (status !== 0) throw new Error(`${program} ${rule}: ${stderr}`);
    }
  }
}

/** An environment in which the restore program of one family always fails, as on a kernel without its nat table. */
function environmentWithout(t: Test, family: (typeof FAMILIES)[number]): NodeJS.ProcessEnv {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-init-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const backend of BACKENDS) {
    const path = join(folder, `${family}-${backend}-restore`);
    writeFileSync(
      path,
      '#!/bin/sh\necho "can\'t initialize: Table does not exist (do you need to insmod?)" >&2\nexit 3\n',
    );
    chmodSync(path, 0o755);
  }
  return { ...process.env, PATH: `${folder}:${process.env.PATH}` };
}

for (const backend of BACKENDS) {
  const mode = ['--iptables-mode', backend];

  t.test(`${backend}: repeats without a change, follows changed options, leaves no trace`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod } = net;
    addForeignRules(pod, backend);
    const before = saved(pod, backend);

    const first = ['--outbound-ports-to-ignore', '25,3306', '--subnets-to-ignore', '10.0.0.0/8,fd00::/8'];
    t.equal(init(pod, [...mode, ...first]).status, 0);
    const once = saved(pod, backend);
    t.not(once, before);
    t.equal(init(pod, [...mode, ...first]).status, 0);
    t.equal(saved(pod, backend), once, 'the second run changes nothing');

    const second = [
      '--inbound-port',
      '5143',
      '--proxy-uid',
      '3000',
      '--inbound-ports-to-ignore',
      '1000-2000',
    ];
    t.equal(init(pod, [...mode, ...second]).status, 0);
    const changed = saved(pod, backend);
    t.match(changed, '--to-ports 5143');
    t.match(changed, '--uid-owner 3000');
    t.match(changed, '--dports 1000:2000');
    t.notMatch(changed, /2102|--dports 25|--to-ports 4143/, 'nothing of the first options is left');
    t.equal(changed.match(/-j FERRULE_INIT_/g)?.length, 4, 'one jump per hook and family');

    const cleanup = init(pod, ['--cleanup']);
    t.equal(cleanup.status, 0, cleanup.stderr);
    t.equal(saved(pod, backend), before);
    t.match(init(pod, ['--cleanup']).stdout, 'no rules of Ferrule are installed');
  });

  t.test(`${backend}: prefers the back end that is in use`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    addForeignRules(net.pod, backend);
    const { status, stdout } = init(net.pod, []);
    t.equal(status, 0);
    t.match(stdout, `(iptables-${backend}, ip6tables-${backend})`);
  });

  t.test(`${backend}: refuses to capture half, and leaves what was there`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod } = net;
    t.equal(init(pod, mode).status, 0);
    const before = saved(pod, backend);
    const other = [...mode, '--outbound-port', '5140'];

    const no6 = init(pod, other, environmentWithout(t, 'ip6tables'));
    t.equal(no6.status, 69);
    t.match(no6.stderr, /IPv6 is enabled here \(.*eth0.*\): it would bypass the proxy/);
    t.match(no6.stderr, '--ipv6 off');
    t.equal(saved(pod, backend), before, 'IPv4 is untouched');

    const no4 = init(pod, other, environmentWithout(t, 'iptables'));
    t.equal(no4.status, 69);
    t.match(no4.stderr, 'Nothing was changed');
    t.equal(saved(pod, backend), before, 'IPv6 is back to what it was');

    const off = init(pod, [...other, '--ipv6', 'off'], environmentWithout(t, 'ip6tables'));
    t.equal(off.status, 69, 'old IPv6 rules cannot be removed');
    t.match(off.stderr, 'ip6tables');
  });

  t.test(`${backend}: captures IPv6 where it is enabled, required, or not at all`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod } = net;
    const rules6 = () => exec(pod, `ip6tables-${backend}-save`).stdout;
    t.equal(init(pod, mode).status, 0);
    t.match(rules6(), 'FERRULE_INIT_OUTPUT');
    const off = init(pod, [...mode, '--ipv6', 'off']);
    t.equal(off.status, 0, off.stderr);
    t.notMatch(rules6(), 'FERRULE', 'rules of an earlier run are removed');
    t.match(off.stdout, 'IPv6 is not captured');

    exec(pod, 'sh', ['-c', 'for i in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $i; done']);
    t.equal(
      init(pod, mode, environmentWithout(t, 'ip6tables')).status,
      0,
      'auto: IPv6 is disabled, nothing to fear',
    );
    t.notMatch(rules6(), 'FERRULE');
    t.equal(init(pod, [...mode, '--check']).status, 0);
    t.equal(init(pod, [...mode, '--ipv6', 'require'], environmentWithout(t, 'ip6tables')).status, 69);
    t.equal(init(pod, [...mode, '--ipv6', 'require']).status, 0);
    t.match(rules6(), 'FERRULE_INIT_OUTPUT');
    const check = init(pod, [...mode, '--ipv6', 'require', '--check']);
    t.equal(check.status, 0, check.stdout);
    t.match(check.stdout, /note +IPv6 outbound: no route leads out/);
  });

  t.test(`${backend}: --simulate prints what a shell can run, and needs no privilege`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined || requirePeer(t, 'setpriv') === undefined) return;
    const { pod } = net;
    const args = [...mode, '--outbound-ports-to-ignore', '25', '--subnets-to-ignore', '10.0.0.0/8'];
    const before = saved(pod, backend);
    const shown = init(pod, [...args, '--simulate']);
    t.equal(shown.status, 0, shown.stderr);
    t.equal(saved(pod, backend), before, 'nothing is run');
    const unprivileged = initWithoutCapabilities(pod, [...args, '--simulate']);
    t.equal(unprivileged.status, 0, unprivileged.stderr);
    t.match(unprivileged.stdout, '-j REDIRECT --to-ports 4140');

    t.equal(exec(pod, 'sh', [], { input: shown.stdout }).status, 0);
    const byHand = saved(pod, backend);
    t.equal(init(pod, [...mode, '--cleanup']).status, 0);
    t.equal(init(pod, args).status, 0);
    t.equal(saved(pod, backend), byHand, 'the same rules');
  });

  t.test(`${backend}: says which privilege is missing`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined || requirePeer(t, 'setpriv') === undefined) return;
    const { status, stderr } = initWithoutCapabilities(net.pod, mode);
    t.equal(status, 69);
    t.match(stderr, 'needs root or the capabilities CAP_NET_ADMIN and CAP_NET_RAW');
  });
}

t.test('moves from one back end to the other, so that nothing is captured twice', async (t) => {
  const net = createPod(t, 'nft');
  if (net === undefined || requirePeer(t, 'iptables-legacy') === undefined) return;
  const { pod } = net;
  t.equal(init(pod, ['--iptables-mode', 'legacy']).status, 0);
  const moved = init(pod, ['--iptables-mode', 'nft']);
  t.equal(moved.status, 0, moved.stderr);
  t.match(moved.stderr, "removed Ferrule's IPv4 rules from iptables-legacy");
  t.match(moved.stderr, "removed Ferrule's IPv6 rules from ip6tables-legacy");
  t.notMatch(saved(pod, 'legacy'), 'FERRULE');
  t.match(saved(pod, 'nft'), 'FERRULE_INIT_OUTPUT');
  await startGreeters(pod, [{ host: '127.0.0.1', port: 4140, banner: 'outbound' }]);
  t.strictSame(dial(pod, { targets: ['192.0.2.1:80'] }), ['outbound']);
});

t.test('reports a namespace that is not there', async (t) => {
  const { status, stderr } = init({ name: 'none', path: '/run/netns/ferrule-no-such' }, []);
  t.equal(status, 69);
  t.match(stderr, 'no network namespace /run/netns/ferrule-no-such');
});
