/** Deadlines of gRPC calls whose clients do not keep them: what clients and servers hear, and what is told of it. */
import t, { type Test } from 'tap';
import { renderExplanation } from '../../proxy/cli/explanation-text.ts';
import { H2_ERROR } from '../../proxy/http/h2/frames.ts';
import { grpcStacks } from '../support/grpc-programs.ts';
import { answerOf, H2Client, type H2Handler, startH2Application } from '../support/h2-application.ts';
import { startProgram } from '../support/http-programs.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

const CALL = { 'content-type': 'application/grpc', te: 'trailers', ':method': 'POST' };
const withTimeout = (timeout: string) => ({ ...CALL, 'grpc-timeout': timeout });
const REPLY = { ':status': 200, 'content-type': 'application/grpc' };
const DEADLINE_EXCEEDED = '4';

/** What the proxy gives its peers to say it themselves, in ms, and how late it may be on a busy machine. */
const GRACE_MS = 100;
const LATE_MS = 2_000;

/** Deadlines as they reached the server, and codes of RST_STREAM, by path. */
const told = new Map<string, string>();
const resets = new Map<string, number>();

/** Times that `/again` was asked, and how long its refusal takes, in ms. */
let attempts = 0;
const REFUSED_AFTER_MS = 200;

const serve: H2Handler = (stream, headers) => {
  const path = String(headers[':path']);
  told.set(path, String(headers['grpc-timeout']));
  stream.resume().on('close', () => resets.set(path, stream.rstCode ?? -1));
  if (path === '/begins') {
    stream.respond(REPLY);
    stream.write('a message');
  } else if (path === '/again') {
    // Refused at first, after a while.
    if (attempts++ === 0) setTimeout(() => stream.close(H2_ERROR.refusedStream), REFUSED_AFTER_MS);
    else stream.respond({ ...REPLY, 'grpc-status': '0' }, { endStream: true });
  } else if (path === '/slow') setTimeout(() => stream.respond({ ':status': 204 }, { endStream: true }), 400);
  else if (path.startsWith('/in-time')) stream.respond({ ...REPLY, 'grpc-status': '0' }, { endStream: true });
};

const errorsOf = (proxy: TestProxy) => proxy.sum('outbound_http_errors_total', { error: 'response timeout' });

async function silent(t: Test, proxy: TestProxy, client: H2Client): Promise<void> {
  const began = performance.now();
  const { status, headers, trailers } = await client.post(
    '/silent',
    [Buffer.from('hm')],
    withTimeout('200m'),
  );
  const tookMs = performance.now() - began;
  t.strictSame([status, headers['grpc-status'], trailers], [200, DEADLINE_EXCEEDED, {}], 'trailers only');
  t.match(
    headers['grpc-message'],
    'the deadline of the call has passed, 200 ms after it began (grpc-timeout)',
  );
  t.ok(tookMs >= 200 + GRACE_MS - 1 && tookMs < 200 + GRACE_MS + LATE_MS, `after ${tookMs} ms`);
  await eventually('the server is told', () => resets.get('/silent'));
  t.equal(resets.get('/silent'), H2_ERROR.cancel);
  const explained = await proxy.explanation(String(headers['l5d-proxy-decision']));
  t.match(explained, {
    ...{ deadlineMs: 200, outcome: 'refused', status: 200, grpcStatus: 'DEADLINE_EXCEEDED' },
    ...{ error: 'response timeout', detection: { protocol: 'h2' } },
  });
  const text = renderExplanation(explained);
  t.match(text, /the proxy itself answered 200, gRPC DEADLINE_EXCEEDED after 3\d\d ms/);
  t.match(text, /^deadline +200 ms after it began \(grpc-timeout\)$/m);
  t.match(text, /^why +the deadline of the call has passed/m);
  t.match(text, /^counted +in outbound_http_errors_total\{error="response timeout"\}$/m);
}

async function inTheMiddle(t: Test, _proxy: TestProxy, client: H2Client): Promise<void> {
  const answer = await client.post('/begins', [Buffer.from('hm')], withTimeout('200m'));
  t.strictSame([answer.status, answer.text, answer.code], [200, 'a message', H2_ERROR.noError]);
  t.equal(answer.trailers['grpc-status'], DEADLINE_EXCEEDED, 'in trailers');
  await eventually('the server is told', () => resets.get('/begins'));
  t.equal(resets.get('/begins'), H2_ERROR.cancel);
}

async function untouched(t: Test, _proxy: TestProxy, client: H2Client): Promise<void> {
  // The connection to the server is there from here on.
  await client.post('/in-time/1', [], CALL);
  const inTime = await client.post('/in-time', [Buffer.from('hm')], withTimeout('20S'));
  t.strictSame([inTime.headers['grpc-status'], told.get('/in-time')], ['0', '20S'], 'what did not wait');
  const wrong = await client.post('/in-time/2', [], withTimeout('soon'));
  t.strictSame([wrong.headers['grpc-status'], told.get('/in-time/2')], ['0', 'soon'], 'what is no deadline');
  const web = await client.post('/slow', [], { ':method': 'POST', 'grpc-timeout': '100m' });
  t.equal(web.status, 204, 'what is no call');
}

async function again(t: Test, _proxy: TestProxy, client: H2Client): Promise<void> {
  const { headers } = await client.post('/again', [Buffer.from('hm')], withTimeout('30S'));
  t.equal(headers['grpc-status'], '0');
  t.equal(attempts, 2);
  const leftMs = leftOf('/again');
  t.ok(leftMs <= 30_000 - REFUSED_AFTER_MS + 5 && leftMs > 20_000, `${leftMs} ms are left`);
}

/** What a server was told to be left, in ms; a timeout that was renewed is in microseconds. */
function leftOf(path: string): number {
  return Number(/^(\d+)u$/.exec(told.get(path) ?? '')?.[1]) / 1_000;
}

async function waiting(t: Test, proxy: TestProxy, _client: H2Client): Promise<void> {
  const client = new H2Client(t, proxy.listeners[1]);
  const began = performance.now();
  const inVain = client.post('/in-vain', [], withTimeout('300m'));
  const served = client.post('/in-time/3', [], withTimeout('30S'));
  const { headers } = await inVain;
  t.equal(headers['grpc-status'], DEADLINE_EXCEEDED);
  t.ok(performance.now() - began < 2_500, 'before the proxy gives up waiting for an endpoint');
  t.equal(told.get('/in-vain'), undefined);
  const waitedMs = performance.now() - began;
  proxy.writeMesh('none.yaml', serviceYaml('none', [await startH2Application(t, serve)]));
  t.equal((await served).headers['grpc-status'], '0');
  const leftMs = leftOf('/in-time/3');
  t.ok(leftMs <= 30_000 - waitedMs + 5, `${leftMs} ms are left after ${waitedMs}`);
  t.ok(leftMs > 20_000, `${leftMs} ms are left`);
}

t.test('calls through a proxy', { jobs: 5 }, async (t) => {
  const application = await startH2Application(t, serve);
  const mesh = { 'app.yaml': serviceYaml('app', [application]), 'none.yaml': serviceYaml('none', []) };
  const proxy = await startTestProxy(t, { outbound: listenerFor('app', 'none'), mesh });
  const client = new H2Client(t, proxy.listeners[0]);
  await Promise.all(
    Object.entries({ silent, inTheMiddle, untouched, again, waiting }).map(([name, run]) =>
      t.test(name, (t) => run(t, proxy, client)),
    ),
  );
  t.equal(await errorsOf(proxy), 3, 'counted');
});

t.test('servers that keep deadlines themselves are heard first', async (t) => {
  for (const { name, server } of grpcStacks(t) ?? []) {
    const { address } = await startProgram(t, 'env', ({ port }) => server('127.0.0.1', port));
    const proxy = await startTestProxy(t, {
      outbound: listenerFor('app'),
      mesh: { 'app.yaml': serviceYaml('app', [{ address }]) },
    });
    const client = new H2Client(t, proxy.listeners[0]);
    const isHeard = async () => {
      const stream = client.open('/grpc.testing.TestService/FullDuplexCall', withTimeout('300m'));
      const { headers, trailers } = await answerOf(stream);
      const status = trailers['grpc-status'] ?? headers['grpc-status'];
      t.equal(status, DEADLINE_EXCEEDED, name);
      const isOurs = (trailers['l5d-proxy-error'] ?? headers['l5d-proxy-error']) !== undefined;
      t.comment(`${name}: ${trailers['grpc-message'] ?? headers['grpc-message']}`);
      return !isOurs || undefined;
    };
    // On a busy machine a server may be later than what it is given.
    await eventually(`${name} says it itself`, isHeard);
  }
});
