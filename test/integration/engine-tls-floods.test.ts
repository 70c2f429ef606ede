/** Peers that make work: records that carry little, and new keys all the time. Nobody else waits for them. */

import { constants } from 'node:os';
import t, { type Test } from 'tap';
import { echo, type Seen, until } from '../support/engine.ts';
import { dial, serve } from '../support/engine-peers.ts';
import { startTlsRig, type TlsRig } from '../support/engine-tls.ts';
import { CONTENT } from '../support/tls-records.ts';
import { type ScriptedPeer, scriptedClient } from '../support/tls-script.ts';

const { EPROTO } = constants.errno;

/** Added to alerts that the engine sent. */
const OURS = 256;

const UNEXPECTED_MESSAGE = 10;

const KEY_UPDATE = Buffer.from('1800000100', 'hex');

/** A thousand cost what 1 MB of bulk costs, and a read of 16 KB may bring 700 more. */
const RECORDS_A_TURN = 2_000;

/** Sealing them takes most of the time; under the sanitizers, four turns see what forty do. */
const TINY_RECORDS = process.env.FERRULE_SANITIZER === undefined ? 80_000 : 8_000;

/** A scripted client whose connection the engine relays to a server in plaintext. */
async function relayed(
  t: Test,
): Promise<{ rig: TlsRig; peer: ScriptedPeer; seen: Seen; received: () => number }> {
  const rig = await startTlsRig(t);
  const { test, pki, clientCredential: credential } = rig;
  const server = await serve(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = {
      secured: () => {
        const upstream = test.connect(server.address, {
          connected: ({ id }) => test.engine.relay(seen.id, id),
        });
        t.ok(upstream.id > 0);
      },
    };
    test.engine.acceptTls(seen.id, rig.server);
  };
  const peer = await scriptedClient(t, address, { credential, anchors: pki.anchors });
  await until(() => test.figure('relays') === 1, 'the relay');
  return { rig, peer, seen: test.accepts[0], received: () => server.peers[0]?.receivedBytes ?? 0 };
}

/** One key update and a byte under the new key. */
function update(peer: ScriptedPeer): Buffer {
  const message = peer.writing.seal(CONTENT.handshake, KEY_UPDATE);
  peer.writing.update();
  return Buffer.concat([message, peer.writing.seal(CONTENT.data, Buffer.of(1))]);
}

/** The longest time in ms that a byte takes to an echo of the same engine and back while `busy`. */
async function longestPing(t: Test, { test }: TlsRig, busy: () => boolean): Promise<number> {
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = echo(test.engine);
    test.engine.resume(seen.id);
  };
  const { socket } = await dial(t, address);
  let longestMs = 0;
  while (busy()) {
    const startedMs = performance.now();
    await new Promise((resolve) => {
      socket.once('data', resolve);
      socket.write('.');
    });
    longestMs = Math.max(longestMs, performance.now() - startedMs);
  }
  return longestMs;
}

for (const [name, padding, count] of [
  ['records of one byte', 0, TINY_RECORDS],
  ['records of one byte and much padding', 8_000, 2_000],
] as const) {
  t.test(`${name}: a turn takes few of them`, async (t) => {
    const { rig, peer, received } = await relayed(t);
    const flood = Buffer.concat(
      Array.from({ length: count }, () => peer.writing.seal(CONTENT.data, Buffer.of(1), { padding })),
    );
    const turns = rig.test.figure('loop_turns_total');
    peer.raw.write(flood);
    const pingMs = await longestPing(t, rig, () => received() < count && peer.error === undefined);
    const turnsTaken = rig.test.figure('loop_turns_total') - turns;
    t.comment(`${turnsTaken} turns, longest ping ${pingMs.toFixed(1)} ms`);
    t.equal(received(), count, 'every byte arrives');
    const least = padding === 0 ? count / RECORDS_A_TURN : flood.length / (1 << 20);
    t.ok(turnsTaken >= least, `${turnsTaken} turns, at least ${least}`);
  });
}

t.test('key updates, each followed by a byte: cut with an alert', async (t) => {
  const { peer, seen } = await relayed(t);
  peer.raw.write(Buffer.concat(Array.from({ length: 2_000 }, () => update(peer))));
  await until(() => seen.gone, 'the end');
  t.match(seen.endings, [{ errno: EPROTO, alert: UNEXPECTED_MESSAGE + OURS }]);
  t.ok(seen.endings[0].bytesRead <= 200, `${seen.endings[0].bytesRead} key updates were taken`);
});

t.test('key updates at a pace that peers may have go on for ever', async (t) => {
  const { peer, seen, received } = await relayed(t);
  const updates = 100;
  for (let sent = 1; sent <= updates; sent++) {
    peer.raw.write(update(peer));
    const notBeforeMs = performance.now() + 20;
    await until(() => received() === sent && performance.now() >= notBeforeMs, `update ${sent}`);
  }
  t.notOk(seen.gone);
});
