/** What requests in HTTP/2 leave behind, each on its own: explanations, lines in the access log, figures. */
import { createInterface } from 'node:readline';
import t from 'tap';
import { renderExplanation, renderLatest } from '../../proxy/cli/explanation-text.ts';
import { answerStream, H2Client, type H2Handler, startH2Application } from '../support/h2-application.ts';
import { startRoutes } from '../support/http-routes.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

const GRPC = {
  'content-type': 'application/grpc',
  te: 'trailers',
  ':method': 'POST',
  ':authority': 'app.test',
};

/** Calls end with the status that their path names, in trailers; or in the head where it ends with `only`. */
const calls: H2Handler = (stream, head) => {
  const status = /^\/call\/(\d+)(only)?/.exec(String(head[':path']));
  if (status === null) return answerStream(stream, head);
  const fields = { ':status': 200, 'content-type': 'application/grpc' };
  if (status[2] !== undefined)
    return stream.respond({ ...fields, 'grpc-status': status[1] }, { endStream: true });
  stream.resume().respond(fields, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status[1] }));
  stream.end('reply');
};

function linesOf(proxy: TestProxy): string[] {
  const lines: string[] = [];
  createInterface({ input: proxy.output }).on('line', (line) => lines.push(line));
  return lines;
}

t.test('on both sides of a pair of proxies', async (t) => {
  const application = await startH2Application(t, calls);
  const { routes, outgoing, incoming } = await startRoutes(t, application.address, {
    log: { access: 'json' },
  });
  const { address } = routes.find(({ name }) => name === 'both with mutual TLS')!;
  const proxies = [outgoing, incoming];
  const logs = proxies.map(linesOf);
  const client = new H2Client(t, address);
  const all = await Promise.all([
    client.get('/plain?x=1', { ':authority': 'app.test', 'user-agent': 'tester' }),
    ...[0, 0, 5, 14].map((status) => client.post(`/call/${status}`, [Buffer.alloc(100)], GRPC)),
    client.post('/call/12only', [], GRPC),
  ]);
  t.strictSame(new Set(all.map(({ status }) => status)), new Set([200]));

  for (const [index, proxy] of proxies.entries()) {
    const direction = ['outbound', 'inbound'][index];
    const lines = logs[index];
    await eventually('six lines', () => lines.length === 6 || undefined);
    const parsed = lines.map((line) => JSON.parse(line));
    const plain = parsed.find(({ uri }) => uri.startsWith('/plain'));
    const bytes = { request_bytes: 0, response_bytes: 'answer to /plain?x=1'.length };
    t.match(plain, {
      ...{ direction, method: 'GET', uri: '/plain?x=1', version: 'HTTP/2.0', host: 'app.test' },
      ...{ user_agent: 'tester', status: 200, ...bytes },
    });
    t.match(
      parsed.find(({ uri }) => uri === '/call/5'),
      { method: 'POST', request_bytes: 100, response_bytes: 5 },
    );

    const explained = await proxy.explanation(plain.decision);
    t.match(explained, {
      ...{ direction, outcome: 'answered', status: 200, attempts: [{ outcome: 'answered' }] },
      detection: { protocol: 'h2' },
      request: { method: 'GET', path: '/plain', authority: 'app.test' },
    });
    t.match(renderExplanation(explained), /GET app\.test\/plain[\s\S]*200/, 'ferrule explain');
    const latest = await proxy.explanations();
    t.equal(latest.length, 6, 'each stream is a request of its own');
    t.match(renderLatest(latest), /\/call\/12only/);

    const labels = { direction, status_code: '200' };
    t.equal(await proxy.sum('request_total', { direction }), 6);
    for (const [status, count, classification] of [
      ['0', 2, 'success'],
      ['5', 1, 'success'],
      ['12', 1, 'success'],
      ['14', 1, 'failure'],
    ] as const) {
      const told = await proxy.sum('response_total', { ...labels, grpc_status: status, classification });
      t.equal(told, count, `${direction}: grpc_status ${status} is a ${classification}`);
    }
    t.equal(await proxy.sum('response_total', labels), 6);
    t.equal(await proxy.sum('response_latency_ms_count', labels), 6);
  }
});

t.test('what the proxy answers itself', async (t) => {
  const application = await startH2Application(t);
  const mesh = { 'app.yaml': serviceYaml('app', [application]), 'none.yaml': serviceYaml('none', []) };
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app', 'none'),
    mesh,
    log: { access: 'apache' },
  });
  const lines = linesOf(proxy);
  const client = new H2Client(t, proxy.listeners[0]);
  t.equal((await client.get('/fine')).status, 200);
  await eventually('a line', () => lines.find((line) => / "GET \/fine HTTP\/2\.0" 200 /.test(line)));

  const nobody = new H2Client(t, proxy.listeners[1]);
  const { status, headers, text } = await nobody.get('/nowhere');
  t.equal(status, 503, text);
  const id = String(headers['l5d-proxy-decision']);
  t.match(await proxy.explanation(id), { status: 503, outcome: 'refused', request: { path: '/nowhere' } });
  const call = await nobody.post('/call', [], GRPC);
  t.strictSame([call.status, call.headers['grpc-status']], [200, '14'], 'a call is told in its own words');
  t.match(call.headers['grpc-message'], /./);
  const refused = await eventually('its line', () => lines.find((line) => line.includes('/nowhere')));
  t.match(refused, / "GET \/nowhere HTTP\/2\.0" 503 /);
  const malformed = await client.get('/%00');
  t.equal(malformed.status, 400, malformed.text);
});
