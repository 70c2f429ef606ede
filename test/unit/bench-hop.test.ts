/** A pair of proxies that is less than mutual TLS is found out before it is measured. */

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, pipeline } from 'node:stream';
import {
  type ConnectionOptions,
  connect as connectTls,
  createServer as createTlsServer,
  type TlsOptions,
} from 'node:tls';
import t, { type Test } from 'tap';
import { verifyHop } from '../../bench/harness/hop.ts';
import { makeIdentities } from '../../bench/harness/identities.ts';
import { CIPHER, type Hop, type Identities, type Identity } from '../../bench/harness/model.ts';
import { requirePeer } from '../support/peers.ts';

/** What a pair does otherwise than it should. */
interface Faults {
  readonly plain?: boolean;
  readonly client?: ConnectionOptions;
  readonly server?: TlsOptions;
}

async function listening(t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** What breaks one side ends the other; that exchanges fail is what is looked at. */
function relay(near: Duplex, far: Duplex): void {
  const ended = (error: Error | null) => {
    if (error === null || error === undefined) return;
    near.destroy();
    far.destroy();
  };
  pipeline(near, far, ended);
  pipeline(far, near, ended);
}

function optionsOf({ certificate, key, trustAnchors }: Identity) {
  const choice = { ciphers: CIPHER, ecdhCurve: 'X25519', minVersion: 'TLSv1.3' } as const;
  return { cert: certificate, key, ca: trustAnchors, ...choice };
}

/** Starts a pair in this process. */
async function startPair(t: Test, identities: Identities, faults: Faults): Promise<Hop> {
  const { client, server } = identities;
  const backendPort = await listening(
    t,
    createServer((socket) => void socket.once('data', () => socket.end('pong'))),
  );
  const pass = (socket: Duplex) => relay(socket, connect(backendPort, '127.0.0.1'));
  const asked = { ...optionsOf(server), requestCert: true, ...faults.server };
  const behind: Server = faults.plain === true ? createServer(pass) : createTlsServer(asked, pass);
  const port = await listening(t, behind);
  const dial = (to: number) => {
    if (faults.plain === true) return connect(to, '127.0.0.1');
    const own = { ...optionsOf(client), servername: server.dns, ...faults.client };
    return connectTls({ port: to, host: '127.0.0.1', ...own });
  };
  const startClient = async (to: number) => {
    const before = createServer((socket) => relay(socket, dial(to)));
    return { port: await listening(t, before), stop: async () => void before.close() };
  };
  const agreed = { group: 'X25519', alpn: undefined, resumes: false } as const;
  return { port, backendPort, identities, ...agreed, startClient };
}

async function exchange(port: number): Promise<void> {
  const socket: Socket = connect(port, '127.0.0.1');
  // More than the head of a TLS record, for which a server would wait.
  socket.write('ping'.repeat(10));
  let answer = '';
  for await (const piece of socket) answer += String(piece);
  if (answer !== 'pong') throw new Error(`wrong answer: ${JSON.stringify(answer)}`);
}

t.test('pairs', async (t) => {
  if (requirePeer(t, 'openssl') === undefined) return;
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-bench-hop-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const identities = await makeIdentities(join(folder, 'identities'));
  const verified = async (faults: Faults) => verifyHop(await startPair(t, identities, faults), exchange);

  await t.resolves(verified({}), 'mutual TLS 1.3 with the group and the cipher');
  const wrong: readonly (readonly [Faults, RegExp])[] = [
    [{ plain: true }, /wrong answer|ECONNRESET|no TLS|EPIPE/],
    [{ client: { rejectUnauthorized: false } }, /the client accepts servers of any name/],
    [{ client: { checkServerIdentity: () => undefined } }, /the client accepts servers of any name/],
    [{ client: { ecdhCurve: 'P-256' }, server: { ecdhCurve: 'P-256' } }, /group P-256, not on X25519/],
    [
      { client: { ciphers: 'TLS_AES_256_GCM_SHA384' }, server: { ciphers: 'TLS_AES_256_GCM_SHA384' } },
      /cipher TLS_AES_256_GCM_SHA384, not on TLS_AES_128_GCM_SHA256/,
    ],
    [{ server: { rejectUnauthorized: false } }, /the server accepts (clients without|certificates of any)/],
  ];
  for (const [faults, message] of wrong) await t.rejects(verified(faults), { message }, String(message));
});
