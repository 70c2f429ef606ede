/** curl through one proxy and through two: everything it can say in HTTP/1. */
import t, { type Test } from 'tap';
import { bytesOf, serve } from '../support/engine-peers.ts';
import { answer, startApplication, streamDigest } from '../support/http-application.ts';
import { run } from '../support/http-programs.ts';
import { type Route, startRoutes } from '../support/http-routes.ts';
import { requirePeer } from '../support/peers.ts';

const BODY = Buffer.from(bytesOf(0, 0, 200_000));

async function everything(t: Test, curl: string, { address }: Route): Promise<void> {
  const base = `http://${address}`;
  const ask = async (...args: string[]) => {
    const ran = await run(curl, ['-sS', '-m', '10', ...args], BODY);
    t.equal(ran.status, 0, `${args.join(' ')} ${ran.stderr}`);
    return ran.stdout;
  };
  const digestOf = async (...args: string[]) => JSON.parse(await ask(...args, `${base}/digest`));

  t.match(await ask('-i', `${base}/a`), /^HTTP\/1\.1 200 OK\r\n[\s\S]*answer to \/a$/);
  t.match(
    await ask('-i', '-0', `${base}/a`),
    /^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close[\s\S]*answer to \/a$/i,
  );
  const old = await ask('-i', '-0', `${base}/body?n=3&framing=chunked`);
  t.notMatch(old, /transfer-encoding/i, 'never chunked towards HTTP/1.0');
  t.ok(old.endsWith(String(bytesOf(0, 0, 3).toString('latin1'))));
  t.match(await ask('-I', `${base}/body?n=300000&framing=length`), /content-length: 300000/i, 'HEAD');
  t.match(
    await ask('-I', `${base}/body?n=3&framing=chunked`),
    /^HTTP\/1\.1 200 OK/,
    'HEAD of what is chunked',
  );

  for (const args of [
    ['--data-binary', '@-'],
    ['--data-binary', '@-', '-H', 'Expect: 100-continue'],
    ['--data-binary', '@-', '-H', 'Transfer-Encoding: chunked'],
    ['-T', '-'],
    ['-T', '-', '-H', 'Expect:'],
    ['-0', '--data-binary', '@-'],
  ]) {
    const { length, digest } = await digestOf(...args);
    t.strictSame([length, digest], [BODY.length, streamDigest(BODY.length)], `uploaded ${args.join(' ')}`);
  }
  for (const status of [401, 413, 417]) {
    const url = `${base}/digest?early=${status}`;
    const said = await ask('-i', '-H', 'Expect: 100-continue', '--data-binary', '@-', url);
    t.match(said, new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*early$`), `${status} before the body`);
  }
  const trailers = await ask('-i', '--raw', '-H', 'TE: trailers', `${base}/trailers`);
  t.match(trailers, /\r\n0\r\nx-sum: 42\r\n\r\n$/i, 'trailers of the response');

  const connects = await ask('-w', '%{num_connects} ', `${base}/1`, `${base}/2`, `${base}/3`);
  t.match(connects, /^answer to \/11 answer to \/20 answer to \/30 $/, 'one connection is used again');
  t.match(await ask('-i', '-H', 'Connection: close', `${base}/a`), /connection: close/i);

  t.equal(await ask('--proxy', base, 'http://app.default/abs'), 'answer to /abs', 'absolute form');
}

t.test('curl', async (t) => {
  const curl = requirePeer(t, 'curl');
  if (curl === undefined) return;
  const application = await startApplication(t);
  const { routes, idle } = await startRoutes(t, application.address);
  for (const route of routes) await t.test(route.name, (t) => everything(t, curl, route));
  await idle();
});

t.test('Expect: 100-continue to a server that never says it', async (t) => {
  const curl = requirePeer(t, 'curl');
  if (curl === undefined) return;
  const silent = await startApplication(t);
  silent.server.removeAllListeners('checkContinue').on('checkContinue', (request, response) => {
    answer(request, response);
  });
  const { routes } = await startRoutes(t, silent.address);
  for (const { name, address } of routes) {
    const args = ['-sS', '-m', '10', '-H', 'Expect: 100-continue', '--data-binary', '@-'];
    const ran = await run(curl, [...args, '--expect100-timeout', '0.1', `http://${address}/digest`], BODY);
    t.equal(JSON.parse(ran.stdout).digest, streamDigest(BODY.length), name);
  }
});

t.test('a tunnel through an application that makes some', async (t) => {
  const curl = requirePeer(t, 'curl');
  if (curl === undefined) return;
  // What is at the other end of the tunnel answers in HTTP too.
  const tunnels = await serve(t, (peer) => {
    let part = 0;
    peer.socket.on('end', () => peer.socket.end());
    peer.socket.on('data', () => {
      const ok = 'HTTP/1.1 200 OK\r\n';
      peer.socket.write(part++ === 0 ? `${ok}\r\n` : `${ok}Content-Length: 6\r\n\r\ninside`);
    });
  });
  const { routes, idle } = await startRoutes(t, tunnels.address);
  for (const { name, address } of routes) {
    for (const version of ['--proxy', '--proxy1.0']) {
      const args = ['-sS', '-m', '10', '--proxytunnel', version, `${address}`, 'http://inside.test/x'];
      const ran = await run(curl, args);
      t.equal(ran.stdout, 'inside', `${name} ${version} ${ran.stderr}`);
    }
  }
  await idle();
});
