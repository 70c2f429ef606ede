/** Requests to a service that has no endpoint: held for a while, sent as soon as there is one, and told why otherwise. */
import { Agent, get } from 'node:http';
import t from 'tap';
import { request } from '../support/http.ts';
import { startApplication } from '../support/http-application.ts';
import { listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

const WAITING = 'ferrule_http_waiting_requests';

t.test('waits for the first endpoint', async (t) => {
  const application = await startApplication(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', []) },
  });
  const { ip, port } = proxy.listeners[0];
  const answers = [1, 2, 3].map((id) => request(ip, port, `POST /${id}`, ['Host: api'], 'body'));
  await proxy.until(WAITING, {}, (sum) => sum === 3);
  proxy.writeMesh('api.yaml', serviceYaml('api', [{ address: application.address }]));
  t.strictSame(
    (await Promise.all(answers)).map(({ status }) => status),
    [200, 200, 200],
  );
  t.strictSame([...application.seen].sort(), ['POST /1', 'POST /2', 'POST /3'], 'each once');
  t.equal(await proxy.sum('request_total', { authority: 'api', direction: 'outbound' }), 3);
  await proxy.until(WAITING, {}, (sum) => sum === 0);
});

t.test('is told after its time, and then at once', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', []) },
  });
  const { ip, port } = proxy.listeners[0];
  const ask = () => request(ip, port, 'GET /', ['Host: api']);
  const since = performance.now();
  const first = await ask();
  const waitedMs = performance.now() - since;
  t.ok(waitedMs >= 2_900, `waits for 3 s: ${waitedMs} ms`);
  t.equal(first.status, 503);
  t.match(first.headers['l5d-proxy-error'], /service api\.default:80 has had no endpoints for 3 s/);
  t.match(first.headers['l5d-proxy-decision'], /^\d+-\d+$/);
  const again = performance.now();
  t.equal((await ask()).status, 503);
  t.ok(performance.now() - again < waitedMs / 2, 'at once');
  t.equal(await proxy.sum('outbound_http_errors_total', { error: 'failfast' }), 2);
});

t.test('a kept connection outlives a time without endpoints', async (t) => {
  const application = await startApplication(t);
  const endpoints = serviceYaml('api', [{ address: application.address }]);
  const proxy = await startTestProxy(t, { outbound: listenerFor('api'), mesh: { 'api.yaml': endpoints } });
  const { ip, port } = proxy.listeners[0];
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const ask = () =>
    new Promise<number | undefined>((resolve, reject) => {
      get({ host: ip, port, agent, path: '/' }, (response) => {
        response.resume().once('end', () => resolve(response.statusCode));
      }).once('error', reject);
    });
  t.equal(await ask(), 200);
  proxy.writeMesh('api.yaml', serviceYaml('api', []));
  await proxy.until('ferrule_http_pool_connections', {}, (sum) => sum === 0);
  const second = ask();
  await proxy.until(WAITING, {}, (sum) => sum === 1);
  proxy.writeMesh('api.yaml', endpoints);
  t.equal(await second, 200);
  t.equal(await proxy.sum('tcp_open_total', { direction: 'outbound', peer: 'src' }), 1, 'one connection');
});

t.test('a client that leaves is not waited for', async (t) => {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('api'),
    mesh: { 'api.yaml': serviceYaml('api', []) },
  });
  const { ip, port } = proxy.listeners[0];
  const aborted = new AbortController();
  const answer = fetch(`http://${ip}:${port}/`, { signal: aborted.signal }).catch(
    (error: Error) => error.name,
  );
  await proxy.until(WAITING, {}, (sum) => sum === 1);
  aborted.abort();
  t.equal(await answer, 'AbortError');
  await proxy.until(WAITING, {}, (sum) => sum === 0);
  await proxy.idle();
});
