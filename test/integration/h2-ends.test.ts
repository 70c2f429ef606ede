/** How streams end before their time, on either side, and with the proxy. */
import { once } from 'node:events';
import { constants, type ServerHttp2Stream } from 'node:http2';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { FLAG, FRAME, H2_ERROR, readUint31 } from '../../proxy/http/h2/frames.ts';
import { GET, headers, ping } from '../support/h2.ts';
import {
  answerOf,
  answerStream,
  type H2Application,
  H2Client,
  type H2Handler,
  startH2Application,
} from '../support/h2-application.ts';
import { dialH2 } from '../support/h2-wire.ts';
import { sendRaw } from '../support/http.ts';
import { pieces, streamDigest } from '../support/http-application.ts';
import { startRoutes } from '../support/http-routes.ts';
import {
  eventually,
  listenerFor,
  type ProxyStart,
  serviceYaml,
  startTestProxy,
  type TestProxy,
} from '../support/proxy.ts';

/** Without clients a proxy waits for another one for 2 s, in ms with what a loaded machine makes of it. */
const LEAVING_MS = 6_000;

const GRPC = { 'content-type': 'application/grpc', te: 'trailers', ':method': 'POST' };

async function startInFront(t: Test, { address }: H2Application, start: ProxyStart = {}): Promise<TestProxy> {
  const mesh = { 'app.yaml': serviceYaml('app', [{ address }]) };
  return startTestProxy(t, { outbound: listenerFor('app'), mesh, ...start });
}

/** Bodies without an end. */
function* endless(): Generator<Buffer> {
  for (;;) yield* pieces(1_000_000);
}

/** Resets before or in the middle of a response, as the path says. */
const resetting: H2Handler = (stream, head) => {
  const path = String(head[':path']);
  if (path === '/early') return stream.close(H2_ERROR.internalError);
  // Node's servers reset without an error what they close unanswered.
  if (path === '/hinted') stream.additionalHeaders({ ':status': 103 });
  if (path === '/hinted' || path === '/unanswered') return stream.close();
  if (!path.startsWith('/late')) return answerStream(stream, head);
  stream.respond({ ':status': 200, 'content-type': String(head['content-type'] ?? 'text/plain') });
  // Closed with a code it would send the end first.
  stream.write('some', () => stream.destroy(new Error('reset')));
};

t.test('a response that is reset', async (t) => {
  const application = await startH2Application(t, resetting);
  const { routes, outgoing } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    await t.test(name, async (t) => {
      const client = new H2Client(t, address);
      const late = await client.get('/late');
      t.strictSame(
        [late.status, late.text, late.code],
        [200, 'some', H2_ERROR.internalError],
        'in the middle',
      );
      const call = await client.get('/late', GRPC);
      t.strictSame([call.status, call.text, call.code], [200, 'some', 0], 'in the middle of a call');
      t.equal(call.trailers['grpc-status'], '13', 'INTERNAL, as clients take this code');
      application.seen.clear();
      const early = await client.post('/early', [Buffer.from('body')]);
      t.equal(early.status, 502, 'before it began');
      t.match(early.text, /reset the stream \(INTERNAL_ERROR\)/);
      t.equal(application.seen.get('/early'), 1, 'nothing is sent twice');
      const refused = await client.get('/early', GRPC);
      t.strictSame([refused.status, refused.headers['grpc-status']], [200, '13'], 'a call, before it began');
      for (const path of ['/unanswered', '/hinted']) {
        const { status, text } = await client.get(path);
        t.strictSame(
          [status, /reset the stream \(NO_ERROR\)/.test(text)],
          [502, true],
          `${path}: no answer is none`,
        );
        const call = await client.post(path, [Buffer.from('body')], GRPC);
        t.strictSame([call.status, call.headers['grpc-status']], [200, '13'], `${path}, a call`);
      }
      t.equal((await client.get('/fine')).status, 200, 'others go on');
      client.session.close();
    });
  }
  const broken = await outgoing.sum('outbound_http_errors_total');
  t.ok(broken > 0, `${broken} errors are counted`);
});

t.test('an answer that does not come is not taken from the next request', async (t) => {
  const { address } = await startH2Application(t, resetting);
  const mesh = { 'app.yaml': serviceYaml('app', [{ address }], undefined, 'kubernetes.io/h2c') };
  const proxy = await startTestProxy(t, { outbound: listenerFor('app'), mesh });
  const [{ ip, port }] = proxy.listeners;
  const first = await new H2Client(t, proxy.listeners[0]).get('/unanswered');
  t.equal(first.status, 502, 'the first of a connection');
  const last = 'GET /fine HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n';
  const { text } = await sendRaw(ip, port, `GET /unanswered HTTP/1.1\r\nHost: app\r\n\r\n${last}`);
  t.strictSame(text.match(/(?<=^HTTP\/1\.1 )\d+/gm), ['502', '200']);
  t.match(text, /reset the stream \(NO_ERROR\).*answer to \/fine/s);
});

t.test('a client that does not want its answer any more', async (t) => {
  const ended = new Map<string, number>();
  const application = await startH2Application(t, (stream, head) => {
    const path = String(head[':path']);
    stream.on('close', () => ended.set(path, stream.rstCode));
    if (path.startsWith('/wait')) stream.resume();
    else answerStream(stream, head);
  });
  const { routes, idle } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    ended.clear();
    const client = new H2Client(t, address);
    const waiting = client.open('/wait', {}, { endStream: true });
    const uploading = client.open('/wait/upload', { ':method': 'POST' });
    Readable.from(endless()).pipe(uploading);
    const downloading = client.open('/body?n=500000000', {}, { endStream: true });
    const answers = [waiting, uploading, downloading].map(answerOf);
    await once(downloading, 'response');
    await eventually('all three are there', () => application.seen.size === 3 || undefined);
    for (const stream of [waiting, uploading, downloading]) stream.close(constants.NGHTTP2_CANCEL);
    await Promise.all(answers);
    await eventually(`${name}: all have heard of it`, () => ended.size === 3 || undefined);
    t.strictSame([...ended.values()], Array(3).fill(H2_ERROR.cancel), name);
    t.equal((await client.get('/fine')).status, 200, 'others go on');
    // The same of a client that goes altogether.
    client.open('/wait/gone', {}, { endStream: true });
    await eventually('the request', () => application.seen.get('/wait/gone'));
    client.session.destroy();
    await eventually(`${name}: that it has gone is heard`, () => ended.has('/wait/gone') || undefined);
    application.seen.clear();
  }
  application.destroy();
  await idle();
});

t.test('an answer before the end of the request', async (t) => {
  const application = await startH2Application(t, (stream) => {
    stream.respond({ ':status': 413 });
    stream.end('too large');
    // It wants no more of it (RFC 9113 section 8.1).
    stream.on('finish', () => stream.close(H2_ERROR.noError));
  });
  const { routes } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    const client = new H2Client(t, address);
    const answers = await Promise.all([1, 2, 3].map(() => client.post('/', endless())));
    for (const { status, text, code } of answers) {
      t.strictSame([status, text, code], [413, 'too large', H2_ERROR.noError], name);
    }
    client.session.close();
    await client.closed();
  }
});

/** A proxy in front of an application whose responses wait, with so many requests under way. */
async function startWaiting(t: Test, requests: number) {
  const waiting: ServerHttp2Stream[] = [];
  const application = await startH2Application(t, (stream) => {
    stream.resume().respond({ ':status': 200 });
    waiting.push(stream);
  });
  const proxy = await startInFront(t, application, { shutdown: { grace: '20s', drainDelay: '0s' } });
  const client = new H2Client(t, proxy.listeners[0]);
  const answers = Array.from({ length: requests }, () => client.get('/'));
  await eventually('the requests', () => waiting.length === requests || undefined);
  return { proxy, client, answers, waiting };
}

t.test('a proxy that is told to end lets streams end', async (t) => {
  const { proxy, client, answers, waiting } = await startWaiting(t, 10);
  const stopped = proxy.stop();
  await eventually('GOAWAY', () => client.goAways.length > 0 || undefined);
  t.ok(client.goAways.every((code) => code === H2_ERROR.noError));
  for (const stream of waiting) {
    stream.write(Buffer.alloc(100_000));
    stream.end('end');
  }
  for (const { status, length, code } of await Promise.all(answers)) {
    t.strictSame([status, length, code], [200, 100_003, 0]);
  }
  await client.closed();
  const ended = performance.now();
  t.strictSame(await stopped, { status: 0, signal: null });
  const tookMs = performance.now() - ended;
  t.ok(tookMs < LEAVING_MS, `it is gone ${Math.round(tookMs)} ms after its last client`);
});

t.test('it says so in two steps', async (t) => {
  const { proxy, answers, waiting } = await startWaiting(t, 1);
  const wire = dialH2(t, proxy.listeners[0]);
  wire.send(headers(1, GET));
  await wire.frame(FRAME.headers, 1);
  const stopped = proxy.stop();
  const lastOf = async (what: string, isIt: (last: number) => boolean) =>
    wire.expect(what, ({ type, payload }) => type === FRAME.goAway && isIt(readUint31(payload, 0)));
  await lastOf('the first GOAWAY', (last) => last === 2 ** 31 - 1);
  const { payload } = await wire.expect(
    'PING',
    ({ type, flags }) => type === FRAME.ping && (flags & FLAG.ack) === 0,
  );
  // It was sent before the client heard of the end, and is served.
  wire.send(headers(3, GET), ping(Buffer.from(payload).toString('latin1'), true), headers(5, GET));
  await lastOf('the second GOAWAY', (last) => last === 3);
  await wire.frame(FRAME.headers, 3);
  t.equal(waiting.length, 3, 'what comes behind the acknowledgement is not');
  for (const stream of waiting) stream.end();
  await eventually('the end of the connection', () => wire.closed || undefined);
  t.equal(
    wire.frames.filter(({ type, flags }) => type === FRAME.data && (flags & FLAG.endStream) !== 0).length,
    2,
  );
  t.equal((await answers[0]).status, 200);
  t.strictSame(await stopped, { status: 0, signal: null });
});

t.test('streams that do not end are ended with the proxy', async (t) => {
  const application = await startH2Application(t, (stream) => stream.resume().respond({ ':status': 200 }));
  const proxy = await startInFront(t, application, { shutdown: { grace: '1s', drainDelay: '0s' } });
  const wire = dialH2(t, proxy.listeners[0]);
  wire.send(headers(1, GET));
  await wire.frame(FRAME.headers, 1);
  t.equal((await proxy.stop()).signal, null, 'it ends all the same');
  await eventually('the end of the connection', () => wire.closed || undefined);
  const ends = wire.frames.filter(({ stream, flags }) => stream === 1 && (flags & FLAG.endStream) !== 0);
  t.strictSame(ends, [], 'and nobody takes the answer for a whole one');
});

t.test('an endpoint that leaves while it answers', async (t) => {
  const large = 3_000_000;
  const application = await startH2Application(t);
  const proxy = await startInFront(t, application);
  const client = new H2Client(t, proxy.listeners[0]);
  const stream = client.open(`/body?n=${large}`, {}, { endStream: true });
  await once(stream, 'response');
  const left = application.leave();
  proxy.writeMesh('app.yaml', serviceYaml('app', []));
  const { digest, code } = await answerOf(stream);
  t.strictSame([digest, code], [streamDigest(large), 0], 'its answer is whole');
  await left;
});

t.test('who breaks the protocol is told why, logged and counted', async (t) => {
  const application = await startH2Application(t);
  const proxy = await startInFront(t, application);
  const wire = dialH2(t, proxy.listeners[0]);
  // The number of a stream that only servers open.
  wire.send(headers(2, GET));
  const { payload } = await wire.expect('GOAWAY', ({ type }) => type === FRAME.goAway);
  t.match(Buffer.from(payload.subarray(8)).toString(), /stream 2/);
  await eventually('the end of the connection', () => wire.closed || undefined);
  const labels = { direction: 'outbound', peer: 'src', error: 'PROTOCOL_ERROR', by: 'us' };
  await proxy.until('ferrule_http2_connection_errors_total', labels, (sum) => sum === 1);
  t.match(proxy.said(), /an HTTP\/2 connection was given up.*stream 2/);
});

t.test('what an endpoint gives up alone is not asked again', async (t) => {
  let asked = 0;
  const application = await startH2Application(t, (stream) => {
    asked++;
    stream.close(H2_ERROR.enhanceYourCalm);
  });
  const proxy = await startInFront(t, application);
  const { status, text } = await new H2Client(t, proxy.listeners[0]).get('/');
  t.match({ status, text }, { status: 502, text: /reset the stream \(ENHANCE_YOUR_CALM\)/ });
  t.equal(asked, 1);
});
