/** What HTTP/2 messages are made of, through every route: content of all sizes, trailers, interim responses, cookies, CONNECT. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { type H2Answer, H2Client, startH2Application } from '../support/h2-application.ts';
import { exerciseBodies, exerciseConnect, exerciseMessages } from '../support/h2-exercises.ts';
import { pieces, streamDigest } from '../support/http-application.ts';
import { startRoutes } from '../support/http-routes.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Around the limits: a frame, the first window, and what is kept of a body to be sent again. */
const SIZES = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_000_000];
const LARGEST = SOAK ? 1_000_000_000 : 100_000_000;

t.setTimeout(SOAK ? 1_800_000 : 120_000);

/** CONNECT, extended (RFC 8441) or not, is a stream like others: bytes both ways until both sides have ended. */
async function tunnels(t: Test, client: H2Client): Promise<void> {
  if (client.session.remoteSettings.enableConnectProtocol === undefined) {
    await once(client.session, 'remoteSettings');
  }
  t.equal(client.session.remoteSettings.enableConnectProtocol, true);
  const plain = { ':method': 'CONNECT', ':authority': 'app.default:80' };
  const extended = { ...plain, ':protocol': 'websocket', ':scheme': 'http', ':path': '/echo' };
  await exerciseConnect(t, client, [plain, extended]);
}

/** Heads of several frames. */
async function longHeads(t: Test, client: H2Client): Promise<void> {
  const long = randomBytes(20_000).toString('hex');
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`x-${n}`, `${n}`]));
  for (const fields of [{ 'x-long': long }, many]) {
    const { headers } = JSON.parse((await client.get('/digest', fields)).text);
    t.match(headers, fields, 'a long head arrives');
  }
  const refused = await client.get('/digest', { 'x-long': `${long}${long}` });
  t.equal(refused.status, 431, 'one over the limit is refused');
}

t.test('every message arrives as it was sent', async (t) => {
  const application = await startH2Application(t, undefined, {
    settings: { enableConnectProtocol: true, maxHeaderListSize: 70_000 },
  });
  const { routes, idle } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    await t.test(name, async (t) => {
      const client = new H2Client(t, address, { maxSendHeaderBlockLength: 200_000 });
      await exerciseMessages(t, client);
      await tunnels(t, client);
      await longHeads(t, client);
      await exerciseBodies(t, client, SIZES, LARGEST);
      client.session.close();
      await client.closed();
    });
  }
  await t.test('large bodies', async (t) => {
    const [first, , last] = routes;
    for (const { name, address } of [first, last]) {
      t.comment(name);
      const client = new H2Client(t, address);
      await exerciseBodies(t, client, [LARGEST], LARGEST);
      client.session.close();
      await client.closed();
    }
  });
  for (const session of application.sessions) session.close();
  await idle();
});

t.test('a hundred streams at once, on one connection, do not mix', async (t) => {
  const application = await startH2Application(t);
  const { routes } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    const client = new H2Client(t, address);
    const all = Array.from({ length: 100 }, (_, n): Promise<H2Answer> => {
      return n % 2 === 0 ? client.get(`/body?n=${n * 1_000}`) : client.post('/echo', pieces(n * 1_000));
    });
    const wrong = (await Promise.all(all)).flatMap(({ status, digest }, n) => {
      return status === 200 && digest === streamDigest(n * 1_000) ? [] : [`${n}: ${status}`];
    });
    t.strictSame(wrong, [], name);
  }
});
