/** The transport header: byte vectors written down from the format, every split, and what a strict reader refuses. */
import fc from 'fast-check';
import t from 'tap';
import {
  encodeTransportHeader,
  readTransportHeader,
  TRANSPORT_ALPN,
  type TransportHeader,
} from '../../proxy/tls/transport-header.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 20_000 : 500 };

/** `transport.l5d.io/v1` CR LF CR LF. */
const PREFACE = Buffer.from('7472616e73706f72742e6c35642e696f2f76310d0a0d0a', 'hex');

/** Length and message in hexadecimal, without the preface. */
const VECTORS: readonly (readonly [TransportHeader, string])[] = [
  [{ port: 1 }, '00000002 0801'],
  [{ port: 80 }, '00000002 0850'],
  [{ port: 4143 }, '00000003 08af20'],
  [{ port: 65_535 }, '00000004 08ffff03'],
  [{ port: 8080, sessionProtocol: 'http/1' }, '00000007 08903f 1a020a00'],
  [{ port: 8080, sessionProtocol: 'http/2' }, '00000007 08903f 1a021200'],
  [
    { port: 8080, name: 'web.shop', sessionProtocol: 'http/2' },
    '00000011 08903f 12087765622e73686f70 1a021200',
  ],
];

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

/** A header around any message. */
function framed(message: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  return Buffer.concat([PREFACE, length, message]);
}

function readMessage(text: string): ReturnType<typeof readTransportHeader> {
  return readTransportHeader(framed(hex(text)));
}

t.test('byte vectors, both ways, at every split', async (t) => {
  t.equal(TRANSPORT_ALPN, 'transport.l5d.io/v1');
  for (const [header, text] of VECTORS) {
    const wire = Buffer.concat([PREFACE, hex(text)]);
    t.strictSame(Buffer.from(encodeTransportHeader(header)), wire, JSON.stringify(header));
    for (let length = 0; length < wire.length; length++) {
      if (readTransportHeader(wire.subarray(0, length)).kind !== 'more') t.fail(`decided at ${length} bytes`);
    }
    const followed = readTransportHeader(Buffer.concat([wire, Buffer.from('GET / HTTP/1.1')]));
    t.strictSame(followed, { kind: 'header', header, length: wire.length });
  }
});

t.test('what is encoded is read back', async (t) => {
  const header: fc.Arbitrary<TransportHeader> = fc.record(
    {
      port: fc.integer({ min: 1, max: 65_535 }),
      // With a byte order mark, which a lenient decoder drops.
      name: fc
        .array(fc.constantFrom('a', '.', '\0', '\ufeff', 'é', '🦀'), { maxLength: 90 })
        .map((all) => all.join('')),
      sessionProtocol: fc.constantFrom('http/1' as const, 'http/2' as const),
    },
    { requiredKeys: ['port'] },
  );
  fc.assert(
    fc.property(header, fc.uint8Array({ maxLength: 8 }), (given, rest) => {
      const wire = encodeTransportHeader(given);
      // Behind other bytes of a larger buffer, as bytes of a socket are.
      const within = Buffer.concat([Buffer.from('xyz'), wire, rest]).subarray(3);
      const read = readTransportHeader(within);
      if (read.kind !== 'header') return false;
      const same = JSON.stringify({ ...given }, Object.keys(given).sort());
      return (
        same === JSON.stringify(read.header, Object.keys(read.header).sort()) && read.length === wire.length
      );
    }),
    RUNS,
  );
  t.pass('any port, name and protocol');
});

t.test('another beginning is known at its first byte', async (t) => {
  t.match(readTransportHeader(Buffer.from('G')), { kind: 'malformed' });
  t.match(readTransportHeader(Buffer.from('transport.l5d.io/v2')), { kind: 'malformed' });
  t.match(readTransportHeader(Buffer.from('transport.l5d.io/v1\n')), { kind: 'malformed' });
});

t.test('fields that are unknown, repeated or in another order', async (t) => {
  const fine: Record<string, TransportHeader> = {
    // Field 4 as varint, 5 as 64 bits, 6 as bytes, 7 as 32 bits, and the highest field number there is.
    '0850 2001 290102030405060708 3203616263 3d01020304 f8ffffff0f01': { port: 80 },
    '0801 0850': { port: 80 },
    '1a021200 0850': { port: 80, sessionProtocol: 'http/2' },
    '0850 1a020a00 1a021200': { port: 80, sessionProtocol: 'http/2' },
    '0850 1a021a00': { port: 80 },
    '0850 1a00': { port: 80 },
    '08d08000': { port: 80 },
    // Http2 with a field of tomorrow in it.
    '0850 1a0412020801': { port: 80, sessionProtocol: 'http/2' },
  };
  for (const [text, header] of Object.entries(fine))
    t.match(readMessage(text), { kind: 'header', header }, text);
});

t.test('refused', async (t) => {
  const refused: Record<string, string> = {
    'no port': '',
    'port 0': '0800',
    'port 65536': '08808004',
    'a negative port': '08ffffffffffffffffff01',
    'a port that is 80 in its low 32 bits': '08d080808010',
    'a port as bytes': '0a0150',
    'a port as 32 bits': '0d50000000',
    'a varint of eleven bytes': '0880808080808080808080 00',
    'a varint of more than 64 bits': '08d08080808080808080 02',
    'a varint cut short': '0880',
    'field number 0': '0850 0000',
    'a field number beyond 2^29': '0850 808080801000',
    'a group': '0850 23 24',
    'wire type 6': '0850 2600',
    'a length beyond the end': '0850 120561',
    'a huge length': '0850 12ffffffff0f61',
    'a name as 32 bits': '0850 1561626364',
    'a name as a number': '0850 1001',
    'a name that is no UTF-8': '0850 1202c328',
    'a protocol as a number': '0850 1801',
    'a protocol as 32 bits': '0850 1d0a000a00',
    'a protocol whose kind is a number': '0850 1a020801',
    'a protocol whose kind is cut short': '0850 1a020a05',
    'a protocol whose kind is garbage': '0850 1a030a01ff',
  };
  for (const [what, text] of Object.entries(refused)) t.match(readMessage(text), { kind: 'malformed' }, what);
});

t.test('64 KiB of message and not one byte more', async (t) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(65_536);
  t.match(readTransportHeader(Buffer.concat([PREFACE, length])), { kind: 'more' });
  length.writeUInt32BE(65_537);
  t.match(readTransportHeader(Buffer.concat([PREFACE, length])), { kind: 'malformed', why: /65537/ });
  const name = 'n'.repeat(65_536 - 6);
  const wire = encodeTransportHeader({ port: 80, name });
  t.equal(wire.length, PREFACE.length + 4 + 65_536);
  t.match(readTransportHeader(wire), { kind: 'header', header: { port: 80, name } });
});

t.test('whatever comes, an answer', async (t) => {
  const kinds = new Set(['more', 'header', 'malformed']);
  const answers = (bytes: Uint8Array): boolean => kinds.has(readTransportHeader(bytes).kind);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), answers), RUNS);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (message) => {
      const read = readTransportHeader(framed(message));
      return (
        read.kind === 'malformed' ||
        (read.kind === 'header' && read.header.port >= 1 && read.header.port < 65_536)
      );
    }),
    RUNS,
  );
  t.pass('nothing throws, and no port is out of range');
});
