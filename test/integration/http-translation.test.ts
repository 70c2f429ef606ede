/** Clients of one version of HTTP and applications of the other, which say so by `appProtocol`: what is sent arrives, in both directions. */
import { once } from 'node:events';
import { Agent, request as ask, type IncomingMessage } from 'node:http';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { H2Client, startH2Application } from '../support/h2-application.ts';
import { exerciseBodies, exerciseConnect, exerciseMessages } from '../support/h2-exercises.ts';
import { sendRaw } from '../support/http.ts';
import { pieces, startApplication, streamDigest } from '../support/http-application.ts';
import { exerciseClients } from '../support/http-exercises.ts';
import { run, startServer } from '../support/http-programs.ts';
import { type Route, type Routes, startRoutes } from '../support/http-routes.ts';
import { FILE_BYTES, HTTP_SERVERS, LOADS } from '../support/http-servers.ts';
import { HTTP2_CLIENTS, HTTP2_SERVERS, http2Checks } from '../support/http2-servers.ts';
import { requirePeer } from '../support/peers.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

/** Around a frame, a window, what is kept of a body to be sent again; and a long one. */
const SIZES = [0, 1, 16_385, 65_536, 100_000, 10_000_000];

/** The clients' side knows what services declare; the application's side passes on what comes. */
const declared = ({ routes }: Routes) => routes.filter(({ name }) => name !== 'inbound');

/** What was spoken for the latest request with that path: by its client, and to its endpoint. */
async function spoken(proxy: TestProxy, path: string): Promise<string> {
  const { detection, attempts } = await eventually(`${path} is explained`, async () =>
    (await proxy.explanations()).find((one) => one.request.path === path && one.endedAfterMs !== undefined),
  );
  return `${detection.protocol} to ${attempts.at(-1)?.protocol}`;
}

/** The JSON that an application answers, which tells what it was asked. */
async function asked({ address }: Route, method: string, body: Iterable<Buffer>, headers = {}) {
  const agent = new Agent();
  const request = ask({ host: address.ip, port: address.port, agent, method, path: '/digest', headers });
  const answered = once(request, 'response');
  for (const piece of body) if (!request.write(piece)) await once(request, 'drain');
  request.end();
  const [response] = (await answered) as [IncomingMessage];
  return JSON.parse(Buffer.concat(await response.toArray()).toString());
}

t.test('HTTP/2 clients of an application that speaks HTTP/1', async (t) => {
  const application = await startApplication(t);
  const started = await startRoutes(t, application.address, { appProtocol: 'http' });
  for (const { name, address } of declared(started)) {
    await t.test(name, async (t) => {
      const client = new H2Client(t, address);
      await exerciseMessages(t, client);
      await exerciseConnect(t, client, [{ ':method': 'CONNECT', ':authority': 'app.default:80' }]);
      await exerciseBodies(t, client, SIZES, SIZES.at(-1)!);
      const { httpVersion, headers } = JSON.parse((await client.get('/digest?last=1', { 'x-a': 'b' })).text);
      t.equal(httpVersion, '1.1');
      t.equal(headers['x-a'], 'b');
      t.strictSame(
        Object.keys((await client.get('/')).headers).filter((field) => field.startsWith('l5d-')),
        [],
        'the client sees nothing of it',
      );
      const many = Array.from({ length: 100 }, (_, n) => client.post('/echo', pieces(n * 1_000)));
      const wrong = (await Promise.all(many)).flatMap(({ digest }, n) =>
        digest === streamDigest(n * 1_000) ? [] : [n],
      );
      t.strictSame(wrong, [], 'a hundred at once');
      t.equal((await client.get('/explained')).status, 200);
      client.session.close();
      await client.closed();
    });
  }
  const { outgoing, sharing } = started;
  t.equal(await spoken(outgoing, '/explained'), 'h2 to http/1');
  t.equal(
    await spoken(sharing, '/explained'),
    'h2 to h2',
    'its proxy is spoken to in HTTP/2, and translates',
  );
  t.notOk(application.seen.includes('PRI *'), 'the application has heard no HTTP/2');
});

t.test('HTTP/1 clients of an application that speaks HTTP/2', async (t) => {
  const application = await startH2Application(t);
  const started = await startRoutes(t, application.address, { appProtocol: 'kubernetes.io/h2c' });
  for (const route of declared(started)) {
    const { name, address } = route;
    await t.test(name, async (t) => {
      const body = Array.from(pieces(10_000_000));
      const cookie = 'a=1; b=2';
      const got = await asked(route, 'PUT', body, { host: 'app.test', cookie, te: 'trailers' });
      t.strictSame([got.length, got.digest], [10_000_000, streamDigest(10_000_000)], 'up');
      t.match(got.headers, {
        ':method': 'PUT',
        ':scheme': 'http',
        ':authority': 'app.test',
        ':path': '/digest',
        te: 'trailers',
        cookie,
      });
      const own = Object.keys(got.headers).filter((field) => /^(connection|transfer|l5d-orig)/.test(field));
      t.strictSame(own, [], 'nothing of HTTP/1 is left');

      const say = async (text: string) => (await sendRaw(address.ip, address.port, text)).text;
      // What HTTP/1.0 does not name has a name in HTTP/2.
      const head = await say('HEAD /body?n=9 HTTP/1.1\r\nHost: x\r\n\r\nGET /1 HTTP/1.0\r\n\r\n');
      t.match(
        head,
        /^HTTP\/1.1 200 [\s\S]*content-length: 9[\s\S]*\r\n\r\nHTTP\/1.1 200 [\s\S]*answer to \/1/i,
      );
      for (const status of [204, 304]) {
        const two = `GET /status?n=${status} HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.0\r\n\r\n`;
        t.match(await say(two), new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*answer to /2`), `${status}`);
      }
    });
  }
  t.equal(await spoken(started.outgoing, '/digest'), 'http/1 to h2');
  t.equal(await spoken(started.incoming, '/digest'), 'h2 to h2', 'the other proxy passes on what it gets');
});

/** A proxy in front of one server. */
async function startProxy(t: Test, address: SocketAddress, appProtocol: string): Promise<SocketAddress> {
  const mesh = { 'app.yaml': serviceYaml('app', [{ address }], undefined, appProtocol) };
  const proxy = await startTestProxy(t, { outbound: listenerFor('app'), mesh });
  return proxy.listeners[0];
}

t.test('load of HTTP/1 for an application that speaks HTTP/2', async (t) => {
  const { address } = await startH2Application(t);
  const outcomes = await exerciseClients(await startProxy(t, address, 'grpc'));
  for (const { name, asked: count, wrong } of outcomes) t.strictSame(wrong, [], `${name}: ${count} requests`);
});

t.test('programs of others', async (t) => {
  const [nghttpd] = HTTP2_SERVERS;
  const [nginx] = HTTP_SERVERS;
  const programs = [nghttpd.program, nginx.program, ...HTTP2_CLIENTS, ...LOADS.map(({ program }) => program)];
  const paths = programs.map((name) => requirePeer(t, name));
  const [http2Server, http1Server] = paths;
  if (http2Server === undefined || http1Server === undefined || paths.includes(undefined)) return;
  const http1 = await startServer(t, http1Server, nginx);
  for (const { what, command, args, right } of http2Checks(
    nginx,
    await startProxy(t, http1.address, 'http'),
  )) {
    const { stdout, stderr } = await run(command, [...args]);
    t.match(stdout, right, `nginx: ${what} ${stderr}`);
  }
  const http2 = await startServer(t, http2Server, nghttpd);
  const url = `http://${await startProxy(t, http2.address, 'h2c')}`;
  for (const { program, args, right } of LOADS) {
    const { stdout, stderr } = await run(program, [...args, `${url}/small`]);
    t.match(stdout, right, `nghttpd: ${program} ${args.join(' ')} ${stderr}`);
  }
  const { stdout } = await run('sh', ['-c', `curl -sS -m 20 ${url}/file | sha256sum`]);
  t.match(stdout, streamDigest(FILE_BYTES), 'nghttpd: curl');
});
