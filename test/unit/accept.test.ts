import { networkInterfaces } from 'node:os';
import t from 'tap';
import { destinationOf, type OriginalDstMode } from '../../proxy/accept/destination.ts';
import { HostAddresses } from '../../proxy/accept/host.ts';
import { judge } from '../../proxy/accept/policy.ts';
import {
  Cidr,
  type LocalAddress,
  type OriginalDestination,
  parseSocketAddress,
  type SocketAddress,
} from '../../proxy/core/address.ts';
import { POLICIES } from '../../proxy/model/policy.ts';

function at<T extends SocketAddress>(text: string): T {
  const address = parseSocketAddress(text);
  if (address === undefined) throw new Error(`not an address: ${text}`);
  return address as T;
}

t.test('the destination by mode and by what the kernel said', async (t) => {
  const local = at<LocalAddress>('127.0.0.1:4140');
  const original = at<OriginalDestination>('10.96.0.10:80');
  const itself = at<OriginalDestination>('127.0.0.1:4140');
  const expected: Record<
    OriginalDstMode,
    [redirected: string | undefined, notRedirected: string | undefined]
  > = {
    auto: ['10.96.0.10:80', '127.0.0.1:4140'],
    required: ['10.96.0.10:80', undefined],
    off: ['127.0.0.1:4140', '127.0.0.1:4140'],
  };
  for (const [mode, [redirected, notRedirected]] of Object.entries(expected)) {
    const of = (dst: OriginalDestination | undefined) =>
      destinationOf(mode as OriginalDstMode, local, dst)?.toString();
    t.equal(of(original), redirected, `${mode}, redirected`);
    t.equal(of(undefined), notRedirected, `${mode}, ENOENT`);
    t.equal(of(itself), notRedirected, `${mode}, our own address`);
  }
});

t.test('what is local, and how often the interfaces are read', async (t) => {
  let reads = 0;
  let addresses = ['10.0.0.5', 'fe80::1', '2001:db8::5'];
  const host = new HostAddresses([], () => {
    reads++;
    return addresses;
  });
  t.ok(host.isLocal(at('127.9.9.9:1'), 0));
  t.ok(host.isLocal(at('[::1]:1'), 0));
  t.equal(reads, 0, 'loopback needs no look');
  t.ok(host.isLocal(at('10.0.0.5:1'), 0));
  t.ok(host.isLocal(at('[2001:db8::5]:1'), 0));
  t.notOk(host.isLocal(at('10.0.0.6:1'), 10));
  t.notOk(host.isLocal(at('10.0.0.7:1'), 20));
  t.equal(reads, 1, 'foreign addresses do not make it look again within a second');
  addresses = [...addresses, '10.0.0.6'];
  t.ok(host.isLocal(at('10.0.0.6:1'), 1_100), 'an address that came later is found');
  t.equal(reads, 2);
});

t.test("the proxy's own ports under every name of the host", async (t) => {
  const own = ['127.0.0.1:4140', '[::1]:4140', '0.0.0.0:4143', '[::]:4143', '10.0.0.5:9000'].map((text) =>
    at(text),
  );
  const host = new HostAddresses(own, () => ['10.0.0.5', '2001:db8::5']);
  const mine = [
    '127.0.0.1:4140',
    '[::1]:4140',
    '0.0.0.0:4140',
    '[::]:4140',
    '[::ffff:127.0.0.1]:4140',
    '127.0.0.1:4143',
    '127.0.0.7:4143',
    '10.0.0.5:4143',
    '[::ffff:10.0.0.5]:4143',
    '[2001:db8::5]:4143',
    '10.0.0.5:9000',
  ];
  for (const text of mine) t.ok(host.isOwn(at(text)), text);
  for (const text of [
    '10.0.0.6:4143',
    '10.0.0.5:4140',
    '10.0.0.5:80',
    '127.0.0.1:9000',
    '[2001:db8::6]:4143',
  ]) {
    t.notOk(host.isOwn(at(text)), text);
  }
});

t.test('policies, without and with a client identity', async (t) => {
  const networks = [Cidr.parse('10.0.0.0/8'), Cidr.parse('fd00::/8')].filter((cidr) => cidr !== undefined);
  const clients = ['10.1.2.3:1', '[fd00::1]:1', '192.0.2.1:1', '127.0.0.1:1'];
  const verdicts = (authenticated: boolean) =>
    Object.fromEntries(
      POLICIES.map((policy) => [
        policy,
        clients.map((client) => judge(policy, at(client), authenticated, networks)).join(' '),
      ]),
    );
  t.same(verdicts(true), {
    'all-unauthenticated': 'allow allow allow allow',
    'all-authenticated': 'allow allow allow allow',
    'cluster-unauthenticated': 'allow allow deny allow',
    'cluster-authenticated': 'allow allow deny allow',
    deny: 'deny deny deny allow',
    audit: 'audit audit audit audit',
  });
  t.same(verdicts(false), {
    'all-unauthenticated': 'allow allow allow allow',
    'all-authenticated': 'deny deny deny allow',
    'cluster-unauthenticated': 'allow allow deny allow',
    'cluster-authenticated': 'deny deny deny allow',
    deny: 'deny deny deny allow',
    audit: 'audit audit audit audit',
  });
});

t.test('the addresses of this very host are found', async (t) => {
  const host = new HostAddresses([]);
  const mine = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  t.ok(mine.length > 0, 'there is an interface');
  for (const { address, family } of mine) {
    const ip = address.split('%')[0];
    t.ok(host.isLocal(at(family === 'IPv4' ? `${ip}:1` : `[${ip}]:1`)), ip);
  }
  t.notOk(host.isLocal(at('192.0.2.77:1')));
  t.notOk(host.isLocal(at('[2001:db8::77]:1')));
});
