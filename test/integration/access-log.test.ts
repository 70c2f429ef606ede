/** The access log of a real proxy: what requests of every fate leave behind, and what a reader of it can do to the proxy. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { serve } from '../support/engine-peers.ts';
import { parseAnswer, sendRaw } from '../support/http.ts';
import { startApplication } from '../support/http-application.ts';
import { startRoutes } from '../support/http-routes.ts';
import {
  eventually,
  listenerFor,
  type ProxyStart,
  serviceYaml,
  startTestProxy,
  type TestProxy,
} from '../support/proxy.ts';

const HOST = 'Host: app.default\r\n';
const LAST = 'Connection: close\r\n';
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const JSON_LOG = { log: { access: 'json' } } as const;
const DROPPED = 'ferrule_access_log_dropped_total';

/** As long as a head may have texts in the log: a few hundred lines of three of them are more than may wait. */
const LONG = 'x'.repeat(8_000);

type Line = Readonly<Record<string, string | number>>;

/** Reads the lines of a log from now on. */
function follow(proxy: TestProxy) {
  const lines: string[] = [];
  createInterface({ input: proxy.output }).on('line', (line) => lines.push(line));
  return {
    lines,
    /** The first line that has this text, once it is there. */
    with: (text: string) =>
      eventually(
        `a line with ${text}`,
        () => lines.find((line) => line.includes(text)),
        () => lines.join('\n'),
      ),
  };
}

/** The same of JSON, read. */
function followJson(proxy: TestProxy) {
  const log = follow(proxy);
  return { ...log, with: async (text: string): Promise<Line> => JSON.parse(await log.with(text)) };
}

/** A proxy with a listener in front of one application. */
async function startInFront(t: Test, address: SocketAddress, start: Partial<ProxyStart>) {
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', [{ address }]) },
    ...start,
  });
  const { ip, port } = proxy.listeners[0];
  return {
    proxy,
    say: async (text: string) => (await sendRaw(ip, port, Buffer.from(text, 'latin1'))).text,
    ip,
    port,
  };
}

t.test('JSON, on both sides of a pair of proxies', async (t) => {
  const application = await startApplication(t);
  const { routes, outgoing, incoming, idle } = await startRoutes(t, application.address, JSON_LOG);
  const { ip, port } = routes.find(({ name }) => name === 'both with mutual TLS')!.address;
  const say = async (text: string) => (await sendRaw(ip, port, Buffer.from(text, 'latin1'))).text;
  const [out, into] = [followJson(outgoing), followJson(incoming)];

  const fields = `traceparent: 00-${TRACE_ID}-00f067aa0ba902b7-01\r\nUser-Agent: caf\xe9 "1"\r\nReferer: http://a/\r\n`;
  const { body } = parseAnswer(await say(`GET /first?a=b HTTP/1.1\r\n${HOST}${LAST}${fields}\r\n`));
  const both = {
    ...{ method: 'GET', uri: '/first?a=b', version: 'HTTP/1.1', host: 'app.default', status: 200 },
    ...{ trace_id: TRACE_ID, user_agent: 'café "1"', referer: 'http://a/' },
    ...{ request_bytes: 0, response_bytes: body.length },
  };
  const [first, second] = [await out.with('/first'), await into.with('/first')];
  t.match(first, { ...both, direction: 'outbound', endpoint: String(incoming.listeners[0]) });
  t.match(second, { ...both, direction: 'inbound', endpoint: String(application.address) });
  t.match(second.client_id, /web/, 'who has proved to be whom');
  t.match(first.client_addr, /^127\.0\.0\.1:\d+$/);
  t.notOk('client_id' in first || 'error' in first || 'error' in second, 'what is not there is absent');
  for (const line of [first, second]) {
    t.ok(Math.abs(Date.parse(String(line.timestamp)) - Date.now()) < 60_000, 'now');
    const [processing, total] = [Number(line.processing_ns), Number(line.total_ns)];
    t.ok(processing >= 0 && processing <= total && total < 60e9, `${processing} of ${total} ns`);
    t.match(line.decision, /^\d+-\d+$/);
  }

  await say(
    `POST /echo?chunks HTTP/1.1\r\n${HOST}${LAST}Transfer-Encoding: chunked\r\n\r\n1;x=y\r\nd\r\n2\r\nef\r\n0\r\n\r\n`,
  );
  const content = { method: 'POST', request_bytes: 3, response_bytes: 3 };
  t.match(await out.with('chunks'), content, 'content is counted, without its framing');
  t.match(await into.with('chunks'), content);
  await say(`HEAD /body?n=9&framing=length HTTP/1.1\r\n${HOST}${LAST}\r\n`);
  t.match(await into.with('HEAD'), { status: 200, response_bytes: 0 }, 'HEAD');
  await say(`GET /body?n=3000000&framing=close HTTP/1.0\r\n\r\n`);
  t.match(await out.with('3000000'), { version: 'HTTP/1.0', status: 200, response_bytes: 3_000_000 });
  await say(`GET /one HTTP/1.1\r\n${HOST}\r\nGET /two HTTP/1.1\r\n${HOST}${LAST}\r\n`);
  await out.with('/two');
  t.equal(out.lines.filter((line) => /"\/(one|two)"/.test(line)).length, 2, 'one line each');
  await idle();
});

t.test('requests that get no answer of an application', async (t) => {
  const server = await serve(t, (peer) => {
    peer.socket.once('data', (bytes) => {
      if (!String(bytes).includes('/half')) return;
      peer.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf', () => peer.socket.destroySoon());
    });
  });
  const { proxy, say, ip, port } = await startInFront(t, server.address, {
    ...JSON_LOG,
    shutdown: { grace: '0s', drainDelay: '0s' },
  });
  const log = followJson(proxy);

  const malformed = parseAnswer(await say('GET /malformed HTTP/1.1\r\nHost: a\r\nNo field\r\n\r\n'));
  const unread = await log.with('bad_request');
  t.match(unread, { status: 400, response_bytes: malformed.body.length, request_bytes: 0 });
  t.match(unread.message, /./);
  t.notOk('method' in unread || 'uri' in unread, 'what cannot be read is not told');
  t.equal(unread.decision, malformed.headers['l5d-proxy-decision'], 'what people ask for it by');

  await say(`GET /%00 HTTP/1.1\r\n${HOST}\r\n`);
  t.match(await log.with('/%00'), { status: 400, method: 'GET', error: 'bad_request' }, 'a refused path');

  await say(`GET /half HTTP/1.1\r\n${HOST}\r\n`);
  t.match(await log.with('/half'), { status: 200, response_bytes: 4, error: 'broken off' });

  const client = connect({ host: ip, port });
  client.write(`POST /left HTTP/1.1\r\n${HOST}Content-Length: 10\r\n\r\nabc`);
  await eventually('the request', () => server.peers.find((peer) => peer.text.includes('abc')));
  client.resetAndDestroy();
  const left = await log.with('/left');
  t.match(left, {
    error: 'client left',
    request_bytes: 3,
    response_bytes: 0,
    endpoint: String(server.address),
  });
  t.notOk('status' in left || 'processing_ns' in left);

  const cut = connect({ host: ip, port });
  cut.on('error', () => cut.destroy());
  cut.write(`GET /cut HTTP/1.1\r\n${HOST}\r\n`);
  await eventually('the request', () => server.peers.find((peer) => peer.text.includes('/cut')));
  t.strictSame(await proxy.stop(), { status: 0, signal: null });
  t.match(await log.with('/cut'), { error: 'under way' }, 'cut off by the end of the proxy');
});

t.test('bytes of long bodies, which the engine passes on by itself', async (t) => {
  const SIZE = 3_000_000;
  const application = await startApplication(t);
  const whole = await startInFront(t, application.address, JSON_LOG);
  const wholes = followJson(whole.proxy);
  await whole.say(`GET /body?n=${SIZE}&framing=length HTTP/1.1\r\n${HOST}${LAST}\r\n`);
  t.match(await wholes.with('framing=length'), { status: 200, response_bytes: SIZE });
  await whole.say(
    `POST /digest HTTP/1.1\r\n${HOST}${LAST}Content-Length: ${SIZE}\r\n\r\n${'x'.repeat(SIZE)}`,
  );
  t.match(await wholes.with('/digest'), { status: 200, request_bytes: SIZE });

  const server = await serve(t, ({ socket }) => {
    socket.once('data', (bytes) => {
      const [, path] = String(bytes).split(' ');
      if (path === '/upload') return;
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${SIZE}\r\n\r\n${'x'.repeat(1_000_000)}`, () => {
        if (path === '/half') socket.destroySoon();
      });
    });
  });
  const { proxy, say, ip, port } = await startInFront(t, server.address, JSON_LOG);
  const log = followJson(proxy);
  await say(`GET /half HTTP/1.1\r\n${HOST}\r\n`);
  t.match(await log.with('/half'), { response_bytes: 1_000_000, error: 'broken off' });

  const reader = connect({ host: ip, port });
  let read = 0;
  reader.on('data', (bytes) => {
    read += bytes.length;
  });
  reader.write(`GET /left HTTP/1.1\r\n${HOST}\r\n`);
  await eventually('what there is', () => (read > 1_000_000 ? true : undefined));
  reader.resetAndDestroy();
  t.match(await log.with('/left'), { status: 200, response_bytes: 1_000_000, error: 'client left' });

  const writer = connect({ host: ip, port });
  writer.write(`POST /upload HTTP/1.1\r\n${HOST}Content-Length: ${SIZE}\r\n\r\n${'x'.repeat(500_000)}`);
  const arrived = () => server.peers.find((peer) => peer.receivedBytes > 500_000);
  const upload = await eventually('what was sent', arrived);
  t.match(upload.text, /^POST \/upload /);
  writer.resetAndDestroy();
  t.match(await log.with('/upload'), { request_bytes: 500_000, error: 'client left' });
});

t.test('Apache, and changes while the proxy runs', async (t) => {
  const nobody = await serve(t);
  nobody.server.close();
  const { proxy, say } = await startInFront(t, nobody.address, {});
  const log = follow(proxy);
  const change = async (from: string, to: string) => {
    const seen = proxy.records.length;
    proxy.rewriteConfig((text) => text.replace(from, to));
    proxy.kill('SIGHUP');
    await proxy.logged(/^configuration read again$/, seen);
  };
  const ask = (path: string) =>
    say(`GET ${path} HTTP/1.1\r\n${HOST}${LAST}User-Agent: a"b\\c\te\xe9\r\n\r\n`);

  await ask('/off');
  await change('format: json', 'format: json\n  access: apache');
  // Workers hear of it a moment later.
  const { body } = await eventually('a line', async () => {
    const answer = parseAnswer(await ask('/apache'));
    return log.lines.length > 0 ? answer : undefined;
  });
  const line = await log.with('/apache');
  const [head, agent] = line.split(' "-" ');
  t.match(
    head,
    /^127\.0\.0\.1 - - \[\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET \/apache HTTP\/1\.1" 502 \d+$/,
  );
  t.equal(agent, '"a\\"b\\\\c\\te\\xe9"');
  t.ok(
    Math.abs(Number(head.split(' ').at(-1)) - body.length) <= 2,
    'the length of our answer, whose id grows',
  );
  await say('GET /malformed HTTP/1.1\r\n\r\n');
  t.match(await log.with('"-" 400'), /\] "-" 400 \d+ "-" "-"$/);
  t.notOk(
    log.lines.some((each) => each.includes('/off')),
    'off by default',
  );

  await change('access: apache', 'access: json');
  await eventually('JSON', async () => {
    await ask('/json');
    return log.lines.find((each) => each.startsWith('{'));
  });
  t.match(JSON.parse(await log.with('{')), { uri: '/json', status: 502, error: 'connect' });
  await change('access: json', 'access: off');
  for (let i = 0; i < 5; i++) await ask(`/silent${i}`);
  t.equal((await proxy.stop()).status, 0);
  t.notOk(
    log.lines.some((each) => each.includes('/silent4')),
    'and off again',
  );
});

t.test(
  'a reader that is too slow loses lines, which are counted, and nobody else loses anything',
  async (t) => {
    const application = await startApplication(t);
    const { proxy, say } = await startInFront(t, application.address, JSON_LOG);
    const heads = (from: number, count: number) =>
      Array.from({ length: count }, (_, index) => {
        const last = index === count - 1 ? LAST : '';
        return `GET /n${from + index} HTTP/1.1\r\n${HOST}User-Agent: ${LONG}\r\nReferer: ${LONG}\r\n${last}\r\n`;
      }).join('');
    let sent = 0;
    while ((await proxy.sum(DROPPED)) === 0) {
      const answers = (await say(heads(sent, 50))).match(/answer to/g);
      t.equal(answers?.length, 50, 'every request is answered');
      sent += 50;
      if (sent > 2_000) throw new Error('nothing is dropped');
    }
    const log = follow(proxy);
    await eventually('every line that was not dropped', async () => {
      const dropped = await proxy.sum(DROPPED);
      return log.lines.length + dropped === sent || undefined;
    });
    t.ok(
      log.lines.every((line) => JSON.parse(line).status === 200),
      `${log.lines.length} of ${sent}, all whole`,
    );
    await say(heads(sent, 1));
    t.match(JSON.parse(await log.with(`/n${sent}"`)), { status: 200 }, 'the log goes on');
    t.equal((await proxy.stop()).status, 0);
  },
);

t.test('a reader that never reads does not keep the proxy from ending', async (t) => {
  const application = await startApplication(t);
  const { proxy, say } = await startInFront(t, application.address, JSON_LOG);
  const one = `GET / HTTP/1.1\r\n${HOST}User-Agent: ${LONG}\r\nReferer: ${LONG}\r\n`;
  for (let i = 0; i < 5; i++) await say(`${`${one}\r\n`.repeat(19)}${one}${LAST}\r\n`);
  t.strictSame(await proxy.stop(), { status: 0, signal: null });
  t.match(proxy.said(), /nobody read the end of the access log/);
});

t.test('a reader that leaves takes the log with it, and nothing else', async (t) => {
  const application = await startApplication(t);
  const { proxy, say } = await startInFront(t, application.address, JSON_LOG);
  const log = follow(proxy);
  await say(`GET /first HTTP/1.1\r\n${HOST}${LAST}\r\n`);
  await log.with('/first');
  proxy.output.destroy();
  await once(proxy.output, 'close');
  for (let i = 0; i < 3; i++) {
    t.match(await say(`GET /${i} HTTP/1.1\r\n${HOST}${LAST}\r\n`), /^HTTP\/1\.1 200 /, 'traffic goes on');
    await proxy.until(DROPPED, {}, (dropped) => dropped === i + 1);
  }
  t.match(await proxy.logged(/^the access log cannot be written/), { level: 'warn' });
  t.equal(
    proxy.records.filter(({ message }) => /cannot be written/.test(String(message))).length,
    1,
    'said once',
  );
  t.strictSame(await proxy.stop(), { status: 0, signal: null });
});

t.test('what was collected is written at the end', async (t) => {
  const application = await startApplication(t);
  const { proxy, say } = await startInFront(t, application.address, { ...JSON_LOG, workers: 2 });
  const log = follow(proxy);
  await say(`GET /last HTTP/1.1\r\n${HOST}${LAST}\r\n`);
  proxy.kill('SIGTERM');
  proxy.kill('SIGTERM');
  t.equal((await proxy.ended).status, 0);
  t.match(JSON.parse(await log.with('/last')), { status: 200 });
});
