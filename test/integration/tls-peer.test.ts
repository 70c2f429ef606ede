/** The independent TLS peer against Node's TLS and against itself: what other tests conclude from its reports holds. */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import t, { type Test } from 'tap';
import { requirePeer } from '../support/peers.ts';
import { makeAuthority, type TestCertificate } from '../support/test-certificates.ts';
import { runTlsClient, startTlsServer, type TlsPeerOptions } from '../support/tls-peer.ts';

const SERVER = 'web.shop.serviceaccount.identity.linkerd.cluster.local';
const SERVER_ID = 'spiffe://cluster.local/ns/shop/sa/web';
const CLIENT = 'cart.shop.serviceaccount.identity.linkerd.cluster.local';
const CLIENT_ID = 'spiffe://cluster.local/ns/shop/sa/cart';
const ALPN = ['transport.l5d.io/v1'];

/** Written down by hand from the format: port 8080, name `web.shop`, HTTP/2. */
const HEADER_BYTES = Buffer.concat([
  Buffer.from('transport.l5d.io/v1\r\n\r\n', 'latin1'),
  Buffer.from('00000011', 'hex'),
  Buffer.from('08903f', 'hex'),
  Buffer.from('12087765622e73686f70', 'hex'),
  Buffer.from('1a021200', 'hex'),
]);

interface Rig {
  readonly python: string;
  readonly server: TlsPeerOptions;
  readonly client: TlsPeerOptions;
  readonly stranger: TlsPeerOptions;
}

const rig = makeRig(t);

if (rig !== undefined) {
  const { python, server, client, stranger } = rig;

  t.test('both roles see the names, the protocol and every byte of each other', async (t) => {
    const listener = await startTlsServer(t, python, { ...server, alpn: ALPN });
    const header = { port: 8080, name: 'web.shop', session: 'http2' } as const;
    const asked = await runTlsClient(t, python, listener.port, {
      ...client,
      sni: SERVER,
      alpn: ALPN,
      header,
      send: 'x'.repeat(3_000_000),
      recordBytes: 7,
      segmentBytes: 11,
    });
    t.match(asked, { secured: true, ended: 'close_notify', bytes: 3_000_000, alpn: ALPN[0], resumed: false });
    t.match(asked, { version: 'TLSv1.3', cipher: /^TLS_/ });
    t.strictSame(asked.sans, [
      ['DNS', SERVER],
      ['URI', SERVER_ID],
    ]);
    const seen = await listener.next();
    t.match(seen, { secured: true, ended: 'close_notify', bytes: 3_000_000, sni: SERVER, header });
    t.strictSame(seen.sans, [
      ['DNS', CLIENT],
      ['URI', CLIENT_ID],
    ]);
  });

  t.test('the header is the bytes of the format', async (t) => {
    const { port, received } = await nodeServer(t, server);
    const header = { port: 8080, name: 'web.shop', session: 'http2' } as const;
    await runTlsClient(t, python, port, {
      ...client,
      sni: SERVER,
      alpn: ALPN,
      header,
      send: 'hi',
      expect: 0,
    });
    t.strictSame(await received, Buffer.concat([HEADER_BYTES, Buffer.from('hi')]));
  });

  t.test('a server reads a header that comes byte by byte', async (t) => {
    const listener = await startTlsServer(t, python, { ...server, alpn: ALPN });
    const socket = nodeClient(t, listener.port, client);
    for (const byte of Buffer.concat([HEADER_BYTES, Buffer.from('hello')])) socket.write(Uint8Array.of(byte));
    socket.end();
    t.equal(await text(socket), 'hello');
    const header = { port: 8080, name: 'web.shop', session: 'http2' };
    t.match(await listener.next(), { ended: 'close_notify', data: 'hello', header });
  });

  t.test('a server says what is wrong with a header', async (t) => {
    const listener = await startTlsServer(t, python, { ...server, alpn: ALPN });
    nodeClient(t, listener.port, client).end('GET / HTTP/1.1\r\n\r\n');
    t.match(await listener.next(), { ended: 'malformed', error: 'preface' });
  });

  t.test('a half-closed client still gets its echo', async (t) => {
    const listener = await startTlsServer(t, python, server);
    const asked = await runTlsClient(t, python, listener.port, {
      ...client,
      sni: SERVER,
      send: 'y'.repeat(200_000),
      halfClose: true,
    });
    t.match(asked, { ended: 'close_notify', bytes: 200_000 });
  });

  t.test('no client certificate, and one of another authority, are refused', async (t) => {
    const listener = await startTlsServer(t, python, server);
    const { ca = '' } = client;
    const without = await runTlsClient(t, python, listener.port, { ca, sni: SERVER, send: 'hi' });
    t.match(without, { ended: 'tls-error', error: /CERTIFICATE_REQUIRED/ });
    t.match(await listener.next(), { secured: false, ended: 'tls-error', bytes: 0 });
    const foreign = await runTlsClient(t, python, listener.port, {
      ...stranger,
      ca,
      sni: SERVER,
      send: 'hi',
    });
    t.match(foreign, { ended: 'tls-error', error: /UNKNOWN_CA/ });
    t.match(await listener.next(), { secured: false, ended: 'refused', bytes: 0 });
  });

  t.test('a client refuses a server of another authority or name', async (t) => {
    const listener = await startTlsServer(t, python, server);
    const foreign = await runTlsClient(t, python, listener.port, { ...stranger, sni: SERVER });
    t.match(foreign, { secured: false, ended: 'refused' });
    const renamed = await runTlsClient(t, python, listener.port, { ...client, sni: 'other.example' });
    t.match(renamed, { secured: false, ended: 'refused', error: /ostname mismatch/ });
    const any = await runTlsClient(t, python, listener.port, {
      ...client,
      sni: 'other.example',
      anyName: true,
    });
    t.match(any, { secured: true, ended: 'close_notify' });
  });

  t.test('TLS 1.2 meets nobody', async (t) => {
    const listener = await startTlsServer(t, python, server);
    const asked = await runTlsClient(t, python, listener.port, { ...client, sni: SERVER, tls12: true });
    t.match(asked, { secured: false, ended: 'tls-error', error: /PROTOCOL_VERSION/ });
    const old = await startTlsServer(t, python, { ...server, tls12: true });
    const answered = await runTlsClient(t, python, old.port, { ...client, sni: SERVER });
    t.match(answered, { secured: false, ended: 'tls-error', error: /PROTOCOL_VERSION/ });
  });

  t.test('a peer that stalls hears nothing until the other side has had enough', async (t) => {
    const listener = await startTlsServer(t, python, { ...server, timeout: 1 });
    const asked = await runTlsClient(t, python, listener.port, { ...client, misbehave: 'stall' });
    t.match(asked, { secured: false, ended: 'eof', raw: '' });
    t.match(await listener.next(), { secured: false, ended: 'timeout' });
    const silent = await startTlsServer(t, python, { ...server, misbehave: 'stall' });
    const waited = await runTlsClient(t, python, silent.port, { ...client, sni: SERVER, timeout: 1 });
    t.match(waited, { secured: false, ended: 'timeout' });
    const heard = await silent.next();
    t.equal(heard.ended, 'eof');
    t.equal(heard.raw?.charCodeAt(0), 22, 'a record of the handshake');
  });

  t.test('plaintext is no TLS to either', async (t) => {
    const listener = await startTlsServer(t, python, { ...server, misbehave: 'plaintext' });
    const asked = await runTlsClient(t, python, listener.port, { ...client, sni: SERVER });
    t.match(asked, { secured: false, ended: 'tls-error', error: 'WRONG_VERSION_NUMBER' });
    const strict = await startTlsServer(t, python, server);
    const plain = { ...client, misbehave: 'plaintext', send: 'GET / HTTP/1.0\r\n\r\n' } as const;
    t.match(await runTlsClient(t, python, strict.port, plain), { secured: false });
    t.match(await strict.next(), { secured: false, ended: 'tls-error', error: 'HTTP_REQUEST' });
  });

  t.test('an end without close_notify is told from one with it', async (t) => {
    const listener = await startTlsServer(t, python, { ...server, misbehave: 'truncate' });
    const asked = await runTlsClient(t, python, listener.port, {
      ...client,
      sni: SERVER,
      send: 'hi',
      // More than comes: whoever says goodbye first may take the end that crosses it for an answer.
      expect: 1_000,
    });
    t.match(asked, { secured: true, ended: 'eof', data: 'hi' });
    const honest = await startTlsServer(t, python, server);
    const cut = await runTlsClient(t, python, honest.port, {
      ...client,
      sni: SERVER,
      send: 'hi',
      misbehave: 'truncate',
    });
    t.equal(cut.ended, 'truncated');
    t.match(await honest.next(), { ended: 'eof', data: 'hi' });
  });

  t.test('an oversized ClientHello is what it claims to be', async (t) => {
    const silent = await startTlsServer(t, python, { ...server, misbehave: 'stall', timeout: 1 });
    const asked = runTlsClient(t, python, silent.port, { ...client, misbehave: 'oversized-hello' });
    t.match(await silent.next(), { ended: 'timeout' });
    t.match(await asked, { secured: false, ended: 'eof' });
  });
}

function makeRig(t: Test): Rig | undefined {
  const python = requirePeer(t, 'python3');
  const openssl = requirePeer(t, 'openssl');
  if (python === undefined || openssl === undefined) return undefined;
  const authority = makeAuthority(t, openssl);
  const other = makeAuthority(t, openssl);
  return {
    python,
    server: { ca: authority.ca, ...authority.issue({ names: [`DNS:${SERVER}`, `URI:${SERVER_ID}`] }) },
    client: {
      ca: authority.ca,
      ...authority.issue({ names: [`DNS:${CLIENT}`, `URI:${CLIENT_ID}`], algorithm: 'ed25519' }),
    },
    stranger: { ca: other.ca, ...other.issue({ names: [`DNS:${CLIENT}`] }) },
  };
}

function pem(options: TlsPeerOptions): { cert: Buffer; key: Buffer; ca: Buffer } {
  const { cert, key } = options as TestCertificate;
  return { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(options.ca ?? '') };
}

/** Node's server: all that its one connection receives. */
async function nodeServer(
  t: Test,
  options: TlsPeerOptions,
): Promise<{ port: number; received: Promise<Buffer> }> {
  const server = tls.createServer({ ...pem(options), requestCert: true, ALPNProtocols: ALPN });
  t.teardown(() => server.close());
  const received = new Promise<Buffer>((resolve, reject) => {
    server.on('tlsClientError', reject);
    server.on('secureConnection', (socket) => {
      const chunks: Buffer[] = [];
      socket.on('error', reject);
      socket.on('data', (chunk) => chunks.push(chunk));
      socket.on('end', () => resolve(Buffer.concat(chunks)));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, received };
}

function nodeClient(t: Test, port: number, options: TlsPeerOptions): tls.TLSSocket {
  const socket = tls.connect({
    host: '127.0.0.1',
    port,
    ...pem(options),
    servername: SERVER,
    ALPNProtocols: ALPN,
  });
  // The server of a malformed header just goes; the test reads its report.
  socket.on('error', (error) => t.comment(error.message));
  t.teardown(() => socket.destroy());
  return socket;
}

async function text(socket: tls.TLSSocket): Promise<string> {
  let all = '';
  for await (const chunk of socket) all += String(chunk);
  return all;
}
