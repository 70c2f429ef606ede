import fc from 'fast-check';
import t from 'tap';
import { readCaptureOptions } from '../../iptables-init/options.ts';
import {
  includesPort,
  MULTIPORT_SLOTS,
  parsePortRange,
  splitForMultiport,
} from '../../iptables-init/ports.ts';
import {
  type CaptureOptions,
  captureRules,
  type Family,
  formatRule,
  type Rule,
} from '../../iptables-init/rules.ts';
import { Cidr, parseIp, type SocketAddress } from '../../proxy/core/address.ts';

const RUNS = { seed: 20260, numRuns: 300 };

/** A TCP packet that starts a connection. */
interface Packet {
  readonly hook: 'PREROUTING' | 'OUTPUT';
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly uid?: number;
  readonly gid?: number;
  readonly outInterface?: string;
}

/** What the kernel does with a packet: the port it is redirected to, or undefined when it passes. */
function fate(rules: readonly Rule[], packet: Packet): number | undefined {
  const walk = (chain: string): number | 'fell through' | 'returned' => {
    for (const { match, verdict } of rules.filter((rule) => rule.chain === chain)) {
      const holds =
        (match.ports === undefined || includesPort(match.ports, packet.destination.port)) &&
        (match.source === undefined || match.source.contains(packet.source)) &&
        (match.destination === undefined || match.destination.contains(packet.destination)) &&
        (match.uid === undefined || match.uid === packet.uid) &&
        (match.gid === undefined || match.gid === packet.gid) &&
        (match.outInterface === undefined || match.outInterface === packet.outInterface);
      if (!holds) continue;
      if (verdict.kind === 'redirect') return verdict.port;
      if (verdict.kind === 'return') return 'returned';
      const result = walk(verdict.chain);
      if (typeof result === 'number') return result;
    }
    return 'fell through';
  };
  const result = walk(packet.hook);
  return typeof result === 'number' ? result : undefined;
}

function options(change: Partial<CaptureOptions> = {}): CaptureOptions {
  return {
    inboundPort: 4143,
    outboundPort: 4140,
    adminPort: 4191,
    portsToRedirect: [],
    inboundPortsToIgnore: [],
    outboundPortsToIgnore: [],
    subnetsToIgnore: [],
    proxyUid: 2102,
    proxyGid: undefined,
    ...change,
  };
}

const ports = (...texts: string[]) => texts.map((text) => parsePortRange(text)!);
const subnets = (...texts: string[]) => texts.map((text) => Cidr.parse(text)!);
const at = (ip: string, port: number) => parseIp(ip, port)!;
const inbound = (destinationPort: number, source = '10.0.0.9'): Packet => ({
  hook: 'PREROUTING',
  source: at(source, 40000),
  destination: at(source.includes(':') ? 'fd00::1' : '10.0.0.1', destinationPort),
});
const outbound = (to: SocketAddress, who: Partial<Packet> = {}): Packet => ({
  hook: 'OUTPUT',
  source: at(to.family === 4 ? '10.0.0.1' : 'fd00::1', 40000),
  destination: to,
  uid: 1000,
  gid: 1000,
  outInterface: 'eth0',
  ...who,
});

const anyRange = fc
  .tuple(fc.integer({ min: 1, max: 65535 }), fc.integer({ min: 0, max: 400 }), fc.boolean())
  .map(([first, length, single]) => ({ first, last: single ? first : Math.min(65535, first + length) }));
const anyFamily = fc.constantFrom<Family>(4, 6);

t.test('captures everything by default, both ways, both families', async (t) => {
  for (const family of [4, 6] as const) {
    const rules = captureRules(options(), family);
    const [near, far] = family === 4 ? ['10.0.0.9', '198.51.100.7'] : ['fd00::9', '2001:db8::7'];
    t.equal(fate(rules, inbound(8080, near)), 4143);
    t.equal(fate(rules, inbound(22, near)), 4143, 'ssh in a pod is traffic like any other');
    t.equal(fate(rules, outbound(at(far, 443))), 4140);
    t.equal(fate(rules, inbound(4191, near)), undefined, 'the admin port is never redirected');
  }
});

t.test('leaves the proxy, loopback and metadata services alone on the way out', async (t) => {
  const rules = captureRules(options({ proxyGid: 77 }), 4);
  const far = at('198.51.100.7', 80);
  t.equal(fate(rules, outbound(far, { uid: 2102 })), undefined);
  t.equal(fate(rules, outbound(far, { gid: 77 })), undefined);
  t.equal(fate(rules, outbound(far, { outInterface: 'lo' })), undefined);
  t.equal(fate(rules, outbound(at('169.254.169.254', 80))), undefined);
  t.equal(fate(rules, outbound(at('169.254.170.2', 80))), undefined, 'ECS credentials');
  t.equal(fate(rules, outbound(at('169.254.169.253', 80))), 4140, 'and nothing next to them');
  t.equal(fate(captureRules(options(), 6), outbound(at('fd00:ec2::254', 80))), undefined);
  t.equal(fate(captureRules(options(), 4), outbound(far, { gid: 77 })), 4140, 'no gid rule without a gid');
});

t.test('keeps the order: uid, gid, loopback, exceptions, redirect', async (t) => {
  const change = {
    proxyGid: 77,
    outboundPortsToIgnore: ports('25'),
    subnetsToIgnore: subnets('10.9.0.0/16'),
  };
  const names = captureRules(options(change), 4)
    .filter(({ chain }) => chain === 'FERRULE_INIT_OUTPUT')
    .map(({ name }) => name.replace('outbound-', ''));
  t.strictSame(names, [
    'proxy-uid',
    'proxy-gid',
    'loopback',
    'metadata-1',
    'metadata-2',
    'metadata-3',
    'ignore-ports-1',
    'ignore-subnet-1',
    'redirect',
  ]);
});

t.test('takes only what is listed on a VM, and 22 only by name', async (t) => {
  const listed = captureRules(options({ portsToRedirect: ports('80', '1-1024') }), 4);
  t.equal(fate(listed, inbound(80)), 4143);
  t.equal(fate(listed, inbound(21)), 4143);
  t.equal(fate(listed, inbound(22)), undefined, 'a range does not name ssh');
  t.equal(fate(listed, inbound(8080)), undefined);
  const named = captureRules(options({ portsToRedirect: ports('1-1024', '22') }), 4);
  t.equal(fate(named, inbound(22)), 4143);
  t.equal(fate(listed, outbound(at('198.51.100.7', 8080))), 4140, 'the way out is captured whole');
});

t.test('matches subnets by source inbound and by destination outbound, each in its family', async (t) => {
  const change = { subnetsToIgnore: subnets('192.168.0.0/16', 'fd99::/16') };
  const four = captureRules(options(change), 4);
  t.equal(fate(four, inbound(80, '192.168.3.4')), undefined);
  t.equal(fate(four, inbound(80)), 4143);
  t.equal(fate(four, outbound(at('192.168.3.4', 80))), undefined);
  t.notMatch(four.map(formatRule).join('\n'), /fd99/);
  const six = captureRules(options(change), 6);
  t.equal(fate(six, inbound(80, 'fd99::1')), undefined);
  t.equal(fate(six, outbound(at('fd99::1', 80))), undefined);
  t.notMatch(six.map(formatRule).join('\n'), /192\.168/);
});

t.test('exempts exactly the ignored ports, whatever they are (property)', async (t) => {
  const lists = fc.array(anyRange, { maxLength: 60 });
  const property = fc.property(
    lists,
    lists,
    anyFamily,
    fc.integer({ min: 1, max: 65535 }),
    (ins, outs, family, port) => {
      const rules = captureRules(options({ inboundPortsToIgnore: ins, outboundPortsToIgnore: outs }), family);
      const far = family === 4 ? '198.51.100.7' : '2001:db8::7';
      const edges = [...ins, ...outs].flatMap(({ first, last }) => [first - 1, first, last, last + 1]);
      for (const probe of [port, ...edges].filter((one) => one >= 1 && one <= 65535)) {
        const wantIn = includesPort(ins, probe) || probe === 4191 ? undefined : 4143;
        const wantOut = includesPort(outs, probe) ? undefined : 4140;
        const source = family === 4 ? '10.0.0.9' : 'fd00::9';
        if (fate(rules, inbound(probe, source)) !== wantIn) return false;
        if (fate(rules, outbound(at(far, probe))) !== wantOut) return false;
      }
      return true;
    },
  );
  t.doesNotThrow(() => fc.assert(property, RUNS));
});

t.test('splits port lists to fit the multiport match, losing none (property)', async (t) => {
  const property = fc.property(fc.array(anyRange, { maxLength: 100 }), (ranges) => {
    const groups = splitForMultiport(ranges);
    const fits = groups.every((group) => {
      const slots = group.reduce((sum, { first, last }) => sum + (first === last ? 1 : 2), 0);
      return group.length > 0 && slots <= MULTIPORT_SLOTS;
    });
    return fits && JSON.stringify(groups.flat()) === JSON.stringify(ranges);
  });
  t.doesNotThrow(() => fc.assert(property, RUNS));
  const singles = Array.from({ length: 16 }, (_, index) => ({ first: index + 1, last: index + 1 }));
  t.strictSame(
    splitForMultiport(singles).map(({ length }) => length),
    [15, 1],
  );
  const pairs = singles.map(({ first }) => ({ first, last: first + 5 }));
  t.strictSame(
    splitForMultiport(pairs).map(({ length }) => length),
    [7, 7, 2],
    'a range counts two',
  );
});

t.test('gives every rule a name of its own', async (t) => {
  const many = Array.from({ length: 50 }, (_, index) => ({
    first: 1000 + 2 * index,
    last: 1000 + 2 * index,
  }));
  const change = {
    portsToRedirect: many,
    inboundPortsToIgnore: many,
    outboundPortsToIgnore: many,
    proxyGid: 5,
  };
  for (const family of [4, 6] as const) {
    const names = captureRules(options(change), family).map(({ name }) => name);
    t.equal(new Set(names).size, names.length);
  }
});

t.test('writes rules the way iptables-save does', async (t) => {
  const change = { inboundPortsToIgnore: ports('25', '8000-8100'), subnetsToIgnore: subnets('0.0.0.0/0') };
  const lines = captureRules(options(change), 4).map(formatRule);
  const comment = (name: string) => `-m comment --comment ferrule/${name}`;
  t.has(lines, [
    `-A FERRULE_INIT_REDIRECT -p tcp -m multiport --dports 4191 ${comment('inbound-admin-port')} -j RETURN`,
    `-A FERRULE_INIT_REDIRECT -p tcp -m multiport --dports 25,8000:8100 ${comment('inbound-ignore-ports-1')} -j RETURN`,
    `-A FERRULE_INIT_REDIRECT -p tcp ${comment('inbound-ignore-subnet-1')} -j RETURN`,
    `-A FERRULE_INIT_REDIRECT -p tcp ${comment('inbound-redirect')} -j REDIRECT --to-ports 4143`,
    `-A FERRULE_INIT_OUTPUT -m owner --uid-owner 2102 ${comment('outbound-proxy-uid')} -j RETURN`,
    `-A FERRULE_INIT_OUTPUT -o lo ${comment('outbound-loopback')} -j RETURN`,
  ]);
});

t.test('reads ports and subnets as users write them', async (t) => {
  t.strictSame(parsePortRange('80'), { first: 80, last: 80 });
  t.strictSame(parsePortRange('80-90'), { first: 80, last: 90 });
  t.strictSame(parsePortRange('80:90'), { first: 80, last: 90 });
  for (const wrong of ['', '0', '65536', '90-80', '1-2-3', '-5', '5-', '080', 'ssh', '1 2']) {
    t.equal(parsePortRange(wrong), undefined, JSON.stringify(wrong));
  }
});

t.test('collects lists over repeated flags and removes host bits', async (t) => {
  const mistakes: string[] = [];
  const lists: Record<string, string[]> = {
    'outbound-ports-to-ignore': ['25,587,', ' 3306 , 8000-8100'],
    'subnets-to-ignore': ['10.1.2.3/8,fd12:3456::1/16', '192.0.2.7'],
  };
  const singles: Record<string, string> = {
    'inbound-port': '4143',
    'outbound-port': '4143',
    'admin-port': '4191',
    'proxy-uid': '2102',
  };
  const raw = { text: (name: string) => singles[name], list: (name: string) => lists[name] ?? [] };
  const capture = readCaptureOptions(raw, mistakes);
  t.strictSame(capture.outboundPortsToIgnore, ports('25', '587', '3306', '8000-8100'));
  t.strictSame(capture.subnetsToIgnore.map(String), ['10.0.0.0/8', 'fd12::/16', '192.0.2.7/32']);
  t.strictSame(mistakes, ['--inbound-port, --outbound-port and --admin-port must be three different ports']);
});
