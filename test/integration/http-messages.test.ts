/** What requests and responses can be, byte by byte: pipelines, interim responses, responses without a body, trailers, upgrades. */
import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { serve } from '../support/engine-peers.ts';
import { sendRaw } from '../support/http.ts';
import { startApplication } from '../support/http-application.ts';
import { type Route, type Routes, startRoutes } from '../support/http-routes.ts';

const HOST = 'Host: app.default\r\n';
const LAST = 'Connection: close\r\n';

/** Runs the same over every route, and looks that nothing is left. */
async function overAll(
  t: Test,
  { routes, idle }: Routes,
  one: (t: Test, say: Say, route: Route) => Promise<void>,
) {
  for (const route of routes) {
    const { ip, port } = route.address;
    const say = async (text: string) => (await sendRaw(ip, port, text)).text;
    await t.test(route.name, (t) => one(t, say, route));
  }
  await idle();
}

/** Sends a text; what comes until the end of the connection. */
type Say = (text: string) => Promise<string>;

t.test('messages', async (t) => {
  const application = await startApplication(t);
  await overAll(t, await startRoutes(t, application.address), async (t, say) => {
    const paths = Array.from({ length: 30 }, (_, index) => `/p${index}`);
    const heads = paths.map(
      (path, index) => `GET ${path} HTTP/1.1\r\n${HOST}${index === 29 ? LAST : ''}\r\n`,
    );
    const answers = (await say(heads.join(''))).match(/answer to \/p\d+/g);
    t.strictSame(
      answers,
      paths.map((path) => `answer to ${path}`),
      'a pipeline is answered in order',
    );

    const body = `POST /echo HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`;
    const chunks = `POST /echo HTTP/1.1\r\n${HOST}${LAST}Transfer-Encoding: chunked\r\n\r\n1;x=y\r\nd\r\n2\r\nef\r\n0\r\n\r\n`;
    const echoed = await say(body + chunks);
    t.match(echoed, /abc[\s\S]*\bd\r\n2\r\nef/, 'bodies in a pipeline');

    const hints = await say(`GET /hints HTTP/1.1\r\n${HOST}${LAST}\r\n`);
    t.match(
      hints,
      /^HTTP\/1\.1 103 [\s\S]*HTTP\/1\.1 102 [\s\S]*HTTP\/1\.1 200 [\s\S]*answer to/,
      'interim responses',
    );
    t.match(await say(`GET /hints HTTP/1.0\r\n\r\n`), /^HTTP\/1\.1 200 /, 'not for HTTP/1.0');

    for (const status of [204, 304]) {
      const two = `GET /status?n=${status} HTTP/1.1\r\n${HOST}\r\nGET /after HTTP/1.1\r\n${HOST}${LAST}\r\n`;
      t.match(
        await say(two),
        new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*answer to /after`),
        `${status} has no body`,
      );
    }
    const headThenGet = `HEAD /body?n=9&framing=length HTTP/1.1\r\n${HOST}\r\nGET /after HTTP/1.1\r\n${HOST}${LAST}\r\n`;
    t.match(
      await say(headThenGet),
      /content-length: 9[\s\S]*\r\n\r\nHTTP\/1\.1 200[\s\S]*answer to \/after/i,
      'HEAD',
    );

    const kept = `GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n`;
    t.match(
      await say(kept),
      /connection: keep-alive[\s\S]*answer to \/1[\s\S]*answer to \/2/i,
      'HTTP/1.0 keep-alive',
    );

    const trailers = `POST /digest HTTP/1.1\r\n${HOST}${LAST}Trailer: x-t\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: yes\r\n\r\n`;
    t.match(await say(trailers), /"trailers":{"x-t":"yes"}/, 'trailers of the request');
    t.match(
      await say(`OPTIONS * HTTP/1.1\r\n${HOST}${LAST}\r\n`),
      /answer to \*|^HTTP\/1\.1 200/,
      'asterisk form',
    );
  });
});

t.test('upgrades', async (t) => {
  const server = await serve(t, (peer) => {
    peer.socket.once('data', (bytes) => {
      const accepts = String(bytes).includes('/ws');
      if (!accepts) peer.socket.write('HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno');
      else {
        peer.socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst',
        );
        peer.socket.pipe(peer.socket);
      }
    });
  });
  const upgrade = `HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
  await overAll(t, await startRoutes(t, server.address), async (t, say, { address }) => {
    const client = connect({ host: address.ip, port: address.port });
    let text = '';
    client.on('data', (bytes) => {
      text += bytes;
      if (text.endsWith('EARLY')) client.end('late');
    });
    client.write(`GET /ws ${upgrade}EARLY`);
    await once(client, 'close');
    t.match(
      text,
      /^HTTP\/1\.1 101 [\s\S]*upgrade: websocket[\s\S]*firstEARLYlate$/i,
      'bytes before the 101 arrive behind it',
    );

    const before = server.peers.length;
    const refused = await say(`GET /no ${upgrade}GET /smuggled HTTP/1.1\r\n${HOST}\r\n`);
    t.match(refused, /^HTTP\/1\.1 400 [\s\S]*connection: close[\s\S]*no$/i, 'a refusal closes');
    t.notOk(
      server.peers.slice(before).some((peer) => peer.text.includes('smuggled')),
      'and nothing follows',
    );
  });
});
