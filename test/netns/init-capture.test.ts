/** That the rules of `ferrule init` send real connections where they should go, in both back ends and families. */

import t from 'tap';
import { exec, spawn } from '../support/netns.ts';
import { requirePeer } from '../support/peers.ts';
import {
  createPod,
  dial,
  init,
  initCommand,
  initWithoutCapabilities,
  startGreeters,
} from '../support/pod.ts';

const BACKENDS = ['nft', 'legacy'] as const;

const PROXY = [
  { host: '127.0.0.1', port: 4140, banner: 'outbound' },
  { host: '::1', port: 4140, banner: 'outbound' },
  { host: '0.0.0.0', port: 4143, banner: 'inbound' },
  { host: '::', port: 4143, banner: 'inbound' },
];

/** Greets on a port of every address, in both families. */
const everywhere = (banner: string, ...ports: number[]) =>
  ports.flatMap((port) => [
    { host: '0.0.0.0', port, banner },
    { host: '::', port, banner },
  ]);

for (const backend of BACKENDS) {
  t.test(`${backend}: captures what goes out, but for the exceptions`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod, neighbour } = net;
    const ignore = [
      '--outbound-ports-to-ignore',
      '8025,8100-8110',
      '--subnets-to-ignore',
      '10.88.0.0/16,fd88::/16',
    ];
    const { status, stderr } = init(pod, ['--iptables-mode', backend, '--proxy-gid', '2103', ...ignore]);
    t.equal(status, 0, stderr);
    await startGreeters(pod, [...PROXY, ...everywhere('app', 8080)]);
    await startGreeters(neighbour, everywhere('neighbour', 80, 8025, 8024, 8105, 8111));
    const on = (port: number) => [`10.77.0.2:${port}`, `[fd77::2]:${port}`];
    const both = (banner: string) => [banner, banner];

    t.strictSame(dial(pod, { uid: 1000, targets: on(80) }), both('outbound'));
    t.strictSame(dial(pod, { targets: on(80) }), both('outbound'), 'root as well');
    t.strictSame(
      dial(pod, { targets: ['192.0.2.1:443', '[2001:db8::1]:443'] }),
      both('outbound'),
      'wherever it goes',
    );
    t.strictSame(dial(pod, { uid: 2102, targets: on(80) }), both('neighbour'), 'the proxy itself');
    t.strictSame(dial(pod, { uid: 1000, gid: 2103, targets: on(80) }), both('neighbour'), 'its group');
    t.strictSame(dial(pod, { targets: ['127.0.0.1:8080', '[::1]:8080'] }), both('app'), 'loopback');
    t.strictSame(dial(pod, { targets: ['10.77.0.1:8080', '[fd77::1]:8080'] }), both('app'), 'own addresses');
    t.strictSame(
      dial(pod, { targets: ['169.254.169.254:80', '[fd00:ec2::254]:80'] }),
      both('neighbour'),
      'metadata services',
    );
    t.strictSame(dial(pod, { targets: [...on(8025), ...on(8105)] }), Array(4).fill('neighbour'), 'ports');
    t.strictSame(
      dial(pod, { targets: [...on(8024), ...on(8111)] }),
      Array(4).fill('outbound'),
      'next to them',
    );
    t.strictSame(dial(pod, { targets: ['10.88.0.2:80', '[fd88::2]:80'] }), both('neighbour'), 'subnets');
  });

  t.test(`${backend}: captures what comes in, but for the exceptions`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod, neighbour } = net;
    const many = Array.from({ length: 40 }, (_, index) => 20000 + 2 * index);
    const ignore = [
      '--inbound-ports-to-ignore',
      `9000,${many}`,
      '--subnets-to-ignore',
      '10.88.0.0/16,fd88::/16',
    ];
    const { status, stderr } = init(pod, ['--iptables-mode', backend, ...ignore]);
    t.equal(status, 0, stderr);
    await startGreeters(pod, [...PROXY, ...everywhere('app', 22, 8080, 4191, 9000, 20078)]);
    const on = (port: number) => [`10.77.0.1:${port}`, `[fd77::1]:${port}`];
    const both = (banner: string) => [banner, banner];

    t.strictSame(dial(neighbour, { targets: on(8080) }), both('inbound'));
    t.strictSame(dial(neighbour, { targets: on(7777) }), both('inbound'), 'ports where nobody listens');
    t.strictSame(dial(neighbour, { targets: on(22) }), both('inbound'));
    t.strictSame(dial(neighbour, { targets: on(4143) }), both('inbound'), 'the inbound port itself');
    t.strictSame(
      dial(neighbour, { targets: on(4140) }),
      both('inbound'),
      'the outbound port is not for outsiders',
    );
    t.strictSame(dial(neighbour, { targets: on(4191) }), both('app'), 'the admin port');
    t.strictSame(dial(neighbour, { targets: on(9000) }), both('app'), 'an ignored port');
    t.strictSame(dial(neighbour, { targets: on(20078) }), both('app'), 'the fortieth of a long list');
    t.strictSame(dial(neighbour, { targets: on(20077) }), both('inbound'), 'and not the one before it');
    const ignored4 = dial(neighbour, { from: '10.88.0.2', targets: ['10.77.0.1:8080'] });
    const ignored6 = dial(neighbour, { from: 'fd88::2', targets: ['[fd77::1]:8080'] });
    t.strictSame([...ignored4, ...ignored6], both('app'), 'ignored sources');
  });

  t.test(`${backend}: takes only the listed ports of a VM, never ssh`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod, neighbour } = net;
    const args = ['--iptables-mode', backend, '--ports-to-redirect', '8080,1-1024'];
    t.equal(init(pod, args).status, 0);
    await startGreeters(pod, [...PROXY, ...everywhere('app', 22, 80, 8080, 8081)]);
    const on = (port: number) => [`10.77.0.1:${port}`, `[fd77::1]:${port}`];
    const targets = [...on(8080), ...on(80), ...on(22), ...on(8081)];
    const banners = ['inbound', 'inbound', 'inbound', 'inbound', 'app', 'app', 'app', 'app'];
    t.strictSame(dial(neighbour, { targets }), banners);
    t.equal(init(pod, [...args, '--ports-to-redirect', '22']).status, 0);
    t.strictSame(dial(neighbour, { targets: on(22) }), ['inbound', 'inbound'], 'unless named');
    t.strictSame(dial(pod, { targets: ['192.0.2.1:80'] }), ['outbound'], 'the way out is captured whole');
  });

  t.test(`${backend}: leaves the original destination readable`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined || requirePeer(t, 'python3') === undefined) return;
    const { pod } = net;
    t.equal(init(pod, ['--iptables-mode', backend]).status, 0);
    // SOL_IP or SOL_IPV6, SO_ORIGINAL_DST 80: the sockaddr of where the client meant to go.
    const program = `
import socket, struct, sys
for family, level, size, host in ((socket.AF_INET, 0, 16, '127.0.0.1'), (socket.AF_INET6, 41, 28, '::1')):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, 4140))
    listener.listen()
    print('ready', flush=True)
    accepted, _ = listener.accept()
    raw = accepted.getsockopt(level, 80, size)
    at = raw[4:8] if family == socket.AF_INET else raw[8:24]
    text = socket.inet_ntop(family, at) + ' ' + str(struct.unpack('!H', raw[2:4])[0])
    accepted.sendall(text.encode())
    accepted.close()
`;
    const child = spawn(pod, 'python3', ['-c', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = child.stdout![Symbol.asyncIterator]();
    for (const [target, seen] of [
      ['192.0.2.5:8443', '192.0.2.5 8443'],
      ['[2001:db8::5]:8443', '2001:db8::5 8443'],
    ]) {
      t.match(String((await lines.next()).value), 'ready');
      t.strictSame(dial(pod, { targets: [target] }), [seen]);
    }
  });

  t.test(`${backend}: --check proves capture, or says what is wrong`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined) return;
    const { pod } = net;
    const mode = ['--iptables-mode', backend];
    const check = (...args: string[]) => init(pod, [...mode, '--check', ...args]);

    const before = check();
    t.equal(before.status, 1, 'nothing installed');
    t.match(before.stdout, /FAIL +IPv4: no rules of Ferrule are installed: run `ferrule init`/);
    t.match(before.stdout, /FAIL +IPv4 outbound: .* was not captured/);

    t.equal(init(pod, mode).status, 0);
    const alone = check();
    t.equal(alone.status, 0, alone.stdout);
    t.match(alone.stdout, /ok +IPv4 outbound: .* arrived at port 4140 \(this check\)/);
    t.match(alone.stdout, /ok +IPv6 outbound: .* arrived at port 4140 \(this check\)/);
    t.match(alone.stdout, /note +IPv4 inbound: 0 connections redirected/);

    await startGreeters(pod, PROXY);
    const withProxy = check();
    t.equal(withProxy.status, 0, withProxy.stdout);
    t.match(withProxy.stdout, /ok +IPv4 outbound: .*\(the proxy that listens there\)/);

    const otherUid = check('--proxy-uid', '2222');
    t.equal(otherUid.status, 1, 'the rules are for another proxy');
    t.match(otherUid.stdout, /missing: .*--uid-owner 2222/);
    t.match(otherUid.stdout, /unexpected: .*--uid-owner 2102/);

    exec(pod, `ip6tables-${backend}`, ['-w', '5', '-t', 'nat', '-F', 'OUTPUT']);
    const holed = check();
    t.equal(holed.status, 1, 'a jump was removed');
    t.match(holed.stdout, /FAIL +IPv6, ip6tables-\w+: missing: -A OUTPUT .*-j FERRULE_INIT_OUTPUT/);
    t.match(holed.stdout, /FAIL +IPv6 outbound: .* was not captured/);
    t.match(holed.stdout, /ok +IPv4 outbound/);
  });

  t.test(`${backend}: --check does not take the proxy's own traffic for proof`, async (t) => {
    const net = createPod(t, backend);
    if (net === undefined || requirePeer(t, 'setpriv') === undefined) return;
    const { pod } = net;
    const mode = ['--iptables-mode', backend, '--proxy-gid', '2103'];
    t.equal(init(pod, mode).status, 0);
    t.equal(init(pod, [...mode, '--check']).status, 0);
    t.equal(init(pod, [...mode, '--check', '--outbound-ports-to-ignore', '1-65535']).status, 1);
    const asProxy = exec(pod, 'setpriv', [
      '--regid',
      '2103',
      '--clear-groups',
      ...initCommand(),
      ...mode,
      '--check',
    ]);
    t.equal(asProxy.status, 1);
    t.match(asProxy.stdout, /run it as another user/);
  });

  t.test(
    `${backend}: --check works without privileges and is not fooled by somebody who answers`,
    async (t) => {
      const net = createPod(t, backend);
      if (net === undefined || requirePeer(t, 'setpriv') === undefined) return;
      const { pod, neighbour } = net;
      t.equal(exec(neighbour, 'ip', ['addr', 'add', '192.0.2.1/32', 'dev', 'eth0']).status, 0);
      await startGreeters(neighbour, everywhere('impostor', 80));
      t.strictSame(dial(pod, { targets: ['192.0.2.1:80'] }), ['impostor']);
      const fooled = initWithoutCapabilities(pod, ['--check', '--ipv6', 'off']);
      t.equal(fooled.status, 1, fooled.stdout);
      t.match(fooled.stdout, /something accepted it, but not port 4140 of this host/);
      t.equal(init(pod, ['--iptables-mode', backend]).status, 0);
      const proven = initWithoutCapabilities(pod, ['--check', '--ipv6', 'off']);
      t.equal(proven.status, 0, proven.stdout);
      t.match(proven.stdout, /ok +IPv4 outbound/);
    },
  );
}
