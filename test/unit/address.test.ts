import { BlockList, isIP } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import {
  Cidr,
  isLoopback,
  isUnspecified,
  parseIp,
  parsePort,
  parseSocketAddress,
  SocketAddress,
  sameIp,
  sameSocketAddress,
} from '../../proxy/core/address.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 200_000 : 5_000 };

const port = fc.integer({ min: 0, max: 65_535 });
const word = fc.oneof(fc.constantFrom(0, 1, 0xffff, 0xffff0000, 0xffffffff), fc.nat(0xffffffff));

/** Every address this product can hold: an IPv6 one is never IPv4-mapped. */
const address = fc.oneof(
  fc.tuple(word, port).map(([w3, p]) => new SocketAddress(4, 0, 0, 0, w3, p)),
  fc
    .tuple(word, word, word, word, port)
    .filter(([w0, w1, w2]) => w0 !== 0 || w1 !== 0 || w2 !== 0xffff)
    .map(([w0, w1, w2, w3, p]) => new SocketAddress(6, w0, w1, w2, w3, p)),
);

/** Texts that are addresses, or nearly. */
const nearlyIp = fc
  .array(
    fc.constantFrom(
      '0',
      '1',
      '00',
      '01',
      '255',
      '256',
      'ffff',
      'FFFF',
      '0a',
      '10000',
      'g',
      ' ',
      '.',
      ':',
      ':',
      '::',
      '1.2.3.4',
    ),
    { maxLength: 16 },
  )
  .map((parts) => parts.join(''));

t.test('what is printed reads back as the same address', async (t) => {
  fc.assert(
    fc.property(address, (original) => {
      const text = original.toString();
      const parsed = parseSocketAddress(text);
      return (
        parsed !== undefined &&
        sameSocketAddress(parsed, original) &&
        parsed.key === original.key &&
        isIP(original.ip) === original.family
      );
    }),
    RUNS,
  );
  t.equal(parseSocketAddress('[2001:DB8:0:0:1:0:0:1]:443')?.toString(), '[2001:db8::1:0:0:1]:443');
});

t.test('IPv6 is printed as browsers print it', async (t) => {
  fc.assert(
    fc.property(address, (original) => {
      if (original.family === 4) return new URL(`http://${original.ip}/`).hostname === original.ip;
      return new URL(`http://[${original.ip}]/`).hostname === `[${original.ip}]`;
    }),
    RUNS,
  );
  t.equal(parseIp('1:0:0:2:0:0:0:3')?.ip, '1:0:0:2::3', 'the longest run of zeros');
  t.equal(parseIp('1:0:0:2:3:0:0:4')?.ip, '1::2:3:0:0:4', 'the first of equal runs');
  t.equal(parseIp('1:0:2:3:4:5:6:7')?.ip, '1:0:2:3:4:5:6:7', 'one zero group stays');
  t.equal(parseIp('::')?.ip, '::');
});

t.test('a text is an address here exactly when it is one for Node', async (t) => {
  let accepted = 0;
  fc.assert(
    fc.property(nearlyIp, (text) => {
      const parsed = parseIp(text);
      if (parsed !== undefined) accepted++;
      return (parsed !== undefined) === (isIP(text) !== 0);
    }),
    RUNS,
  );
  t.ok(accepted > RUNS.numRuns / 200, `the texts are not all nonsense: ${accepted} addresses`);
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '010.0.0.1',
    '1:2:3:4:5:6:7',
    '1::2::3',
    ':::',
    'fe80::1%eth0',
    '1.2.3.4::',
    '1.2.3.256',
    '1:2:3:4::5:6:7:8',
  ]) {
    t.equal(parseIp(text), undefined, JSON.stringify(text));
  }
});

t.test('keys tell addresses apart', async (t) => {
  fc.assert(
    fc.property(address, address, (a, b) => (a.key === b.key) === sameSocketAddress(a, b)),
    RUNS,
  );
  fc.assert(
    fc.property(address, port, (a, p) => {
      const moved = a.withPort(p);
      return moved.port === p && sameIp(moved, a) && sameSocketAddress(moved, a) === (p === a.port);
    }),
    RUNS,
  );
  t.not(parseIp('0.0.0.1')?.key, parseIp('::1')?.key);
  t.not(parseSocketAddress('10.0.0.1:80')?.key, parseSocketAddress('10.0.0.2:79')?.key);
});

t.test('IPv4-mapped addresses are IPv4', async (t) => {
  fc.assert(
    fc.property(word, port, (w3, p) => {
      const plain = new SocketAddress(4, 0, 0, 0, w3, p);
      const mapped = parseSocketAddress(`[::ffff:${plain.ip}]:${p}`);
      return mapped !== undefined && sameSocketAddress(mapped, plain);
    }),
    RUNS,
  );
  t.equal(parseIp('::ffff:102:304')?.ip, '1.2.3.4');
  t.equal(parseIp('::1.2.3.4')?.family, 6, 'IPv4-compatible addresses (deprecated) are not');
});

t.test('socket addresses that are none', async (t) => {
  const texts = [
    '',
    ':80',
    '1.2.3.4',
    '1.2.3.4:',
    '1.2.3.4:65536',
    '1.2.3.4:080',
    '1.2.3.4:+1',
    '1.2.3.4: 1',
  ];
  for (const text of [
    ...texts,
    '::1:80',
    '[::1]',
    '[::1:80',
    '::1]:80',
    '[]:80',
    '[1.2.3.4]:80',
    '[[::1]]:80',
    'localhost:80',
  ]) {
    t.equal(parseSocketAddress(text), undefined, JSON.stringify(text));
  }
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      const parsed = parseSocketAddress(text);
      return parsed === undefined || parsed.port <= 65_535;
    }),
    RUNS,
  );
});

t.test('ports', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: -10, max: 70_000 }), (number) => {
      return parsePort(String(number)) === (number >= 0 && number <= 65_535 ? number : undefined);
    }),
    RUNS,
  );
  for (const text of ['', '00', '1e3', '0x50', ' 80', '80 ', '8_0', '80.0'])
    t.equal(parsePort(text), undefined, text);
});

t.test('a network contains what Node says it contains', async (t) => {
  const near = fc.tuple(address, address, fc.nat(128), fc.nat(128));
  let inside = 0;
  fc.assert(
    fc.property(near, ([network, other, bits, flipped]) => {
      const widest = network.family === 4 ? 32 : 128;
      const prefix = Math.min(bits, widest);
      // A neighbour that differs in one bit sits on either side of the boundary more often than a random address.
      const probe =
        network.family === other.family && flipped % 2 === 0 ? other : flipBit(network, flipped % widest);
      const cidr = Cidr.parse(`${network.ip}/${prefix}`);
      const list = new BlockList();
      const family = network.family === 4 ? 'ipv4' : 'ipv6';
      list.addSubnet(network.ip, prefix, family);
      const expected = list.check(probe.ip, family);
      if (expected) inside++;
      return cidr?.contains(probe) === expected && cidr.contains(network);
    }),
    RUNS,
  );
  t.ok(inside > RUNS.numRuns / 10 && inside < RUNS.numRuns, `both answers were seen: ${inside} inside`);
});

/** The same address with one bit changed, 0 being the most significant; unchanged where that would make it IPv4-mapped. */
function flipBit(address: SocketAddress, bit: number): SocketAddress {
  const words = address.family === 4 ? [address.w3] : [address.w0, address.w1, address.w2, address.w3];
  words[bit >>> 5] = (words[bit >>> 5] ^ (0x80000000 >>> (bit & 31))) >>> 0;
  if (address.family === 4) return new SocketAddress(4, 0, 0, 0, words[0], address.port);
  if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) return address;
  return new SocketAddress(6, words[0], words[1], words[2], words[3], address.port);
}

t.test('networks in text', async (t) => {
  t.equal(Cidr.parse('10.0.0.0/8')?.toString(), '10.0.0.0/8');
  t.equal(Cidr.parse('10.1.2.3')?.toString(), '10.1.2.3/32');
  t.equal(Cidr.parse('::1')?.toString(), '::1/128');
  t.equal(Cidr.parse('::ffff:10.0.0.0/104')?.toString(), '10.0.0.0/8');
  t.equal(Cidr.parse('::ffff:0:0/96')?.contains(parseIp('192.0.2.1')!), true);
  t.equal(Cidr.parse('::/0')?.contains(parseIp('192.0.2.1')!), false, 'IPv4 is not IPv6');
  for (const text of [
    '',
    '/8',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '::/129',
    '::ffff:10.0.0.0/24',
  ]) {
    t.equal(Cidr.parse(text), undefined, JSON.stringify(text));
  }
});

t.test('special addresses', async (t) => {
  const loopback = ['127.0.0.1', '127.255.255.254', '::1', '::ffff:127.0.0.1'];
  const unspecified = ['0.0.0.0', '::', '::ffff:0.0.0.0'];
  for (const text of loopback) t.ok(isLoopback(parseIp(text)!), text);
  for (const text of [...unspecified, '128.0.0.1', '126.255.255.255', '::2', '1::1'])
    t.notOk(isLoopback(parseIp(text)!), text);
  for (const text of unspecified) t.ok(isUnspecified(parseIp(text)!), text);
  for (const text of [...loopback, '128.0.0.0', '8000::']) t.notOk(isUnspecified(parseIp(text)!), text);
});
