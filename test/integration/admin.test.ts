/** Every page of the admin server, over real sockets, on each HTTP server that loads here. */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { gunzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import type { AdminServer } from '../../proxy/admin/admin.ts';
import { ADMIN_LIMITS, type AdminBackend, type AdminHandler } from '../../proxy/admin/backend.ts';
import { EXIT, UserError } from '../../proxy/core/errors.ts';
import { log } from '../../proxy/core/log.ts';
import { at, createContext, loadBackends, start } from '../support/admin.ts';
import { until } from '../support/engine.ts';
import { Peer } from '../support/engine-peers.ts';
import { explanationOf } from '../support/explanations.ts';
import { parseAnswer, request, sendRaw } from '../support/http.ts';

type CreateBackend = (handler: AdminHandler) => Promise<AdminBackend>;

const HOST = 'Host: localhost';

log.level = 'off';

function bearer(server: AdminServer): string {
  return `Authorization: Bearer ${readFileSync(server.tokenFile!, 'utf8').trim()}`;
}

/** Headers of a command that may do everything. */
function local(server: AdminServer): string[] {
  return [HOST, bearer(server)];
}

/** An address of this host that is not loopback; undefined on a host without a network. */
function outsideAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.find(({ internal, family }) => !internal && family === 'IPv4')?.address;
}

function pages(t: Test, backend: CreateBackend): void {
  t.test('readiness says why not, as text and JSON', async (t) => {
    const context = createContext();
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const ready = await request('127.0.0.1', port, 'GET /ready', [HOST]);
    t.match(ready, { status: 200, body: Buffer.from('ready\n') });
    context.reasons = ['discovery file:./mesh.d is not synced', 'worker 0 is starting'];
    const not = await request('127.0.0.1', port, 'GET /ready', [HOST]);
    t.equal(not.status, 503);
    t.equal(not.body.toString(), `not ready\n${context.reasons.join('\n')}\n`);
    const json = await request('127.0.0.1', port, 'GET /ready', [HOST, 'Accept: application/json']);
    t.equal(json.status, 503);
    t.same(JSON.parse(json.body.toString()), { ready: false, reasons: context.reasons });
    t.equal((await request('127.0.0.1', port, 'GET /live', [HOST])).status, 200, 'alive all the same');
  });

  t.test('metrics, plain and packed, GET and HEAD', async (t) => {
    const context = createContext();
    const text = await context.metrics();
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const plain = await request('127.0.0.1', port, 'GET /metrics', [HOST]);
    t.equal(plain.body.toString(), text);
    t.equal(plain.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    t.equal(plain.headers['cache-control'], 'no-store');
    const packed = await request('127.0.0.1', port, 'GET /metrics', [
      HOST,
      'Accept-Encoding: br, gzip;q=0.5',
    ]);
    t.equal(packed.headers['content-encoding'], 'gzip');
    t.equal(gunzipSync(packed.body).toString(), text);
    const refused = await request('127.0.0.1', port, 'GET /metrics', [HOST, 'Accept-Encoding: gzip;q=0']);
    t.notOk(refused.headers['content-encoding']);
    const head = await request('127.0.0.1', port, 'HEAD /metrics', [HOST]);
    t.equal(head.status, 200);
    t.equal(head.headers['content-length'], String(Buffer.byteLength(text)));
    t.equal(head.body.length, 0);
  });

  t.test('scrapes at the same time share one rendering', async (t) => {
    const context = createContext();
    let runs = 0;
    const go = Promise.withResolvers<void>();
    context.exposition = async () => {
      runs++;
      await go.promise;
      return 'up 1\n';
    };
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const scrapes = Array.from({ length: 8 }, () => request('127.0.0.1', port, 'GET /metrics', [HOST]));
    // A request of another page behind them shows that they have arrived.
    await request('127.0.0.1', port, 'GET /live', [HOST]);
    go.resolve();
    for (const { status } of await Promise.all(scrapes)) t.equal(status, 200);
    t.ok(runs < 8, `${runs} renderings for 8 scrapes`);
  });

  t.test('protected pages need the token', async (t) => {
    const server = await start(t, { backend });
    const { port } = server.addresses[0];
    for (const path of ['/config', '/env.json', '/log-level', '/explain']) {
      const none = await request('127.0.0.1', port, `GET ${path}`, [HOST]);
      t.equal(none.status, 401, path);
      t.equal(none.headers['www-authenticate'], 'Bearer');
      t.match(none.body.toString(), server.tokenFile, 'says where the token is');
      for (const wrong of ['Bearer x', 'Bearer', 'Basic abc', `${bearer(server).slice(15)}x`]) {
        const answer = await request('127.0.0.1', port, `GET ${path}`, [HOST, `Authorization: ${wrong}`]);
        t.equal(answer.status, 401, `${path} ${wrong}`);
      }
      t.equal((await request('127.0.0.1', port, `GET ${path}`, local(server))).status, 200, path);
    }
    const posted = await request('127.0.0.1', port, 'POST /log-level', [HOST], 'debug');
    t.equal(posted.status, 401);
    t.equal(
      (await request('127.0.0.1', port, 'GET /config', local(server))).headers['content-type'],
      'application/json',
    );
  });

  t.test('protected pages refuse what a browser could be made to send', async (t) => {
    const server = await start(t, { backend });
    const { port } = server.addresses[0];
    const get = async (...headers: string[]) =>
      request('127.0.0.1', port, 'GET /config', [bearer(server), ...headers]);
    for (const host of [
      'evil.example',
      'localhost.evil.example',
      '10.0.0.1',
      '127.0.0.1.evil.example',
      '[::2]:1',
      '',
    ]) {
      const answer = await get(`Host: ${host}`);
      // An empty Host is refused by one of the servers itself.
      t.ok(answer.status === 403 || (host === '' && answer.status === 400), `Host: ${host}`);
    }
    for (const host of [`127.0.0.1:${port}`, 'LOCALHOST', '[::1]', '127.9.9.9', `localhost:${port}`]) {
      t.equal((await get(`Host: ${host}`)).status, 200, `Host: ${host}`);
    }
    t.equal((await get('Host: localhost:99999')).status, 403, 'no such port');
    const twice = await get(HOST, 'Host: localhost');
    t.ok([400, 403].includes(twice.status), 'two Host headers');
    for (const origin of ['http://evil.example', 'null', 'https://localhost', 'http://localhost:3000']) {
      const answer = await get(HOST, `Origin: ${origin}`);
      t.equal(answer.status, 403, `Origin: ${origin}`);
      t.match(answer.body.toString(), /Origin/);
    }
    t.equal((await get(HOST, 'Origin: http://localhost')).status, 200, 'its own origin');
    const open = await request('127.0.0.1', port, 'GET /metrics', ['Host: pod-7.example:4191']);
    t.equal(open.status, 200, 'scrapers name the pod');
  });

  t.test('from outside only the open pages answer', async (t) => {
    const address = outsideAddress();
    if (address === undefined) {
      t.pass('this host has no other address', { skip: 'this host has no other address' });
      return;
    }
    const server = await start(t, { backend, listen: [at('0.0.0.0:0')] });
    const { port } = server.addresses[0];
    for (const path of ['/ready', '/live', '/metrics']) {
      t.equal((await request(address, port, `GET ${path}`, [HOST])).status, 200, path);
    }
    const refused = await request(address, port, 'GET /config', local(server));
    t.equal(refused.status, 403);
    t.match(refused.body.toString(), /loopback/);
  });

  t.test('the environment is shown redacted', async (t) => {
    const context = createContext({
      FERRULE_WORKERS: '2',
      FERRULE_CONSUL_TOKEN: 'hunter2',
      FERRULE_TRACES: 'http://me:hunter2@collector/x',
      PATH: '/bin',
      AWS_SECRET_ACCESS_KEY: 'hunter2',
      PEM: '-----BEGIN PRIVATE KEY-----\nhunter2',
    });
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const read = async (path: string) =>
      JSON.parse((await request('127.0.0.1', port, `GET ${path}`, local(server))).body.toString());
    t.strictSame(await read('/env.json'), {
      FERRULE_CONSUL_TOKEN: '[redacted]',
      FERRULE_TRACES: 'http://[redacted]@collector/x',
      FERRULE_WORKERS: '2',
    });
    t.strictSame(await read('/env.json?PATH&AWS_SECRET_ACCESS_KEY&PEM&NOT%5FSET'), {
      PATH: '/bin',
      AWS_SECRET_ACCESS_KEY: '[redacted]',
      PEM: '[redacted]',
      NOT_SET: null,
    });
  });

  t.test('/explain tells of one request or the latest, and why it cannot', async (t) => {
    const context = createContext();
    const [newer, older] = [explanationOf({ id: '0-18' }), explanationOf({ id: '0-17' })];
    context.decisions = [newer, older];
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const get = (path: string) => request('127.0.0.1', port, `GET ${path}`, local(server));
    const all = await get('/explain');
    t.equal(all.headers['content-type'], 'application/json');
    t.strictSame(JSON.parse(all.body.toString()), [newer, older]);
    t.strictSame(JSON.parse((await get('/explain?id=0-17')).body.toString()), older, 'one is no array');
    t.strictSame(JSON.parse((await get('/explain?id=0%2D17')).body.toString()), older, 'decoded');
    const unknown = await get('/explain?id=0-19');
    t.equal(unknown.status, 404);
    t.equal(unknown.body.toString(), 'nothing is known of 0-19\n');
    for (const query of ['0-17', 'id=0-17&id=0-18', 'id=0-17&x', 'ID=0-17']) {
      const wrong = await get(`/explain?${query}`);
      t.equal(wrong.status, 400, query);
      t.match(wrong.body.toString(), '/explain?id=0-1234');
    }
    for (const [exitCode, status] of [
      [EXIT.usage, 400],
      [EXIT.unavailable, 503],
    ]) {
      context.explain = () => Promise.reject(new UserError('said so', exitCode));
      t.match(await get('/explain?id=x'), { status, body: Buffer.from('said so\n') });
    }
    context.explain = () => Promise.reject(new Error('the inner reason'));
    t.equal((await get('/explain')).status, 500);
    t.equal((await request('127.0.0.1', port, 'POST /explain', local(server))).status, 405);
  });

  t.test('the log level changes by POST only', async (t) => {
    const context = createContext();
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const posted = await request('127.0.0.1', port, 'POST /log-level', local(server), 'debug\n');
    t.match(posted, { status: 200, body: Buffer.from('debug\n') });
    t.equal(context.level, 'debug');
    t.equal((await request('127.0.0.1', port, 'GET /log-level', local(server))).body.toString(), 'debug\n');
    const wrong = await request('127.0.0.1', port, 'POST /log-level', local(server), 'loud');
    t.equal(wrong.status, 400);
    t.match(wrong.body.toString(), 'off, error, warn, info, debug');
    const put = await request('127.0.0.1', port, 'PUT /log-level', local(server), 'error');
    t.equal(put.status, 405);
    t.equal(put.headers.allow, 'GET, HEAD, POST');
    t.equal((await request('127.0.0.1', port, 'GET /log-level?level=error', local(server))).status, 200);
    t.equal(context.level, 'debug', 'nothing else changed it');
  });

  t.test('/shutdown is for POST with the token', async (t) => {
    const context = createContext();
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const get = await request('127.0.0.1', port, 'GET /shutdown', local(server));
    t.equal(get.status, 405);
    t.equal(get.headers.allow, 'POST');
    t.equal((await request('127.0.0.1', port, 'POST /shutdown', [HOST])).status, 401);
    t.equal(context.shutDowns, 0);
    t.equal((await request('127.0.0.1', port, 'POST /shutdown', local(server))).status, 202);
    t.equal(context.shutDowns, 1);
  });

  t.test('/await counts an application for as long as its connection lasts', async (t) => {
    const context = createContext();
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const hold = (headers: readonly string[]): Peer => {
      const peer = new Peer(connect({ host: '127.0.0.1', port }));
      t.teardown(() => peer.socket.destroy());
      peer.socket.write(['POST /await HTTP/1.1', ...headers, 'Content-Length: 0', '', ''].join('\r\n'));
      return peer;
    };
    const stranger = hold([HOST]);
    await until(() => stranger.text.startsWith('HTTP/1.1 401'), 'the refusal');
    t.equal(context.applications, 0);
    const holders = [hold(local(server)), hold(local(server)), hold(local(server))];
    await until(() => context.applications === 3, 'three applications');
    await until(() => holders.every(({ text }) => text.includes('200 OK')), 'three answers');
    holders[0].socket.end();
    await until(() => context.applications === 2, 'the end of one');
    holders[1].socket.resetAndDestroy();
    await until(() => context.applications === 1, 'the reset of one');
    const startedMs = performance.now();
    await server.close();
    t.ok(performance.now() - startedMs < ADMIN_LIMITS.closeGraceMs, 'closing does not wait for the last');
    await until(() => holders[2].closed, 'its end');
    t.equal(context.applications, 0);
  });

  t.test('unknown pages and methods say what there is', async (t) => {
    const server = await start(t, { backend });
    const { port } = server.addresses[0];
    for (const path of ['/', '/metrics/', '/constructor', '/%6detrics', '//metrics', '/shutdown/']) {
      const answer = await request('127.0.0.1', port, `GET ${path}`, local(server));
      t.equal(answer.status, 404, path);
      t.match(answer.body.toString(), '/ready /live /metrics /config /env.json /log-level');
    }
    for (const method of ['POST', 'DELETE', 'OPTIONS']) {
      const answer = await request('127.0.0.1', port, `${method} /ready`, [HOST]);
      t.equal(answer.status, 405, method);
      t.equal(answer.headers.allow, 'GET, HEAD');
    }
  });

  t.test('a page that fails is a 500 that tells nothing, and the server lives', async (t) => {
    const context = createContext();
    context.exposition = () => Promise.reject(new Error('the inner reason'));
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const answer = await request('127.0.0.1', port, 'GET /metrics', [HOST]);
    t.equal(answer.status, 500);
    t.notMatch(answer.body.toString(), 'inner reason');
    t.equal((await request('127.0.0.1', port, 'GET /live', [HOST])).status, 200);
  });

  t.test('a body that is too large is refused, announced or not', async (t) => {
    const context = createContext();
    const server = await start(t, { backend, context });
    const { port } = server.addresses[0];
    const size = ADMIN_LIMITS.bodyBytes + 1;
    const head = ['POST /log-level HTTP/1.1', ...local(server)].join('\r\n');
    const announced = await sendRaw('127.0.0.1', port, `${head}\r\nContent-Length: ${size}\r\n\r\n`);
    t.equal(parseAnswer(announced.text).status, 413);
    const chunk = `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`;
    const chunked = await sendRaw('127.0.0.1', port, `${head}\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`);
    t.equal(parseAnswer(chunked.text).status, 413);
    const fits = `debug${' '.repeat(ADMIN_LIMITS.bodyBytes - 5)}`;
    t.equal((await request('127.0.0.1', port, 'POST /log-level', local(server), fits)).status, 200);
    t.equal(context.level, 'debug');
  });

  t.test('clients that are slow or gone do not hold the server', async (t) => {
    const server = await start(t, { backend });
    const { port } = server.addresses[0];
    // Each ends without the client's doing, or sendRaw would wait until the test's time is over.
    const begun = performance.now();
    const slow = [
      '',
      'GET /live HT',
      'GET /live HTTP/1.1\r\nHost: a\r\nX: ',
      'POST /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nde',
    ];
    const answers = await Promise.all(slow.map((data) => sendRaw('127.0.0.1', port, data)));
    for (const [index, { text }] of answers.entries())
      t.notMatch(text, /^HTTP\/1.1 200/, `slow client ${index}`);
    const limitMs = server.backend === 'node:http' ? 20_000 : 60_000;
    t.ok(performance.now() - begun < limitMs, 'within their deadlines');
    t.equal((await request('127.0.0.1', port, 'GET /live', [HOST])).status, 200);
  });

  t.test('connections past the cap are ended, the others served', async (t) => {
    const server = await start(t, { backend });
    const { port } = server.addresses[0];
    const cap = server.backend === 'node:http' ? ADMIN_LIMITS.connectionsPerPeer : ADMIN_LIMITS.connections;
    const held = Array.from({ length: cap + 8 }, () => sendRaw('127.0.0.1', port, 'GET /live HTTP/1.1\r\n'));
    let ended = 0;
    for (const each of held) void each.then(() => ended++);
    await t.resolves(Promise.race(held), 'one too many ends at once');
    while (ended < 8) await new Promise((resolve) => setImmediate(resolve));
    t.ok(ended < cap, `${ended} of ${held.length} were ended`);
    const other = await request('127.0.0.1', port, 'GET /live', [HOST]).catch(() => undefined);
    t.equal(other, undefined, 'while they last there is no room');
    await Promise.all(held);
    t.equal((await request('127.0.0.1', port, 'GET /live', [HOST])).status, 200, 'and afterwards there is');
  });

  t.test(
    'close answers what is under way, cuts the rest, frees the port and removes the token',
    async (t) => {
      const context = createContext();
      const arrived = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      context.exposition = async () => {
        arrived.resolve();
        await go.promise;
        return 'up 1\n';
      };
      // Named, not 0: only then every back end asks for SO_REUSEADDR, as it does in earnest.
      const probe = await start(t, { backend });
      const { port } = probe.addresses[0];
      await probe.close();
      const server = await start(t, { backend, context, listen: [at(`127.0.0.1:${port}`)] });
      const scrape = request('127.0.0.1', port, 'GET /metrics', [HOST]);
      const idle = sendRaw('127.0.0.1', port, 'GET /live HTTP/1.1\r\n');
      await arrived.promise;
      const closed = server.close();
      await t.rejects(request('127.0.0.1', port, 'GET /live', [HOST]), 'nobody listens any more');
      go.resolve();
      t.equal((await scrape).body.toString(), 'up 1\n');
      await closed;
      await idle;
      t.throws(() => readFileSync(server.tokenFile!), { code: 'ENOENT' });
      const next = await start(t, { backend, listen: [at(`127.0.0.1:${port}`)] });
      t.equal(next.addresses[0].port, port);
    },
  );

  t.test('a taken port is an error that says so, and nothing is left listening', async (t) => {
    const first = await start(t, { backend });
    const { port } = first.addresses[0];
    const both = start(t, { backend, listen: [at('[::1]:0'), at(`127.0.0.1:${port}`)] });
    await t.rejects(both, {
      name: 'UserError',
      exitCode: 71,
      message: new RegExp(`127.0.0.1:${port}: it is in use`),
    });
    t.equal((await request('127.0.0.1', port, 'GET /live', [HOST])).status, 200, 'the first one lives');
    await t.rejects(start(t, { backend, listen: [at('192.0.2.1:0')] }), {
      exitCode: 71,
      message: /no such address/,
    });
  });

  t.test('both families on one port', async (t) => {
    const probe = await start(t, { backend, listen: [at('[::]:0')] });
    const { port } = probe.addresses[0];
    await probe.close();
    const server = await start(t, { backend, listen: [at(`0.0.0.0:${port}`), at(`[::]:${port}`)] });
    t.same(server.addresses.map(String), [`[::]:${port}`, `0.0.0.0:${port}`]);
    t.equal((await request('127.0.0.1', port, 'GET /config', local(server))).status, 200);
    t.equal((await request('::1', port, 'GET /config', local(server))).status, 200);
  });
}

const { backends, skipped } = await loadBackends();
for (const [name, backend] of backends) t.test(name, async (t) => pages(t, backend));
if (skipped !== undefined) t.pass('uWebSockets.js', { skip: skipped });
