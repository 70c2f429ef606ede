/** The record layer against a peer that has the keys and breaks the rules: RFC 8446 section 5. */

import { constants } from 'node:os';
import t, { type Test } from 'tap';
import { type Seen, until } from '../support/engine.ts';
import { serve } from '../support/engine-peers.ts';
import { connectTls, listenTls, nothingLeft, startTlsRig, type TlsRig } from '../support/engine-tls.ts';
import { CONTENT } from '../support/tls-records.ts';
import { type ScriptedPeer, scriptedClient, scriptedServer } from '../support/tls-script.ts';

const { ECONNRESET, EPROTO } = constants.errno;

/** Added to alerts that the engine sent. */
const OURS = 256;

const UNEXPECTED_MESSAGE = 10;
const BAD_RECORD_MAC = 20;
const RECORD_OVERFLOW = 22;
const ILLEGAL_PARAMETER = 47;
const DECODE_ERROR = 50;

const PLAIN_BYTES = 1 << 14;

/** A ticket nobody reads: lifetime, age, nonce, ticket, extensions. */
const TICKET = Buffer.from('04000014000000640000000004aabbccdd00040102030405060000'.slice(0, 48), 'hex');
const KEY_UPDATE = Buffer.from('1800000100', 'hex');
const KEY_UPDATE_REQUESTED = Buffer.from('1800000101', 'hex');

/** A scripted client and the engine's side of it. */
async function attacker(
  t: Test,
  suite = 'TLS_AES_128_GCM_SHA256',
): Promise<{ rig: TlsRig; peer: ScriptedPeer; seen: Seen }> {
  const rig = await startTlsRig(t);
  const { engine } = rig.test;
  const address = listenTls(rig, {
    data: (seen, offset, length) => {
      seen.received.push(Buffer.from(engine.slab.subarray(offset, offset + length)));
      engine.sendRange(seen.id, offset, length);
    },
    end: (seen) => engine.shutdown(seen.id),
  });
  const { clientCredential: credential, pki } = rig;
  const peer = await scriptedClient(t, address, { credential, anchors: pki.anchors, suite });
  await until(() => rig.test.accepts[0]?.count('secured') === 1, 'the handshake');
  return { rig, peer, seen: rig.test.accepts[0] };
}

/** The same the other way round: the engine is the client. */
async function falseServer(t: Test): Promise<{ rig: TlsRig; peer: ScriptedPeer; seen: Seen }> {
  const rig = await startTlsRig(t);
  const server = await serve(t, () => {}, true);
  const seen = connectTls(rig, server.address);
  const { socket } = await server.peer();
  socket.removeAllListeners('data');
  const { serverCredential: credential, pki } = rig;
  const peer = await scriptedServer(t, socket, { credential, anchors: pki.anchors });
  await until(() => seen.count('secured') === 1, 'the handshake');
  return { rig, peer, seen };
}

interface Attack {
  readonly name: string;
  readonly alert: number;
  readonly attack: (peer: ScriptedPeer) => void;
}

const ATTACKS: readonly Attack[] = [
  {
    name: 'a record that is not authentic',
    alert: BAD_RECORD_MAC,
    attack: (peer) => peer.send(CONTENT.data, 'forged', { spoilTag: true }),
  },
  {
    name: 'a record that came before',
    alert: BAD_RECORD_MAC,
    attack: (peer) => {
      const record = peer.writing.seal(CONTENT.data, Buffer.from('twice'));
      peer.raw.write(record);
      peer.raw.write(record);
    },
  },
  {
    name: 'a record that was left out',
    alert: BAD_RECORD_MAC,
    attack: (peer) => {
      peer.writing.seal(CONTENT.data, Buffer.from('lost'));
      peer.data('next');
    },
  },
  {
    name: 'a record of 2^14 + 1 bytes',
    alert: RECORD_OVERFLOW,
    attack: (peer) => peer.data(Buffer.alloc(PLAIN_BYTES + 1)),
  },
  {
    name: 'padding beyond the limit',
    alert: RECORD_OVERFLOW,
    attack: (peer) => peer.send(CONTENT.data, Buffer.alloc(PLAIN_BYTES - 10), { padding: 11 }),
  },
  {
    name: 'a header that announces more than a record may have',
    alert: RECORD_OVERFLOW,
    attack: (peer) => peer.raw.write(Buffer.of(CONTENT.data, 3, 3, 0x41, 0x01)),
  },
  {
    name: 'a header that announces less than a tag',
    alert: BAD_RECORD_MAC,
    attack: (peer) => peer.raw.write(Buffer.concat([Buffer.of(CONTENT.data, 3, 3, 0, 16), Buffer.alloc(16)])),
  },
  {
    name: 'padding and nothing else',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.data, '', { untyped: true, padding: 50 }),
  },
  {
    name: 'a record that shows what it is',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.handshake, KEY_UPDATE, { outerType: CONTENT.handshake }),
  },
  {
    name: 'a plaintext alert',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.raw.write(Buffer.of(CONTENT.alert, 3, 3, 0, 2, 2, 40)),
  },
  {
    name: 'a plaintext change of cipher',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.raw.write(Buffer.of(CONTENT.changeCipherSpec, 3, 3, 0, 1, 1)),
  },
  {
    name: 'a sealed change of cipher',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.changeCipherSpec, Buffer.of(1)),
  },
  {
    name: 'a content type nobody knows',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(99, 'what'),
  },
  {
    name: 'plaintext',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.raw.write('GET / HTTP/1.1\r\n\r\n'),
  },
  {
    name: '33 empty records',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => {
      for (let i = 0; i < 33; i++) peer.data('');
    },
  },
  {
    name: '33 key updates',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => {
      for (let i = 0; i < 33; i++) {
        peer.send(CONTENT.handshake, KEY_UPDATE);
        peer.writing.update();
      }
    },
  },
  {
    name: 'a key update that asks for 2',
    alert: ILLEGAL_PARAMETER,
    attack: (peer) => peer.send(CONTENT.handshake, Buffer.from('1800000102', 'hex')),
  },
  {
    name: 'a key update of two bytes',
    alert: DECODE_ERROR,
    attack: (peer) => peer.send(CONTENT.handshake, Buffer.from('180000020000', 'hex')),
  },
  {
    name: 'a key update with another behind it in its record',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.handshake, Buffer.concat([KEY_UPDATE, KEY_UPDATE])),
  },
  {
    name: 'data amid a handshake message',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => {
      peer.send(CONTENT.handshake, KEY_UPDATE.subarray(0, 3));
      peer.data('interrupted');
    },
  },
  {
    name: 'an alert amid a handshake message',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => {
      peer.send(CONTENT.handshake, KEY_UPDATE.subarray(0, 4));
      peer.alert(0);
    },
  },
  {
    name: 'an empty handshake record',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.handshake, ''),
  },
  {
    name: 'a ticket from a client',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.handshake, TICKET),
  },
  {
    name: 'a new ClientHello',
    alert: UNEXPECTED_MESSAGE,
    attack: (peer) => peer.send(CONTENT.handshake, Buffer.from('0100000100', 'hex')),
  },
  {
    name: 'an alert of one byte',
    alert: DECODE_ERROR,
    attack: (peer) => peer.send(CONTENT.alert, Buffer.of(1)),
  },
  {
    name: 'two alerts in a record',
    alert: DECODE_ERROR,
    attack: (peer) => peer.send(CONTENT.alert, Buffer.of(1, 0, 1, 0)),
  },
];

for (const { name, alert, attack } of ATTACKS) {
  t.test(name, async (t) => {
    const { rig, peer, seen } = await attacker(t);
    peer.data('good');
    attack(peer);
    await until(() => seen.gone, 'the end');
    await until(() => peer.raw.closed, 'the end at the peer');
    t.match(seen.endings, [{ errno: EPROTO, alert: alert + OURS }]);
    t.ok(
      ['good', 'goodtwice'].includes(seen.text),
      `what came before is delivered, and nothing else: ${seen.text}`,
    );
    t.equal(seen.count('end'), 0, 'and it is no end');
    t.strictSame(peer.alerts, [alert], 'the peer is told');
    t.equal(peer.unreadable, 0);
    await nothingLeft(rig.test);
  });
}

for (const suite of ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256']) {
  t.test(`what is odd and allowed, with ${suite}`, async (t) => {
    const { rig, peer, seen } = await attacker(t, suite);
    t.equal(seen.handshakes[0].cipher, suite);
    let expected = '';
    const say = (text: string, padding = 0): void => {
      peer.send(CONTENT.data, text, { padding });
      expected += text;
    };
    say('a');
    say('b', 16_000);
    say('c'.repeat(PLAIN_BYTES));
    say('d'.repeat(PLAIN_BYTES - 100), 100);
    for (let i = 0; i < 32; i++) peer.data('');
    say('e');
    // A key update in five records, and one that asks for ours.
    for (const byte of KEY_UPDATE) peer.send(CONTENT.handshake, Buffer.of(byte));
    peer.writing.update();
    say('f');
    peer.send(CONTENT.handshake, KEY_UPDATE_REQUESTED);
    peer.writing.update();
    say('g');
    // user_canceled says nothing by itself.
    peer.send(CONTENT.alert, Buffer.of(1, 90));
    say('h');
    await until(() => peer.text.length >= expected.length, 'the echo');
    t.ok(peer.text === expected, 'every byte came back');
    const updates = peer.records.filter(({ type }) => type === CONTENT.handshake);
    t.strictSame(
      updates.map(({ content }) => content.toString('hex')),
      [KEY_UPDATE.toString('hex')],
      'our key update came once, asks for nothing, and what followed opened under the new key',
    );
    t.equal(peer.unreadable, 0);
    peer.alert(0);
    await until(() => seen.gone, 'the end');
    t.match(seen.endings, [{ errno: 0, bytesRead: expected.length, bytesWritten: expected.length }]);
    t.strictSame(peer.alerts, [0]);
    await nothingLeft(rig.test);
  });
}

t.test('records in pieces of every size', async (t) => {
  const { peer, seen } = await attacker(t);
  const text = 'x'.repeat(700);
  for (const piece of [1, 2, 3, 4, 5, 6, 7, 21, 22, 23, 400, 721]) {
    const record = peer.writing.seal(CONTENT.data, Buffer.from(text));
    const before = peer.text.length;
    for (let at = 0; at < record.length; at += piece) {
      peer.raw.write(record.subarray(at, at + piece));
      // Every piece is a read of its own.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => peer.text.length === before + text.length, `the echo of pieces of ${piece}`);
  }
  t.equal(seen.text, text.repeat(12));
  t.equal(peer.unreadable, 0);
});

t.test('tickets of a server: coalesced, in pieces, many', async (t) => {
  const { rig, peer, seen } = await falseServer(t);
  peer.send(CONTENT.handshake, Buffer.concat([TICKET, TICKET]));
  for (let at = 0; at < TICKET.length; at += 5) peer.send(CONTENT.handshake, TICKET.subarray(at, at + 5));
  peer.send(CONTENT.handshake, Buffer.concat([TICKET, TICKET.subarray(0, 9)]));
  peer.send(CONTENT.handshake, TICKET.subarray(9));
  peer.data('after the tickets');
  peer.send(CONTENT.handshake, Buffer.concat([TICKET, KEY_UPDATE]));
  peer.writing.update();
  peer.data(', and a key update');
  await until(() => seen.text.length >= 35, 'the data');
  t.equal(seen.text, 'after the tickets, and a key update');
  for (let i = 0; i < 33; i++) peer.send(CONTENT.handshake, TICKET);
  await until(() => seen.gone, 'the end');
  t.match(seen.endings, [{ errno: EPROTO, alert: UNEXPECTED_MESSAGE + OURS }]);
  await nothingLeft(rig.test);
});

for (const [name, message, alert] of [
  ['an empty ticket', '04000000', DECODE_ERROR],
  ['a ticket of 65537 bytes', '04010001', DECODE_ERROR],
  ['a request for a certificate after the handshake', '0d00000100', UNEXPECTED_MESSAGE],
] as const) {
  t.test(`a server sends ${name}`, async (t) => {
    const { peer, seen } = await falseServer(t);
    peer.send(CONTENT.handshake, Buffer.from(message, 'hex'));
    await until(() => seen.gone, 'the end');
    t.match(seen.endings, [{ errno: EPROTO, alert: alert + OURS }]);
    await until(() => peer.raw.closed, 'the end at the peer');
    t.strictSame(peer.alerts, [alert]);
  });
}

t.test('alerts of the peer end the connection, with what came before delivered', async (t) => {
  for (const alert of [10, 40, 42, 48, 80, 116, 255]) {
    const { rig, peer, seen } = await attacker(t);
    const sealed = peer.writing.seal(CONTENT.data, Buffer.from('last words'));
    peer.raw.write(Buffer.concat([sealed, peer.writing.seal(CONTENT.alert, Buffer.of(2, alert))]));
    await until(() => seen.gone, 'the end');
    t.match(seen.endings, [{ errno: EPROTO, alert, bytesRead: 10 }], `alert ${alert}`);
    t.equal(seen.text, 'last words');
    t.equal(seen.count('end'), 0);
    t.strictSame(peer.alerts, [], 'an alert is not answered');
    await rig.test.stop();
  }
});

t.test('close_notify: with data in one segment, and nothing behind it counts', async (t) => {
  const { rig, peer, seen } = await attacker(t);
  const last = Buffer.concat([
    peer.writing.seal(CONTENT.data, Buffer.from('all')),
    peer.writing.seal(CONTENT.alert, Buffer.of(1, 0)),
    peer.writing.seal(CONTENT.data, Buffer.from('too late')),
    Buffer.from('and not even TLS'),
  ]);
  peer.raw.write(last);
  await until(() => seen.gone, 'the end');
  t.equal(peer.text, 'all');
  t.strictSame(seen.events, ['secured', 'end', 'closed']);
  t.match(seen.endings, [{ errno: 0, bytesRead: 3, bytesWritten: 3 }]);
  await nothingLeft(rig.test);
});

t.test('an end without close_notify is a failure, never an end', async (t) => {
  for (const how of ['after data', 'amid a record', 'amid a header', 'at once'] as const) {
    const { rig, peer, seen } = await attacker(t);
    if (how !== 'at once') peer.data('12345');
    const next = peer.writing.seal(CONTENT.data, Buffer.from('6789'));
    if (how === 'amid a record') peer.raw.write(next.subarray(0, 10));
    if (how === 'amid a header') peer.raw.write(next.subarray(0, 3));
    peer.raw.end();
    await until(() => seen.gone, 'the end');
    t.equal(seen.count('end'), 0, how);
    t.match(seen.endings, [{ errno: ECONNRESET }], how);
    t.equal(seen.endings[0].alert, undefined);
    await rig.test.stop();
  }
});
