/** ClientHellos that Node's OpenSSL makes, and made-up ones, at every split, in any records, and broken. */
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import fc from 'fast-check';
import t from 'tap';
import { readClientHello } from '../../proxy/detect/client-hello.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 20_000 : 500 };
const NAME = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
const MORE = { kind: 'more' };
const NOT_TLS = { kind: 'not-tls' };

/** What OpenSSL sends first, as it is on the wire. */
async function opensslHello(options: tls.ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const transport = new Duplex({
      read() {},
      write(chunk: Buffer, _, done) {
        done();
        resolve(chunk);
        // It may write before connect() has returned it.
        queueMicrotask(() => socket.destroy());
      },
    });
    const socket = tls.connect({ ...options, socket: transport });
    socket.on('error', reject);
  });
}

function sized(lengthBytes: 1 | 2 | 3, ...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const length = Buffer.alloc(lengthBytes);
  length.writeUIntBE(body.length, 0, lengthBytes);
  return Buffer.concat([length, body]);
}

function extension(type: number, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([type >> 8, type & 255]), sized(2, body)]);
}

/** A server_name extension with one name. */
function serverName(name: Uint8Array, type = 0): Buffer {
  return extension(0, sized(2, Uint8Array.of(type), sized(2, name)));
}

/** A handshake message with these extensions, GREASE (RFC 8701) around them. */
function message(...extensions: Uint8Array[]): Buffer {
  const grease = extension(0x2a2a, new Uint8Array(0));
  const body = sized(
    3,
    Buffer.from([3, 3]),
    Buffer.alloc(32, 7),
    sized(1, Buffer.alloc(32, 9)),
    sized(2, Buffer.from([0x4a, 0x4a, 0x13, 0x01])),
    sized(1, Buffer.from([0])),
    sized(2, grease, ...extensions, extension(0xfafa, Buffer.from([0]))),
  );
  return Buffer.concat([Uint8Array.of(1), body]);
}

/** A message in records of the given sizes; the last one takes what is left, at most 2^14 bytes at a time. */
function records(handshake: Uint8Array, sizes: readonly number[] = []): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0, i = 0; at < handshake.length; i++) {
    const part = handshake.subarray(at, at + (sizes[i] ?? 1 << 14));
    parts.push(Buffer.concat([Buffer.from([22, 3, 1]), sized(2, part)]));
    at += part.length;
  }
  return Buffer.concat(parts);
}

/** Every prefix says `more`, all of it is a hello, whatever follows. */
function isHelloOnlyWhenWhole(wire: Uint8Array): boolean {
  for (let length = 0; length < wire.length; length++) {
    if (readClientHello(wire.subarray(0, length)).kind !== 'more') return false;
  }
  const whole = readClientHello(wire);
  const followed = readClientHello(Buffer.concat([wire, Buffer.from('early data, or anything')]));
  return whole.kind === 'hello' && JSON.stringify(whole) === JSON.stringify(followed);
}

t.test('hellos of OpenSSL, at every split', async (t) => {
  const variants: Record<string, tls.ConnectionOptions> = {
    'post-quantum': { servername: NAME, ecdhCurve: 'X25519MLKEM768:X25519:P-256', minVersion: 'TLSv1.3' },
    classical: { servername: NAME, ecdhCurve: 'X25519', ALPNProtocols: ['transport.l5d.io/v1'] },
    'TLS 1.2': { servername: NAME, maxVersion: 'TLSv1.2' },
  };
  for (const [what, options] of Object.entries(variants)) {
    const wire = await opensslHello(options);
    if (what === 'post-quantum') t.ok(wire.length > 1_200, 'the key share of X25519MLKEM768 is in it');
    t.strictSame(readClientHello(wire), { kind: 'hello', serverName: NAME }, what);
    t.ok(isHelloOnlyWhenWhole(wire), `${what}: every split`);
    for (const size of [1, 2, 3, 4, 5, 100]) {
      const many = records(wire.subarray(5), Array(wire.length).fill(size));
      t.ok(isHelloOnlyWhenWhole(many), `${what}: every split, in records of ${size} bytes`);
      t.strictSame(readClientHello(many), { kind: 'hello', serverName: NAME });
    }
  }
  const nameless = await opensslHello({});
  t.strictSame(readClientHello(nameless), { kind: 'hello', serverName: undefined });
});

t.test('records of any sizes say the same', async (t) => {
  const wire = await opensslHello({ servername: NAME });
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 40 }), (sizes) => {
      const read = readClientHello(records(wire.subarray(5), sizes));
      return read.kind === 'hello' && read.serverName === NAME;
    }),
    RUNS,
  );
  t.pass('at any record boundary');
});

t.test('server names', async (t) => {
  const read = (...extensions: Uint8Array[]) => readClientHello(records(message(...extensions)));
  t.strictSame(read(serverName(Buffer.from('Web.Shop.EXAMPLE'))), {
    kind: 'hello',
    serverName: 'web.shop.example',
  });
  t.strictSame(read(), { kind: 'hello', serverName: undefined });
  const broken: Record<string, Uint8Array[]> = {
    'an empty name': [serverName(new Uint8Array(0))],
    'a NUL': [serverName(Buffer.from('web\0.evil'))],
    'a blank': [serverName(Buffer.from('web evil'))],
    'not ASCII': [serverName(Buffer.from('wéb'))],
    'a name of another type': [serverName(Buffer.from('web'), 1)],
    'two names in the list': [
      extension(
        0,
        sized(2, Buffer.from([0]), sized(2, Buffer.from('a')), Buffer.from([0]), sized(2, Buffer.from('b'))),
      ),
    ],
    'two extensions': [serverName(Buffer.from('a')), serverName(Buffer.from('b'))],
    'no list': [extension(0, new Uint8Array(0))],
    'an empty list': [extension(0, Buffer.from([0, 0]))],
    'a list beyond its extension': [extension(0, Buffer.from([0, 9, 0, 0, 1, 97]))],
    'a name beyond its list': [extension(0, Buffer.from([0, 4, 0, 0, 9, 97]))],
  };
  for (const [what, extensions] of Object.entries(broken)) {
    t.match(read(...extensions), { kind: 'malformed', why: /server name/ }, what);
  }
});

t.test('plaintext is known at the first byte that cannot be TLS', async (t) => {
  t.strictSame(readClientHello(new Uint8Array(0)), MORE);
  for (const text of ['GET / HTTP/1.1', 'PRI * HTTP/2.0', 'SSH-2.0-x', '\0\0\0\x08\x04\xd2\x16\x2f']) {
    t.strictSame(readClientHello(Buffer.from(text.slice(0, 1), 'latin1')), NOT_TLS, JSON.stringify(text));
  }
  t.strictSame(readClientHello(Buffer.from([22])), MORE);
  t.strictSame(readClientHello(Buffer.from([22, 2])), NOT_TLS);
  t.strictSame(readClientHello(Buffer.from([22, 3])), MORE);
  t.strictSame(readClientHello(Buffer.from([22, 3, 5])), NOT_TLS);
  t.strictSame(readClientHello(Buffer.from([22, 3, 1])), MORE);
});

t.test('sizes up to the limit, and beyond it at once', async (t) => {
  const padding = (bytes: number) => extension(21, new Uint8Array(bytes));
  const name = serverName(Buffer.from('a.example'));
  // The extensions of a hello have a length of 16 bits, so the message cannot be much above the limit of 64 KiB.
  const largest = message(name, padding(65_400));
  t.strictSame(readClientHello(records(largest)), { kind: 'hello', serverName: 'a.example' });
  const header = (size: number) =>
    Buffer.from([22, 3, 1, 64, 0, 1, size >> 16, (size >> 8) & 255, size & 255]);
  t.strictSame(readClientHello(header(65_536)), MORE);
  t.match(readClientHello(header(65_537)), { kind: 'malformed', why: /65537 bytes/ });
});

t.test('what is no ClientHello at the place of one', async (t) => {
  const whole = message(serverName(Buffer.from('a.example')));
  const malformed: Record<string, Uint8Array> = {
    'a ServerHello': Buffer.from([22, 3, 3, 0, 4, 2]),
    'an empty record': Buffer.from([22, 3, 1, 0, 0]),
    'a record above 2^14': Buffer.from([22, 3, 1, 0x40, 1]),
    'an alert in between': Buffer.concat([records(whole.subarray(0, 50)), Buffer.from([21, 3, 3, 0, 2])]),
    'an empty message': Buffer.from([22, 3, 1, 0, 4, 1, 0, 0, 0]),
    'a session id beyond the end': records(
      Buffer.concat([Uint8Array.of(1), sized(3, Buffer.alloc(34), Buffer.from([200, 1]))]),
    ),
  };
  for (const [what, bytes] of Object.entries(malformed)) {
    t.match(readClientHello(bytes), { kind: 'malformed' }, what);
  }
  const cut = records(Buffer.concat([Uint8Array.of(1), sized(3, whole.subarray(4, -1))]));
  t.match(readClientHello(cut), { kind: 'malformed', why: /length/ }, 'a message that is cut short');
});

t.test('a flood of tiny records costs little and ends', async (t) => {
  const tiny = Buffer.concat(Array.from({ length: 5_000 }, () => Buffer.from([22, 3, 1, 0, 1, 1])));
  // The message begins like one of 64 KB.
  tiny[11] = 0;
  tiny[17] = 255;
  tiny[23] = 255;
  const upTo = (count: number) => readClientHello(tiny.subarray(0, 6 * count));
  t.strictSame(upTo(4_096), MORE);
  t.match(upTo(4_097), { kind: 'malformed', why: /4096 records/ });
  // Quadratic work took 200 ms for each of these.
  const begun = performance.now();
  for (let i = 0; i < 20; i++) upTo(4_000);
  t.ok(performance.now() - begun < 1_000);
});

t.test('whatever comes, an answer', async (t) => {
  const wire = await opensslHello({ servername: NAME });
  const kinds = new Set(['more', 'not-tls', 'hello', 'malformed']);
  const answers = (bytes: Uint8Array): boolean => kinds.has(readClientHello(bytes).kind);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), answers), RUNS);
  const begun = fc
    .uint8Array({ maxLength: 300 })
    .map((rest) => Buffer.concat([Buffer.from([22, 3, 1]), rest]));
  fc.assert(fc.property(begun, answers), RUNS);
  const place = fc.integer({ min: 0, max: wire.length - 1 });
  const changed = fc.array(fc.tuple(place, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(changed, (changes) => {
      const bytes = Buffer.from(wire);
      for (const [at, byte] of changes) bytes[at] = byte;
      return answers(bytes);
    }),
    RUNS,
  );
  t.pass('nothing throws');
});
