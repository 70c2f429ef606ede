/** Mutual TLS between engines: bytes, ends, relays, hellos that were read already. */

import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { echo, type Script, type Seen, type TestEngine, until } from '../support/engine.ts';
import { bytesOf, dial, type Peer, serve } from '../support/engine-peers.ts';
import { connectTls, listenTls, nothingLeft, startTlsRig, type TlsRig } from '../support/engine-tls.ts';
import { serverNameOf } from '../support/pki.ts';

t.test('two engines: who the other is, and every byte both ways', async (t) => {
  const rig = await startTlsRig(t);
  const { engine } = rig.test;
  const sent = Buffer.concat([Buffer.from('hello'), bytesOf(1, 0, 900_000), bytesOf(2, 0, 900_000)]);
  const address = listenTls(rig, echo(engine));
  const client = connectTls(rig, address, {
    secured: ({ id }) => {
      for (let at = 0; at < sent.length; at += 300_000) engine.send(id, sent.subarray(at, at + 300_000));
      engine.shutdown(id);
    },
  });
  await until(() => client.gone && rig.test.accepts[0].gone, 'the ends');
  t.ok(Buffer.concat(client.received).equals(sent), 'the echo is whole');
  const counts = { errno: 0, byOther: false, bytesRead: sent.length, bytesWritten: sent.length };
  t.same([client.endings, rig.test.accepts[0].endings], [[counts], [counts]], 'plaintext is counted');
  for (const [seen, account] of [
    [client, 'server'],
    [rig.test.accepts[0], 'client'],
  ] as const) {
    const [report] = seen.handshakes;
    t.match(report, {
      alpn: 'transport.l5d.io/v1',
      serverName: serverNameOf('server'),
      group: 'X25519MLKEM768',
      cipher: 'TLS_AES_128_GCM_SHA256',
      verifyError: 0,
      skewSeconds: 0,
      problem: '',
    });
    t.match(report.peer, { authority: false, maySign: true, namesTooLong: false });
    const names = report.peer?.names.map(
      ({ type, bytes }) => `${type}:${Buffer.from(bytes).toString('latin1')}`,
    );
    t.strictSame(names, [`dns:${serverNameOf(account)}`, `uri:spiffe://cluster.local/ns/test/sa/${account}`]);
    const now = Date.now() / 1000;
    t.ok(report.notBefore < now && report.notAfter > now, 'the validity is that of the certificate');
  }
  await nothingLeft(rig.test);
});

t.test('a hello that was read already is given back, however it came', async (t) => {
  for (const piece of [1, 7, 100, 1_000, 100_000]) {
    const rig = await startTlsRig(t);
    const { test } = rig;
    const address = test.listen();
    test.onAccepted = (seen) => {
      const head: Buffer[] = [];
      seen.script = {
        // Keeps what came, gives it back in two parts once a whole record is there, latest first.
        data: ({ id }, offset, length) => {
          head.push(Buffer.from(test.engine.slab.subarray(offset, offset + length)));
          const all = Buffer.concat(head);
          if (all.length < 5 || all.length < 5 + all.readUInt16BE(3)) return;
          test.engine.pause(id);
          const middle = Math.floor(all.length / 2);
          test.engine.unread(id, all.subarray(middle));
          test.engine.unread(id, all.subarray(0, middle));
          test.engine.acceptTls(id, rig.server);
          seen.script = { ...echo(test.engine), secured: () => test.engine.resume(id) };
        },
      };
      test.engine.resume(seen.id);
    };
    const slow = await slowly(t, address, piece);
    const client = connectTls(rig, slow, {
      secured: ({ id }) => {
        test.engine.send(id, Buffer.from('question'));
        test.engine.shutdown(id);
      },
    });
    await until(() => client.gone && test.accepts[0].gone, `the end, pieces of ${piece}`);
    t.equal(client.text, 'question', `pieces of ${piece}`);
    t.match(
      test.accepts[0].endings,
      [{ errno: 0, bytesRead: 8, bytesWritten: 8 }],
      'the hello is not counted',
    );
    await nothingLeft(test);
    await test.stop();
  }
});

/** A relay that writes what a client sends `piece` bytes at a time, each in a segment of its own. */
async function slowly(t: Test, address: SocketAddress, piece: number): Promise<SocketAddress> {
  const server = await serve(
    t,
    async (front) => {
      const back = await dial(t, address, { noDelay: true });
      back.socket.on('data', (bytes) => front.socket.write(bytes)).on('end', () => front.socket.end());
      let queue = Promise.resolve();
      front.socket.on('data', (bytes) => {
        queue = queue.then(async () => {
          for (let at = 0; at < bytes.length; at += piece) {
            back.socket.write(bytes.subarray(at, at + piece));
            if (piece < 1_000) await new Promise((resolve) => setImmediate(resolve));
          }
        });
      });
      front.socket.on('end', () => {
        queue = queue.then(() => {
          back.socket.end();
        });
      });
    },
    true,
  );
  const accept = server.server.listeners('connection')[0] as (socket: unknown) => void;
  server.server.removeAllListeners('connection').on('connection', (socket) => {
    accept(socket);
    // Only now is somebody listening.
    setTimeout(() => socket.resume(), 20);
  });
  return server.address;
}

t.test('bytes given back before an end in the same batch: the end comes again, behind them', async (t) => {
  const rig = await startTlsRig(t);
  const { test } = rig;
  const address = test.listen();
  const upstream = await serve(t);
  test.onAccepted = (seen) => {
    seen.script = {
      data: ({ id }, offset, length) => {
        const bytes = Buffer.from(test.engine.slab.subarray(offset, offset + length));
        test.engine.pause(id);
        test.engine.unread(id, bytes);
        test.connect(upstream.address, { connected: (other) => test.engine.relay(id, other.id) });
        seen.script = {};
      },
    };
    test.engine.resume(seen.id);
  };
  const peer = await dial(t, address);
  peer.socket.end('all at once');
  const server = await upstream.peer();
  await until(() => server.ended, 'the end at the server');
  t.equal(server.text, 'all at once');
  server.socket.end('answer');
  await until(() => peer.closed, 'the end at the client');
  t.equal(peer.text, 'answer');
  t.match(test.accepts[0].endings, [{ errno: 0, bytesRead: 11, bytesWritten: 6 }]);
  await nothingLeft(test);
});

t.test('bytes given back to a connection that is being read come again by themselves', async (t) => {
  const { test } = await startTlsRig(t);
  const address = test.listen();
  test.onAccepted = (seen) => {
    seen.script = {
      data: ({ id }, offset, length) => {
        const bytes = Buffer.from(test.engine.slab.subarray(offset, offset + length));
        seen.received.push(bytes);
        if (seen.received.length === 1) test.engine.unread(id, bytes);
      },
    };
    test.engine.resume(seen.id);
  };
  const peer = await dial(t, address);
  peer.socket.write('twice ');
  await until(() => test.accepts[0]?.text === 'twice twice ', 'the same bytes again');
  peer.socket.end();
  await until(() => test.accepts[0].count('end') === 1, 'the end behind them');
  t.equal(test.accepts[0].text, 'twice twice ', 'and no third time');
  test.engine.close(test.accepts[0].id);
  await nothingLeft(test);
});

/** Accepts on a new address what `open` then joins with a connection of its own. */
function hop(test: TestEngine, hops: ((seen: Seen) => void)[], open: (seen: Seen) => void): SocketAddress {
  hops.push(open);
  test.onAccepted = (seen) => hops[seen.listener ?? -1](seen);
  return test.listen();
}

/** Plain in, TLS out. */
function sealingHop(rig: TlsRig, hops: ((seen: Seen) => void)[], next: SocketAddress): SocketAddress {
  return hop(rig.test, hops, (seen) => {
    const out = connectTls(rig, next, { secured: () => rig.test.engine.relay(seen.id, out.id) });
  });
}

/** TLS in; `connect` makes the other side. */
function openingHop(
  rig: TlsRig,
  hops: ((seen: Seen) => void)[],
  connect: (script: { ready: (other: Seen) => void }) => void,
): SocketAddress {
  const { engine } = rig.test;
  return hop(rig.test, hops, (seen) => {
    seen.script = { secured: () => connect({ ready: (other) => engine.relay(seen.id, other.id) }) };
    engine.acceptTls(seen.id, rig.server);
  });
}

/** Plain client, plain → TLS, TLS → TLS, TLS → plain, plain server. */
async function chain(
  t: Test,
): Promise<{ rig: TlsRig; entry: SocketAddress; server: Awaited<ReturnType<typeof serve>> }> {
  const rig = await startTlsRig(t);
  const hops: ((seen: Seen) => void)[] = [];
  const server = await serve(t);
  const last = openingHop(rig, hops, ({ ready }) => {
    rig.test.connect(server.address, { connected: ready });
  });
  const middle = openingHop(rig, hops, ({ ready }) => {
    connectTls(rig, last, { secured: ready });
  });
  return { rig, entry: sealingHop(rig, hops, middle), server };
}

function digesting(peer: Peer): () => string {
  const hash = createHash('sha256');
  peer.socket.on('data', (bytes) => hash.update(bytes));
  return () => hash.digest('hex');
}

function digestOf(stream: number, length: number): string {
  const hash = createHash('sha256');
  for (let at = 0; at < length; at += 1_000_000)
    hash.update(bytesOf(stream, at, Math.min(1_000_000, length - at)));
  return hash.digest('hex');
}

t.test('40 MB each way at once through relays of TLS with plain and of TLS with TLS', async (t) => {
  const { rig, entry, server } = await chain(t);
  const bytes = 40_000_000;
  const client = await dial(t, entry);
  const clientDigest = digesting(client);
  const far = await server.peer();
  const farDigest = digesting(far);
  await Promise.all([client.stream(1, bytes, 70_001), far.stream(2, bytes, 333_333)]);
  client.socket.end();
  far.socket.end();
  await until(() => client.closed && far.closed, 'the ends', 60_000);
  t.equal(farDigest(), digestOf(1, bytes));
  t.equal(clientDigest(), digestOf(2, bytes));
  await nothingLeft(rig.test);
  const endings = [...rig.test.connections.values()].flatMap((seen) => seen.endings);
  t.equal(endings.length, 6);
  for (const ending of endings) {
    t.same(ending, { errno: 0, byOther: false, bytesRead: bytes, bytesWritten: bytes });
  }
});

t.test('half-closes pass through relays in both orders', async (t) => {
  for (const first of ['client', 'server'] as const) {
    const { rig, entry, server } = await chain(t);
    const client = await dial(t, entry);
    const far = await server.peer();
    const [one, two] = first === 'client' ? [client, far] : [far, client];
    one.socket.end('question');
    await until(() => two.ended, `the end of the ${first}`);
    t.equal(two.text, 'question');
    for (const word of ['one ', 'two ', 'three']) {
      const before = one.receivedBytes;
      two.socket.write(word);
      await until(() => one.receivedBytes === before + word.length, word);
    }
    t.notOk(one.ended, 'the other half is open');
    two.socket.end();
    await until(() => one.closed && two.closed, 'both ends');
    t.equal(one.text, 'one two three');
    t.strictSame([one.error, two.error], [undefined, undefined]);
    await nothingLeft(rig.test);
    t.ok([...rig.test.connections.values()].every((seen) => seen.endings[0].errno === 0));
    await rig.test.stop();
  }
});

t.test('a reset passes through relays as a failure, never as an end', async (t) => {
  const { rig, entry, server } = await chain(t);
  const client = await dial(t, entry);
  const far = await server.peer();
  client.socket.write('some');
  await until(() => far.text === 'some', 'bytes');
  client.socket.resetAndDestroy();
  await until(() => far.closed, 'the reset');
  t.equal(far.error, 'ECONNRESET');
  t.notOk(far.ended);
  await nothingLeft(rig.test);
});

t.test('half-closes towards TypeScript in both orders', async (t) => {
  for (const first of ['client', 'server'] as const) {
    const rig = await startTlsRig(t);
    const { engine } = rig.test;
    const opening: Script = {
      secured: ({ id }) => {
        engine.send(id, Buffer.from('question'));
        engine.shutdown(id);
      },
    };
    const answering: Script = {
      end: ({ id }) => {
        engine.send(id, Buffer.from('answer'));
        engine.shutdown(id);
      },
    };
    const address = listenTls(rig, first === 'client' ? answering : opening);
    const client = connectTls(rig, address, first === 'client' ? opening : answering);
    await until(() => client.gone && rig.test.accepts[0].gone, 'the ends');
    const [one, two] = first === 'client' ? [client, rig.test.accepts[0]] : [rig.test.accepts[0], client];
    t.strictSame([one.text, two.text], ['answer', 'question']);
    t.match(one.endings, [{ errno: 0, bytesRead: 6, bytesWritten: 8 }]);
    t.match(two.endings, [{ errno: 0, bytesRead: 8, bytesWritten: 6 }]);
    await nothingLeft(rig.test);
    await rig.test.stop();
  }
});

t.test('close() delivers everything and waits for the other side', async (t) => {
  const rig = await startTlsRig(t);
  const { engine } = rig.test;
  const address = listenTls(rig, {
    secured: ({ id }) => {
      engine.send(id, bytesOf(5, 0, 1_000_000));
      engine.close(id);
    },
  });
  const client = connectTls(rig, address, { end: ({ id }) => engine.shutdown(id) });
  await until(() => client.gone && rig.test.accepts[0].gone, 'the ends');
  t.ok(Buffer.concat(client.received).equals(bytesOf(5, 0, 1_000_000)));
  t.match(client.endings, [{ errno: 0 }]);
  t.match(rig.test.accepts[0].endings, [{ errno: 0, bytesWritten: 1_000_000 }]);
  await nothingLeft(rig.test);
});

t.test('backpressure: a reader that pauses blocks the writer, and nothing is lost', async (t) => {
  const rig = await startTlsRig(t);
  const { engine } = rig.test;
  const total = 30_000_000;
  const address = listenTls(rig);
  const hash = createHash('sha256');
  const client = connectTls(rig, address, {
    data: ({ id }, offset, length) => {
      hash.update(engine.slab.subarray(offset, offset + length));
      if (Math.random() < 0.02) {
        engine.pause(id);
        setTimeout(() => engine.resume(id), 2);
      }
    },
    end: ({ id }) => engine.shutdown(id),
  });
  await until(() => client.count('secured') === 1 && rig.test.accepts[0].count('secured') === 1, 'TLS');
  const [writer] = rig.test.accepts;
  for (let sent = 0; sent < total; sent += 100_000) {
    engine.send(writer.id, bytesOf(7, sent, 100_000));
    await new Promise((resolve) => setImmediate(resolve));
    await until(() => writer.count('blocked') === writer.count('drained'), 'room');
  }
  engine.shutdown(writer.id);
  await until(() => client.gone && rig.test.accepts[0].gone, 'the ends', 60_000);
  t.equal(hash.digest('hex'), digestOf(7, total));
  t.ok(writer.count('blocked') > 0, 'it was blocked');
  t.match(client.endings, [{ errno: 0, bytesRead: total }]);
  await nothingLeft(rig.test);
});
