/** Clients and applications that begin at the same time, or do not begin: nobody's first bytes go to the wrong place. */
import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { until } from '../support/engine.ts';
import { dial, serve } from '../support/engine-peers.ts';
import { clientStart, GET, headers, settings } from '../support/h2.ts';
import { startH2Application } from '../support/h2-application.ts';
import { makeIdentities } from '../support/identities.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

/** So many looks without a change, and nothing moves any more. */
const STILL_LOOKS = 30;

const GREETING = '220 welcome\r\n';

/** What a client that says nothing hears first; the code of its error otherwise. */
async function greeted({ ip, port }: SocketAddress): Promise<string> {
  const client = connect({ host: ip, port });
  try {
    return String((await once(client, 'data'))[0]);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  } finally {
    client.destroy();
  }
}

t.test('a greeting does not overtake the ClientHello of a meshed client', async (t) => {
  const application = await serve(t, ({ socket }) => {
    socket.write(GREETING);
  });
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const inbound = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: application.address.port }] },
  });
  const endpoint = { address: inbound.listeners[0], identity: api.spiffe };
  const outbound = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('smtp'),
    mesh: { 'smtp.yaml': serviceYaml('smtp', [endpoint]) },
  });
  t.equal(
    await greeted(inbound.listeners[0]),
    GREETING,
    'an unmeshed client, of whom it is learned who speaks first',
  );
  const heard = new Set<string>();
  for (let burst = 0; burst < 5; burst++) {
    const answers = await Promise.all(Array.from({ length: 20 }, () => greeted(outbound.listeners[0])));
    for (const answer of answers) heard.add(answer);
  }
  t.strictSame([...heard], [GREETING]);
});

t.test(
  'a client that begins like TLS and stops costs the first bytes of the application, not all',
  async (t) => {
    const chunk = Buffer.alloc(1 << 20, '.');
    let sent = 0;
    const application = await serve(t, ({ socket }) => {
      const more = () => {
        do sent += chunk.length;
        while (socket.write(chunk));
      };
      socket.on('drain', more);
      more();
    });
    const identities = await makeIdentities(t);
    const inbound = await startTestProxy(t, {
      identity: (await identities.make('api')).settings,
      inbound: { ports: [{ listen: '127.0.0.1:0', port: application.address.port }] },
    });
    // So that the application is dialled at once from now on.
    await greeted(inbound.listeners[0]);
    await inbound.idle();
    const before = inbound.anonymousBytes();
    const client = await dial(t, inbound.listeners[0]);
    client.socket.write(Buffer.from([0x16]));
    await application.peer(1);
    let seen = -1;
    let looks = 0;
    await eventually('the application is not read from any more', () => {
      looks = sent === seen ? looks + 1 : 0;
      seen = sent;
      return looks === STILL_LOOKS ? true : undefined;
    });
    t.ok(
      inbound.anonymousBytes() - before < 16 << 20,
      `${inbound.anonymousBytes() - before} bytes more, of ${sent}`,
    );
    client.socket.write('no hello after all');
    await until(() => client.receivedBytes > 1 << 20, 'what the application says goes on');
    client.socket.destroy();
    await inbound.idle();
  },
);

/** An application of HTTP/1 behind both sides of a proxy; connections come to it in the order of the listeners. */
async function startWeb(t: Test, greeting: string | Uint8Array = '') {
  const application = await serve(t, ({ socket }) => {
    socket.write(greeting);
    socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
    socket.on('end', () => socket.end());
  });
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('web'),
    inbound: { ports: [{ listen: '127.0.0.1:0', port: application.address.port }] },
    mesh: { 'web.yaml': serviceYaml('web', [{ address: application.address }]) },
  });
  return { application, proxy };
}

t.test('an upstream that was dialled for a silent client is not kept for one that speaks HTTP', async (t) => {
  const { application, proxy } = await startWeb(t);
  for (const [turn, address] of proxy.listeners.entries()) {
    const client = await dial(t, address);
    const raced = await application.peer(2 * turn);
    client.socket.write('GET / HTTP/1.1\r\nHost: web\r\n\r\n');
    await until(() => client.text.endsWith('ok'), 'the answer');
    await until(() => raced.closed, 'the end of the other connection');
    t.equal(raced.receivedBytes, 0);
    client.socket.destroy();
  }
  await proxy.idle();
});

for (const [name, greeting] of [
  ['a client that leaves without a word says nothing of those to come', ''],
  ['… nor when the server has sent the first frame of HTTP/2 meanwhile', settings()],
] as const) {
  t.test(name, async (t) => {
    const { application, proxy } = await startWeb(t, greeting);
    for (const [turn, address] of proxy.listeners.entries()) {
      const probe = await dial(t, address);
      if (greeting.length === 0) probe.socket.end();
      const probed = await application.peer(2 * turn);
      if (greeting.length > 0) {
        await until(() => probed.socket.writableLength === 0, 'the greeting');
        probe.socket.end();
      }
      await until(() => probed.closed, 'the end of the probe');
      const client = await dial(t, address);
      client.socket.write('GET / HTTP/1.1\r\nHost: web\r\n\r\n');
      await until(() => client.receivedBytes > 0, 'the answer');
      client.socket.destroy();
    }
    await proxy.idle();
    const probesAndRequests = 2 * proxy.listeners.length;
    t.equal(application.peers.length, probesAndRequests, 'nothing is dialled before a client has spoken');
  });
}

t.test('what an HTTP/2 server says first decides nothing', async (t) => {
  const { address } = await startH2Application(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', [{ address }], undefined, 'kubernetes.io/h2c') },
  });
  const [listener] = proxy.listeners;
  const silentAtFirst = async (bytes: string | Uint8Array, wanted: RegExp) => {
    const client = await dial(t, listener);
    await proxy.until('tcp_open_connections', { peer: 'dst' }, (open) => open > 0);
    client.socket.write(bytes);
    await until(() => wanted.test(client.text), 'the answer');
    client.socket.destroy();
    return client.text;
  };
  const answer = await silentAtFirst('GET /one HTTP/1.1\r\nHost: app\r\n\r\n', /answer to \/one/);
  t.match(answer, /^HTTP\/1\.1 200 /);
  await silentAtFirst(Buffer.concat([clientStart(), headers(1, GET)]), /answer to \//);
  t.equal(await proxy.sum('request_total', { direction: 'outbound' }), 2, 'both are requests, not bytes');
});
