/** Handshakes of mutual TLS: what is refused and why, what does not fit, and what is left when they are cut. */

import { constants } from 'node:os';
import { connect as connectNodeTls } from 'node:tls';
import t from 'tap';
import type { Credential } from '../../proxy/control/certificates.ts';
import { tlsParameters } from '../../proxy/native/tls-parameters.ts';
import { echo, until } from '../support/engine.ts';
import { bytesOf, dial, type Peer, serve } from '../support/engine-peers.ts';
import { connectTls, contextOf, listenTls, nothingLeft, startTlsRig } from '../support/engine-tls.ts';
import { serverNameOf, spiffeIdOf, TestPki } from '../support/pki.ts';
import { nodeOptions } from '../support/tls-script.ts';

const { ECONNRESET, EPROTO } = constants.errno;

/** X509_V_ERR_* of OpenSSL's x509_vfy.h. */
const NOT_YET_VALID = 9;
const EXPIRED = 10;
const NO_ISSUER = 20;

interface Refusal {
  readonly name: string;
  readonly make: (pki: TestPki, account: string) => Promise<Credential>;
  readonly verifyError: number;
  readonly problem: RegExp;
  /** What the refused peer is told. */
  readonly alert: number;
}

const REFUSALS: readonly Refusal[] = [
  {
    name: 'another root',
    make: async (_pki, account) => (await TestPki.create()).issue(account),
    verifyError: NO_ISSUER,
    problem: /unable to get local issuer certificate/,
    alert: 48,
  },
  {
    name: 'expired',
    make: (pki, account) => pki.expired(account),
    verifyError: EXPIRED,
    problem: /certificate has expired/,
    alert: 45,
  },
  {
    name: 'not valid for another 400 seconds',
    make: (pki, account) => pki.notYetValid(account, 400),
    verifyError: NOT_YET_VALID,
    problem: /certificate is not yet valid/,
    alert: 42,
  },
  {
    name: 'for the other role alone',
    make: (pki, account) =>
      pki.issue(account, { extendedKeyUsages: [account === 'server' ? 'clientAuth' : 'serverAuth'] }),
    verifyError: 26,
    problem: /unsuitable certificate purpose/,
    alert: 43,
  },
  {
    name: 'an intermediate is missing',
    make: async (pki, account) => {
      const { certificatePem, keyPem } = await pki.issueByIntermediate(account);
      const end = '-----END CERTIFICATE-----\n';
      return { certificatePem: certificatePem.slice(0, certificatePem.indexOf(end) + end.length), keyPem };
    },
    verifyError: NO_ISSUER,
    problem: /unable to get local issuer certificate/,
    alert: 48,
  },
];

for (const { name, make, verifyError, problem, alert } of REFUSALS) {
  t.test(`a certificate that is refused: ${name}`, async (t) => {
    const rig = await startTlsRig(t);
    const { test, pki } = rig;
    const validity = { notBefore: Number, notAfter: Number };
    const badServer = contextOf(test, await make(pki, 'server'), pki.anchors);
    const client = connectTls(rig, listenTls(rig, {}, badServer));
    await until(() => client.gone && test.accepts[0].gone, 'the ends');
    t.strictSame(client.events, ['connected', 'tlsFailed', 'closed']);
    t.match(client.handshakes, [{ verifyError, problem, peer: undefined, ...validity }]);
    t.ok(client.handshakes[0].notBefore > 0 && client.handshakes[0].notAfter > 0, 'with its validity');
    t.match(client.endings, [{ errno: EPROTO, bytesRead: 0, bytesWritten: 0 }]);
    t.match(test.accepts[0].handshakes, [{ verifyError: 0, problem: /alert/ }], 'and the server is told');

    const badClient = contextOf(test, await make(pki, 'client'), pki.anchors);
    const refused = connectTls(rig, listenTls(rig), {}, badClient);
    await until(() => refused.gone && test.accepts[1]?.gone, 'the ends');
    t.strictSame(test.accepts[1].events, ['tlsFailed', 'closed']);
    t.match(test.accepts[1].handshakes, [{ verifyError, problem, peer: undefined }]);
    t.match(refused.endings, [{ errno: EPROTO, alert }], 'the client hears it behind its handshake');
    await nothingLeft(test);
  });
}

t.test('certificates that pass and are reported as they are', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const ed25519 = await TestPki.create('ed25519');
  const dns = serverNameOf('spoiled');
  const cases = [
    { credential: await pki.notYetValid('client', 200), skew: [195, 200], names: 2 },
    { credential: await pki.issueByIntermediate('client'), names: 2 },
    { credential: await pki.issue('client', { key: 'ed25519' }), names: 2 },
    { credential: await ed25519.issue('client', { key: 'ed25519' }), names: 2 },
    { credential: await pki.spoiled('authority'), names: 2, peer: { authority: true } },
    { credential: await pki.spoiled('no-signature'), names: 2, peer: { maySign: false } },
    { credential: await pki.spoiled('two-uris'), names: 3 },
    { credential: await pki.spoiled('no-names'), names: 0 },
    { credential: await pki.spoiled('nul'), names: 2, uri: `${spiffeIdOf('spoiled')}\0.evil`, dns },
    {
      credential: await pki.issue('client', {
        names: Array.from({ length: 100 }, (_, i) => ({
          type: 'dns',
          value: `${i}.${'x'.repeat(60)}.example`,
        })),
      }),
      names: 55,
      peer: { namesTooLong: true },
    },
  ];
  const both = test.engine.makeContext(
    rig.serverCredential.certificatePem,
    rig.serverCredential.keyPem,
    pki.anchors + ed25519.anchors,
  );
  const address = listenTls(rig, {}, both);
  for (const [i, { credential, skew = [0, 0], names, peer = {}, uri }] of cases.entries()) {
    const client = connectTls(rig, address, {}, contextOf(test, credential, pki.anchors));
    await until(() => test.accepts[i]?.events.length > 0, 'a verdict');
    const [report] = test.accepts[i].handshakes;
    t.equal(report.problem, '', `case ${i}`);
    t.match(report.peer, { authority: false, maySign: true, namesTooLong: false, ...peer }, `case ${i}`);
    t.equal(report.peer?.names.length, names);
    t.ok(report.skewSeconds >= skew[0] && report.skewSeconds <= skew[1], `skew ${report.skewSeconds}`);
    if (uri !== undefined) t.equal(Buffer.from(report.peer?.names[1].bytes ?? []).toString('latin1'), uri);
    test.engine.reset(client.id);
  }
  await nothingLeft(test);
});

t.test('a client without a certificate is secured, and has no peer', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const { port } = listenTls(rig, echo(test.engine));
  const {
    cert: _cert,
    key: _key,
    ...options
  } = nodeOptions({ credential: rig.clientCredential, anchors: pki.anchors });
  const socket = connectNodeTls({
    ...options,
    port,
    host: '127.0.0.1',
    checkServerIdentity: () => undefined,
  });
  t.teardown(() => {
    socket.destroy();
  });
  await until(() => test.accepts[0]?.count('secured') === 1, 'the handshake');
  t.equal(test.accepts[0].handshakes[0].peer, undefined);
  t.strictSame(
    [test.accepts[0].handshakes[0].verifyError, test.accepts[0].handshakes[0].serverName],
    [0, ''],
  );
  socket.end();
  await nothingLeft(test);
});

t.test('what is no TLS 1.3 hello', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const address = listenTls(rig);
  const old = connectNodeTls({
    port: address.port,
    host: '127.0.0.1',
    ca: pki.anchors,
    maxVersion: 'TLSv1.2',
  });
  const [failure] = await new Promise<NodeJS.ErrnoException[]>((resolve) => {
    old.on('error', (error) => resolve([error]));
  });
  t.equal(failure.code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  const says: [string | Buffer, RegExp][] = [
    ['GET / HTTP/1.1\r\nHost: somebody\r\n\r\n', /http request|wrong version|bad record|packet length/],
    [Buffer.alloc(100), /wrong version|bad record|packet length|unexpected/],
    [Buffer.from('160301000501000001', 'hex'), /./],
    [Buffer.from('16030100040100ffff', 'hex'), /closed the connection/],
    [Buffer.from('1603014001', 'hex'), /length/],
    [Buffer.from('15030300020228', 'hex'), /unexpected message/],
    ['', /closed the connection/],
  ];
  for (const [bytes, problem] of says) {
    const peer = await dial(t, address);
    peer.socket.end(bytes);
    await until(() => peer.closed, 'the end');
    const seen = test.accepts.at(-1);
    await until(() => seen?.gone === true, 'the end');
    t.strictSame(seen?.events, ['tlsFailed', 'closed']);
    t.match(seen?.handshakes, [{ problem, verifyError: 0, peer: undefined }]);
  }
  t.match(test.accepts[0].handshakes, [{ problem: /unsupported protocol/ }], 'TLS 1.2');
  await nothingLeft(test);
});

t.test('a peer that stalls is cut by the deadline, and until then holds nobody up', async (t) => {
  const rig = await startTlsRig(t);
  const { test } = rig;
  const address = listenTls(rig, { deadline: ({ id }) => test.engine.reset(id) });
  const begin = Buffer.from('1603010200010001fc0303', 'hex');
  const peers = await Promise.all(Array.from({ length: 20 }, () => dial(t, address)));
  for (const peer of peers) peer.socket.write(begin);
  await until(() => test.accepts.length === 20, 'connections');
  for (const { id } of test.accepts) test.engine.deadline(id, 300);
  await until(() => peers.every(({ closed }) => closed), 'resets');
  for (const seen of test.accepts) {
    t.strictSame(seen.events, ['deadline', 'closed']);
    t.match(seen.endings, [{ errno: 0, bytesRead: 0, bytesWritten: 0 }]);
  }
  await nothingLeft(test);
});

t.test('contexts that cannot be made', async (t) => {
  const { test, pki, serverCredential: good, clientCredential: other } = await startTlsRig(t);
  const { engine } = test;
  const make = (certificate: string, key: string, anchors: string) => () =>
    engine.makeContext(certificate, key, anchors);
  t.throws(make('', good.keyPem, pki.anchors), /the certificate cannot be used: /);
  t.throws(make(good.certificatePem, '', pki.anchors), /the key cannot be used: /);
  t.throws(
    make(good.certificatePem, other.keyPem, pki.anchors),
    /the key cannot be used: key values mismatch/,
  );
  t.throws(make(good.certificatePem, good.keyPem, ''), /the trust anchors cannot be used: /);
  t.throws(make(good.certificatePem, good.keyPem, good.keyPem), /the trust anchors cannot be used: /);
  const cut = pki.anchors.slice(0, 200);
  t.throws(make(good.certificatePem, good.keyPem, cut), /the trust anchors cannot be used: /);
  t.throws(make(good.certificatePem, good.keyPem, pki.anchors + cut), /the trust anchors cannot be used: /);
  t.throws(make(good.certificatePem + cut, good.keyPem, pki.anchors), /the certificate cannot be used: /);
  t.type(make(good.certificatePem, good.keyPem, pki.anchors)(), 'number');
});

t.test('operations that do not fit a handshake', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const silent = await serve(t);
  const [closed, reset, busy] = [0, 1, 2].map(() => connectTls(rig, silent.address));
  await until(() => silent.peers.filter(({ receivedBytes }) => receivedBytes > 0).length === 3, 'hellos');
  test.engine.close(closed.id);
  test.engine.reset(reset.id);
  await until(() => closed.gone && reset.gone, 'ends at once');
  t.match([closed.endings, reset.endings], [[{ errno: 0, bytesWritten: 0 }], [{ errno: 0 }]]);
  const plain = test.connect(silent.address);
  await until(() => plain.count('connected') === 1, 'a plain connection');
  test.engine.send(busy.id, Buffer.from('too early'));
  test.engine.unread(busy.id, Buffer.from('not now'));
  test.engine.relay(busy.id, plain.id);
  test.engine.relay(plain.id, busy.id);
  test.engine.acceptTls(busy.id, rig.server);
  test.engine.acceptTls(plain.id, 999);
  const gone = contextOf(test, rig.serverCredential, pki.anchors);
  test.engine.dropContext(gone);
  test.engine.dropContext(gone);
  test.engine.dropContext(12_345);
  test.engine.acceptTls(plain.id, gone);
  await until(() => test.dead.length === 7, 'seven refusals');
  t.strictSame(
    test.dead.map(({ operation }) => operation),
    [1, 12, 8, 8, 13, 13, 13],
  );
  t.strictSame(test.mistaken, [busy.id, busy.id, plain.id, plain.id], 'and whose owner is wrong is told');
  t.notOk(busy.gone || plain.gone, 'nobody is harmed');
});

t.test('an end that is asked for during the handshake comes behind it', async (t) => {
  const rig = await startTlsRig(t);
  const { engine } = rig.test;
  const address = listenTls(rig, echo(engine));
  const parameters = tlsParameters(serverNameOf('server'), []);
  const client = rig.test.connect(address, {
    connected: ({ id }) => {
      engine.connectTls(id, rig.client, parameters);
      engine.shutdown(id);
      engine.resume(id);
    },
  });
  await until(() => client.gone && rig.test.accepts[0].gone, 'the ends');
  t.strictSame(client.events, ['connected', 'secured', 'closed']);
  t.strictSame(rig.test.accepts[0].events, ['secured', 'end', 'closed']);
  t.match(client.endings, [{ errno: 0 }]);
});

t.test('contexts that are dropped while they are in use', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const own = contextOf(test, rig.serverCredential, pki.anchors);
  const address = listenTls(rig, echo(test.engine), own);
  const mine = contextOf(test, rig.clientCredential, pki.anchors);
  const client = connectTls(rig, address, {}, mine);
  await until(() => test.accepts.length === 1, 'an accepted connection');
  test.engine.dropContext(own);
  test.engine.dropContext(mine);
  await until(() => client.count('secured') === 1, 'a handshake that goes on');
  test.engine.send(client.id, Buffer.from('still here'));
  await until(() => client.text === 'still here', 'the echo');
  const late = connectTls(rig, address, {}, rig.client);
  await until(() => test.dead.length === 1, 'a refusal');
  t.equal(test.dead.length, 1, 'who comes later is told');
  test.engine.reset(late.id);
  test.engine.reset(client.id);
  await nothingLeft(test);
});

t.test('a client that resets behind its last message: the server, paused, hears of it', async (t) => {
  const rig = await startTlsRig(t);
  const { test } = rig;
  const address = test.listen();
  test.onAccepted = ({ id }) => test.engine.acceptTls(id, rig.server);
  for (let i = 0; i < 20; i++) {
    connectTls(rig, address, { secured: ({ id }) => test.engine.reset(id) });
    await until(() => test.accepts[i]?.gone, 'the end at the server');
    t.match(test.accepts[i].endings, [{ errno: 104 }]);
  }
  await nothingLeft(test);
});

t.test('a context that is dropped right after a handshake was asked for serves it', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const address = test.listen();
  test.onAccepted = ({ id }) => {
    const own = contextOf(test, rig.serverCredential, pki.anchors);
    test.engine.acceptTls(id, own);
    test.engine.dropContext(own);
  };
  const client = connectTls(rig, address);
  await until(() => client.count('secured') === 1 || test.dead.length > 0, 'a handshake or a refusal');
  t.strictSame(test.dead, []);
  test.engine.reset(client.id);
  await nothingLeft(test);
});

t.test('a client that learns late that it was refused: closed with the alert', async (t) => {
  const rig = await startTlsRig(t);
  const { test, pki } = rig;
  const stranger = contextOf(test, await pki.expired('client'), pki.anchors);
  const address = listenTls(rig);
  for (const speaks of [false, true]) {
    const client = connectTls(
      rig,
      address,
      {
        secured: ({ id }) => {
          if (speaks) test.engine.send(id, Buffer.from('in vain'));
        },
      },
      stranger,
    );
    await until(() => client.gone, 'the end');
    t.strictSame(client.events, ['connected', 'secured', 'closed']);
    t.match(client.endings, [{ errno: EPROTO, alert: 45 }], 'certificate_expired');
  }
  for (const accepted of test.accepts) {
    t.strictSame(accepted.events, ['tlsFailed', 'closed']);
    t.match(accepted.handshakes, [{ verifyError: 10, problem: 'certificate has expired', peer: undefined }]);
  }
  await nothingLeft(test);
});

t.test('handshakes that are cut after any number of bytes leave nothing', async (t) => {
  const rig = await startTlsRig(t);
  const { test } = rig;
  const address = listenTls(rig, echo(test.engine));
  let cut = 0;
  // Cuts each connection after a number of bytes of its own, in either direction.
  const server = await serve(
    t,
    async (front) => {
      const number = cut++;
      const back = await dial(t, address);
      let left = (number * 37) % 8_000;
      const pass = (from: Peer, to: Peer) => (bytes: Buffer) => {
        to.socket.write(bytes.subarray(0, left));
        left -= bytes.length;
        if (left > 0) return;
        for (const side of [from, to]) {
          if (number % 3 === 0) side.socket.resetAndDestroy();
          else side.socket.end();
        }
      };
      front.socket.on('data', pass(front, back));
      back.socket.on('data', pass(back, front));
      front.socket.resume();
    },
    true,
  );
  for (let round = 0; round < 10; round++) {
    const clients = Array.from({ length: 40 }, () =>
      connectTls(rig, server.address, {
        secured: ({ id }) => test.engine.send(id, bytesOf(3, 0, 5_000)),
      }),
    );
    await until(() => clients.every(({ gone }) => gone), 'every client ends');
  }
  await nothingLeft(test);
  t.equal(test.accepts.length, 400);
  const failed = test.accepts.filter((seen) => seen.count('tlsFailed') === 1);
  const secured = test.accepts.filter((seen) => seen.count('secured') === 1);
  t.ok(failed.length > 50 && secured.length > 50, `${failed.length} failed, ${secured.length} were secured`);
  t.equal(failed.length + secured.length, 400);
  t.ok(
    failed.every(
      (seen) =>
        seen.handshakes[0].problem === 'the peer closed the connection' ||
        seen.endings[0].errno === ECONNRESET,
    ),
  );
});
