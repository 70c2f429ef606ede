/** Mutual TLS between the engine and other implementations: node:tls, openssl(1), Python's ssl. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, createServer, type Server, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import type { Credential } from '../../proxy/control/certificates.ts';
import { at, echo, until } from '../support/engine.ts';
import { bytesOf } from '../support/engine-peers.ts';
import { connectTls, listenTls, nothingLeft, startTlsRig, type TlsRig } from '../support/engine-tls.ts';
import { requirePeer } from '../support/peers.ts';
import { serverNameOf } from '../support/pki.ts';
import { runTlsClient, startTlsServer } from '../support/tls-peer.ts';
import { nodeOptions } from '../support/tls-script.ts';

const { ECONNRESET } = constants.errno;

const SUITES = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];

/** Groups as they are configured, and as OpenSSL reports them. */
const GROUP_NAMES: Readonly<Record<string, string>> = {
  X25519MLKEM768: 'X25519MLKEM768',
  X25519: 'x25519',
  'P-256': 'secp256r1',
};

const BYTES = 2_000_000;

/** Everything a socket of node:tls receives until its end; it has ended in order. */
async function everything(socket: TLSSocket): Promise<Buffer> {
  const parts: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on('data', (bytes) => parts.push(bytes)).on('end', resolve);
    socket.on('error', reject);
  });
  return Buffer.concat(parts);
}

async function listening(t: Test, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('a server without a port');
  return bound.port;
}

for (const suite of SUITES) {
  for (const group of Object.keys(GROUP_NAMES)) {
    t.test(`a client of node:tls with ${suite} and ${group}`, async (t) => {
      const rig = await startTlsRig(t);
      const { port } = listenTls(rig, echo(rig.test.engine));
      const options = nodeOptions({ credential: rig.clientCredential, anchors: rig.pki.anchors, suite });
      const clientOptions: ConnectionOptions = {
        ...options,
        ecdhCurve: group,
        port,
        host: '127.0.0.1',
        servername: serverNameOf('server'),
        ALPNProtocols: ['foreign', 'transport.l5d.io/v1'],
      };
      const socket = connect({ ...clientOptions, allowHalfOpen: true } as ConnectionOptions);
      socket.end(bytesOf(1, 0, 900_000));
      t.ok((await everything(socket)).equals(bytesOf(1, 0, 900_000)), 'the echo is whole');
      t.ok(socket.authorized, 'the client believes our name');
      t.equal(socket.alpnProtocol, 'transport.l5d.io/v1');
      await nothingLeft(rig.test);
      const [seen] = rig.test.accepts;
      const name = GROUP_NAMES[group];
      t.match(seen.handshakes, [{ cipher: suite, group: name, serverName: serverNameOf('server') }]);
      t.match(seen.endings, [{ errno: 0, bytesRead: 900_000, bytesWritten: 900_000 }]);
    });

    t.test(`a server of node:tls with ${suite} and ${group}`, async (t) => {
      const rig = await startTlsRig(t);
      const { engine } = rig.test;
      const options = nodeOptions({ credential: rig.serverCredential, anchors: rig.pki.anchors, suite });
      let clientName = '';
      const server = createServer(
        {
          ...options,
          ecdhCurve: group,
          requestCert: true,
          rejectUnauthorized: true,
          ALPNProtocols: ['transport.l5d.io/v1'],
          allowHalfOpen: true,
        },
        (socket) => {
          clientName = String(socket.getPeerCertificate().subjectaltname);
          socket.pipe(socket);
        },
      );
      const port = await listening(t, server);
      const client = connectTls(rig, at(`127.0.0.1:${port}`), {
        secured: ({ id }) => {
          engine.send(id, bytesOf(2, 0, 900_000));
          engine.shutdown(id);
        },
      });
      await until(() => client.gone, 'the end');
      t.ok(
        Buffer.concat(client.received).equals(bytesOf(2, 0, 900_000)),
        'the echo is whole, two tickets aside',
      );
      const name = GROUP_NAMES[group];
      t.match(client.handshakes, [{ cipher: suite, group: name, alpn: 'transport.l5d.io/v1' }]);
      t.match(clientName, serverNameOf('client'));
      t.match(client.endings, [{ errno: 0, bytesRead: 900_000, bytesWritten: 900_000 }]);
      await nothingLeft(rig.test);
    });
  }
}

t.test('a session that a client of node:tls wants to resume is made anew', async (t) => {
  const rig = await startTlsRig(t);
  const { port } = listenTls(rig, echo(rig.test.engine));
  // A server of its own gives out sessions; ours gives none.
  const options = nodeOptions({ credential: rig.clientCredential, anchors: rig.pki.anchors });
  const giver = createServer({
    ...nodeOptions({ credential: rig.serverCredential, anchors: rig.pki.anchors }),
    sessionTimeout: 300,
  });
  const giverPort = await listening(t, giver);
  const host = { ...options, host: '127.0.0.1', servername: serverNameOf('server') };
  const first = connect({ ...host, port: giverPort });
  const session = await new Promise<Buffer>((resolve) => first.on('session', resolve));
  first.destroy();
  let offered = 0;
  const again = connect({ ...host, port, session });
  again.on('session', () => offered++);
  again.end('again');
  t.equal((await everything(again)).toString(), 'again');
  t.notOk(again.isSessionReused());
  t.equal(offered, 0, 'and gives no ticket');
  t.ok(rig.test.accepts[0].handshakes[0].peer !== undefined, 'the client proved who it is');
});

/** PEM files of a rig's credentials in a folder that goes with the test. */
function files(t: Test, rig: TlsRig, credential: Credential): { ca: string; cert: string; key: string } {
  const folder = mkdtempSync(join(tmpdir(), `ferrule-engine-tls-${process.pid}-`));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const paths = { ca: join(folder, 'ca.crt'), cert: join(folder, 'own.crt'), key: join(folder, 'own.key') };
  writeFileSync(paths.ca, rig.pki.anchors);
  writeFileSync(paths.cert, credential.certificatePem);
  writeFileSync(paths.key, credential.keyPem, { mode: 0o600 });
  return paths;
}

/** A running openssl(1) and all it said. */
class OpenSsl {
  readonly child: ChildProcessWithoutNullStreams;
  output = '';
  exited = false;

  constructor(t: Test, program: string, args: readonly string[]) {
    this.child = spawn(program, args);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('latin1').on('data', (text: string) => {
        this.output += text;
      });
    }
    this.child.on('exit', () => {
      this.exited = true;
    });
    t.teardown(async () => {
      this.child.kill('SIGKILL');
      await until(() => this.exited, 'the end of openssl');
    });
  }

  /** Waits until `text` was said, `times` times. */
  async says(text: string, times = 1): Promise<void> {
    await until(
      () => this.output.split(text).length > times,
      `openssl says ${text}: ${this.output.slice(-300)}`,
    );
  }
}

t.test('openssl s_client: with and without middlebox compatibility, key updates, the end', async (t) => {
  const program = requirePeer(t, 'openssl');
  if (program === undefined) return;
  for (const extra of [[], ['-no_middlebox'], ['-groups', 'P-384:P-256'], ['-split_send_frag', '512']]) {
    const rig = await startTlsRig(t);
    const { port } = listenTls(rig, echo(rig.test.engine));
    const { ca, cert, key } = files(t, rig, rig.clientCredential);
    const identity = ['-CAfile', ca, '-cert', cert, '-key', key, '-verify_return_error'];
    const where = [
      's_client',
      '-connect',
      `127.0.0.1:${port}`,
      '-servername',
      serverNameOf('server'),
      '-tls1_3',
    ];
    const peer = new OpenSsl(t, program, [...where, ...identity, ...extra]);
    await peer.says('Verify return code: 0 (ok)');
    await until(() => rig.test.accepts[0]?.count('secured') === 1, 'the handshake');
    let updates = 0;
    // A read that is K or k is a command: an update of both keys, or of its own.
    for (const command of ['k', 'K', 'K', 'k']) {
      peer.child.stdin.write(`${command}\n`);
      await peer.says('KEYUPDATE', ++updates);
      const line = `behind ${command} ${Math.random()}`;
      peer.child.stdin.write(`${line}\n`);
      await peer.says(line);
    }
    peer.child.stdin.write('Q\n');
    await until(() => rig.test.accepts[0].gone, 'the end');
    t.match(rig.test.accepts[0].endings, [{ errno: 0 }], `${extra}`);
    t.strictSame(rig.test.accepts[0].events, ['secured', 'end', 'closed']);
    await nothingLeft(rig.test);
    await rig.test.stop();
  }
});

t.test('openssl s_server: with and without middlebox compatibility, key updates, many tickets', async (t) => {
  const program = requirePeer(t, 'openssl');
  // Or what it says of a key update stays in its buffer.
  const unbuffered = requirePeer(t, 'stdbuf');
  if (program === undefined || unbuffered === undefined) return;
  for (const extra of [[], ['-no_middlebox'], ['-groups', 'P-256'], ['-num_tickets', '20']]) {
    const rig = await startTlsRig(t);
    const { ca, cert, key } = files(t, rig, rig.serverCredential);
    const identity = ['-CAfile', ca, '-cert', cert, '-key', key, '-Verify', '2', '-verify_return_error'];
    const peer = new OpenSsl(t, unbuffered, [
      '-oL',
      program,
      's_server',
      '-accept',
      '127.0.0.1:0',
      ...identity,
      ...extra,
    ]);
    await peer.says('ACCEPT 127.0.0.1:');
    const port = Number(/ACCEPT 127\.0\.0\.1:(\d+)/.exec(peer.output)?.[1]);
    const client = connectTls(rig, at(`127.0.0.1:${port}`));
    await peer.says('CIPHER is');
    await until(() => client.count('secured') === 1, 'the handshake');
    let updates = 0;
    for (const command of ['k', 'K', 'k', 'K']) {
      peer.child.stdin.write(`${command}\n`);
      const line = `server, behind ${command} ${Math.random()}`;
      await peer.says('SSL_do_handshake', ++updates);
      peer.child.stdin.write(`${line}\n`);
      await until(() => client.text.includes(line), line);
      const answer = `client ${Math.random()}`;
      rig.test.engine.send(client.id, Buffer.from(`${answer}\n`));
      await peer.says(answer);
    }
    peer.child.stdin.write('Q\n');
    await until(() => client.gone, 'the end');
    // It says no close_notify.
    t.strictSame([client.count('end'), client.endings[0].errno], [0, ECONNRESET], `${extra}`);
    await nothingLeft(rig.test);
    await rig.test.stop();
  }
});

t.test("Python's ssl in both roles", async (t) => {
  const python = requirePeer(t, 'python3');
  if (python === undefined) return;
  const rig = await startTlsRig(t);
  const { engine } = rig.test;
  const { port } = listenTls(rig, echo(engine));
  const sent = bytesOf(9, 0, 900_000);
  for (const options of [{}, { recordBytes: 50 }, { segmentBytes: 10 }, { curve: 'prime256v1' }]) {
    const report = await runTlsClient(t, python, port, {
      ...files(t, rig, rig.clientCredential),
      sni: serverNameOf('server'),
      send: sent,
      halfClose: true,
      ...options,
    });
    t.match(report, { secured: true, ended: 'close_notify', bytes: sent.length }, JSON.stringify(options));
  }
  const truncated = await runTlsClient(t, python, port, {
    ...files(t, rig, rig.clientCredential),
    sni: serverNameOf('server'),
    send: 'cut',
    misbehave: 'truncate',
  });
  t.equal(truncated.ended, 'truncated');
  await until(() => rig.test.accepts.length === 5 && rig.test.accepts.every(({ gone }) => gone), 'the ends');
  t.strictSame(
    rig.test.accepts.map((seen) => [seen.count('end'), seen.endings[0].errno === 0]),
    [...Array.from({ length: 4 }, () => [1, true]), [0, false]],
  );
  const server = await startTlsServer(t, python, files(t, rig, rig.serverCredential));
  const client = connectTls(rig, at(`127.0.0.1:${server.port}`), {
    secured: ({ id }) => {
      for (let from = 0; from < BYTES; from += 500_000) engine.send(id, bytesOf(4, from, 500_000));
      engine.shutdown(id);
    },
  });
  await until(() => client.gone, 'the end');
  t.match(client.endings, [{ errno: 0, bytesRead: BYTES, bytesWritten: BYTES }]);
  t.match(await server.next(), { secured: true, ended: 'close_notify', bytes: BYTES });
  await nothingLeft(rig.test);
});
