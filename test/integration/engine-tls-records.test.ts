/** The record layer by itself: the vectors of RFC 8448, an independent implementation, and spoiled streams. */

import { createCipheriv } from 'node:crypto';
import t from 'tap';
import { Random } from '../fuzz/model.ts';
import { CONTENT, RecordKey, splitRecords } from '../support/tls-records.ts';
import { type RecordsAddon, recordsAddon } from '../support/tls-records-addon.ts';

/** RFC 8448 section 3, "Simple 1-RTT Handshake". */
const RFC8448 = {
  client: hex('9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5'),
  server: hex('a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643'),
  clientData:
    hex(`1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b
    62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4`),
  serverData:
    hex(`17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8
    fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d`),
  clientAlert: hex('1703030013c9872760655666b74d7ff1153efd6db6d0b0e3'),
  serverAlert: hex('1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9'),
  payload: Buffer.from(Array.from({ length: 50 }, (_, i) => i)),
};

const SUITES = [
  { suite: 'TLS_AES_128_GCM_SHA256', cipher: 'AES-128-GCM', digest: 'SHA256', bytes: 32 },
  { suite: 'TLS_AES_256_GCM_SHA384', cipher: 'AES-256-GCM', digest: 'SHA384', bytes: 48 },
  { suite: 'TLS_CHACHA20_POLY1305_SHA256', cipher: 'ChaCha20-Poly1305', digest: 'SHA256', bytes: 32 },
] as const;

/** Another one: FERRULE_FUZZ_SEED. */
const SEED = Number(process.env.FERRULE_FUZZ_SEED ?? 1);

/** Streams that are spoiled per suite. */
const SPOILED_STREAMS = Number(process.env.FERRULE_FUZZ_ROUNDS ?? 300);

/** Compiling it takes seconds: once for all tests. */
const addon = recordsAddon(t);

const GOOD = { closed: 0, sendAlert: -1, peerAlert: -1 };

function hex(text: string): Buffer {
  return Buffer.from(text.replace(/\s/g, ''), 'hex');
}

t.test('RFC 8448 section 3: every record of application data, sealed and opened', async (t) => {
  const { client, server, payload, clientData, serverData, clientAlert, serverAlert } = RFC8448;
  const make = (isServer: number): number => addon.records('AES-128-GCM', 'SHA256', client, server, isServer);
  const atClient = make(0);
  t.equal(addon.seal(atClient, payload).toString('hex'), clientData.toString('hex'));
  t.equal(addon.sealAlert(atClient, 0).toString('hex'), clientAlert.toString('hex'));
  // The trace's server sends a ticket first, so that its data has the second number.
  const atServer = make(1);
  addon.seal(atServer, Buffer.from('x'));
  t.equal(addon.seal(atServer, payload).toString('hex'), serverData.toString('hex'));
  t.equal(addon.sealAlert(atServer, 0).toString('hex'), serverAlert.toString('hex'));
  const reader = make(1);
  t.same(addon.open(reader, clientData), { ...GOOD, plain: payload, consumed: 72 });
  t.same(addon.open(reader, clientAlert), { ...GOOD, plain: Buffer.alloc(0), consumed: 24, closed: 1 });
  const other = new RecordKey('TLS_AES_128_GCM_SHA256', client);
  t.equal(
    other.seal(CONTENT.data, payload).toString('hex'),
    clientData.toString('hex'),
    'and the tests agree',
  );
});

for (const { suite, cipher, digest, bytes } of SUITES) {
  t.test(`streams of ${suite}, whole and spoiled`, async (t) => {
    t.comment(`FERRULE_FUZZ_SEED=${SEED}`);
    const random = new Random(SEED);
    let alerts = 0;
    for (let round = 0; round < SPOILED_STREAMS; round++) {
      const [client, server] = [bytesFrom(random, bytes), bytesFrom(random, bytes)];
      const stream = makeStream(random, new RecordKey(suite, client));
      const good = addon.records(cipher, digest, client, server, 1);
      const whole = deliver(addon, good, random, stream.sealed);
      if (!whole.plain.equals(stream.plain) || whole.alert !== -1)
        throw new Error(`a whole stream: ${whole.alert}`);
      const sealed = addon.seal(good, stream.plain);
      const back = openAll(new RecordKey(suite, server), sealed);
      if (!back.equals(stream.plain)) throw new Error('what was sealed does not open');
      const spoiled = spoil(random, stream.sealed);
      const victim = addon.records(cipher, digest, client, server, 1);
      const result = deliver(addon, victim, random, spoiled);
      if (!stream.plain.subarray(0, result.plain.length).equals(result.plain)) {
        throw new Error(`round ${round}: bytes were delivered that nobody sent`);
      }
      if (result.alert >= 0) alerts++;
      // A stream that was cut at the end of a record is the only one without a fault.
      else if (result.rest === 0 && !stream.sealed.subarray(0, spoiled.length).equals(spoiled)) {
        throw new Error(`round ${round}: nothing was noticed`);
      }
    }
    t.ok(alerts > SPOILED_STREAMS / 2, `${alerts} of ${SPOILED_STREAMS} spoiled streams were refused`);
  });
}

/** Bytes that look random and follow from the seed. */
function bytesFrom(random: Random, length: number): Buffer {
  const counter = Buffer.alloc(16);
  counter.writeUInt32BE(random.int(2 ** 31));
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), counter).update(Buffer.alloc(length));
}

/** Data in records of all sizes, padding, key updates and empty records between. */
function makeStream(random: Random, key: RecordKey): { sealed: Buffer; plain: Buffer } {
  const sealed: Buffer[] = [];
  const plain: Buffer[] = [];
  for (let i = 1 + random.int(12); i > 0; i--) {
    const data = bytesFrom(random, random.int([2, 100, 2_000, 16_385][random.int(4)]));
    const padding = random.chance(30) ? Math.min(random.int(300), 16_384 - data.length) : 0;
    sealed.push(key.seal(CONTENT.data, data, { padding }));
    plain.push(data);
    if (!random.chance(20)) continue;
    sealed.push(key.seal(CONTENT.handshake, Buffer.of(24, 0, 0, 1, random.int(2))));
    key.update();
  }
  return { sealed: Buffer.concat(sealed), plain: Buffer.concat(plain) };
}

/** Feeds a stream in pieces, as reads would; stops at the first alert. */
function deliver(
  addon: RecordsAddon,
  connection: number,
  random: Random,
  stream: Buffer,
): { plain: Buffer; alert: number; rest: number } {
  const plain: Buffer[] = [];
  let rest: Buffer = Buffer.alloc(0);
  for (let at = 0; at < stream.length; ) {
    const size = random.length();
    const bytes = Buffer.concat([rest, stream.subarray(at, at + size)]);
    at += size;
    const opened = addon.open(connection, bytes);
    plain.push(opened.plain);
    rest = bytes.subarray(opened.consumed);
    const alert = Math.max(opened.sendAlert, opened.peerAlert, opened.closed - 1);
    if (alert >= 0) return { plain: Buffer.concat(plain), alert, rest: rest.length };
  }
  return { plain: Buffer.concat(plain), alert: -1, rest: rest.length };
}

function openAll(key: RecordKey, sealed: Buffer): Buffer {
  const plain: Buffer[] = [];
  for (const record of splitRecords(sealed).records) {
    const opened = key.open(record);
    if (opened === undefined) throw new Error('a record that does not open');
    if (opened.type === CONTENT.data) plain.push(opened.content);
    else key.update();
  }
  return Buffer.concat(plain);
}

/** Turns bits, cuts, repeats, swaps or adds: never the same stream again, or a mere beginning of it. */
function spoil(random: Random, stream: Buffer): Buffer {
  const { records } = splitRecords(stream);
  const i = random.int(records.length);
  const spoiled = Buffer.from(stream);
  switch (random.int(6)) {
    case 0:
      spoiled[random.int(stream.length)] ^= 1 << random.int(8);
      return spoiled;
    case 1:
      return stream.subarray(0, random.int(stream.length));
    case 2:
      return Buffer.concat([...records.slice(0, i), records[i], ...records.slice(i)]);
    case 3:
      return Buffer.concat([...records.slice(0, i), ...records.slice(i + 1)]);
    case 4: {
      const cut = random.int(stream.length);
      return Buffer.concat([
        stream.subarray(0, cut),
        bytesFrom(random, random.length() % 5_000),
        stream.subarray(cut),
      ]);
    }
    default:
      return Buffer.concat([stream, bytesFrom(random, 1 + random.int(100))]);
  }
}
