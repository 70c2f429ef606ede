/** Each stream of a connection goes to an endpoint of its own; what endpoints refuse or leave undone is done elsewhere. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { FRAME, H2_ERROR, SETTING } from '../../proxy/http/h2/frames.ts';
import { at } from '../support/engine.ts';
import { data, goAway, headers, rstStream } from '../support/h2.ts';
import { type H2Answer, H2Client, type H2Handler, startH2Application } from '../support/h2-application.ts';
import { type H2Wire, serveH2 } from '../support/h2-wire.ts';
import { pieces, streamDigest } from '../support/http-application.ts';
import { type StartedProgram, startProgram } from '../support/http-programs.ts';
import { requirePeer } from '../support/peers.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

/** Streams at once on one connection. */
const STREAMS = 100;

const OK = [[':status', '200']] as const;

/** Takes all of a request, and 5 ms. */
const slowly: H2Handler = (stream) => {
  stream.resume().on('end', async () => {
    await sleep(5);
    if (stream.destroyed) return;
    stream.respond({ ':status': 200 });
    stream.end('ok');
  });
};

/** Answers everything that is complete, once it is. */
const answering = (wire: { send(...parts: Uint8Array[]): void }, stream: number) =>
  wire.send(headers(stream, OK, false), data(stream, 'ok', true));

function startProxy(
  t: Test,
  endpoints: readonly { address: TestProxy['listeners'][0] }[],
): Promise<TestProxy> {
  const mesh = { 'app.yaml': serviceYaml('app', endpoints) };
  return startTestProxy(t, { outbound: listenerFor('app'), mesh });
}

/** Waits until discovery has told of an endpoint: the next one is to leave no earlier. */
async function isUsed(proxy: TestProxy, { address }: { readonly address: SocketAddress }): Promise<void> {
  const labels = { target_addr: String(address) };
  await proxy.until('ferrule_http_pool_connections', labels, (count) => count > 0);
}

/** What went wrong among these. */
function failures(answers: readonly H2Answer[]): string[] {
  return answers
    .filter(({ status, code }) => status !== 200 || code !== 0)
    .map(({ status, code, text }) => `${status} ${code} ${text}`)
    .slice(0, 5);
}

/** One of many requests. */
type Ask = (client: H2Client, own: number, n: number) => Promise<H2Answer>;

const mixed: Ask = (client, own, n) => {
  const path = `/${own}-${n}`;
  return n % 2 === 0 ? client.get(path) : client.post(path, pieces(1_000));
};

/** Requests that follow each other on one connection until told to stop, many at once. */
class Load {
  readonly answers: H2Answer[] = [];
  readonly client: H2Client;
  private readonly ended: Promise<unknown>;
  private stopping = false;

  constructor(t: Test, proxy: TestProxy, ask = mixed) {
    this.client = new H2Client(t, proxy.listeners[0]);
    this.ended = Promise.all(Array.from({ length: STREAMS }, (_, own) => this.follow(own, ask)));
  }

  /** Waits until `count` more requests are over. */
  async goOn(count: number): Promise<void> {
    const until = this.answers.length + count;
    await eventually(`${count} more requests`, () => this.answers.length >= until || undefined);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.ended;
  }

  private async follow(own: number, ask: Ask): Promise<void> {
    for (let n = 0; !this.stopping; n++) this.answers.push(await ask(this.client, own, n));
  }
}

t.test('streams of one connection are spread over endpoints', async (t) => {
  const backends = await Promise.all([1, 2, 3].map(() => startH2Application(t, slowly)));
  const proxy = await startProxy(t, backends);
  const load = new Load(t, proxy);
  await load.goOn(3_000);
  await load.stop();
  t.strictSame(failures(load.answers), []);
  for (const { count, sessions } of backends) {
    const part = count / load.answers.length;
    t.ok(part > 0.25 && part < 0.42, `${count} of ${load.answers.length} requests`);
    t.equal(sessions.size, 1, 'on one connection');
  }
});

t.test('endpoints come and go under load', async (t) => {
  const backends = await Promise.all([1, 2, 3, 4].map(() => startH2Application(t, slowly)));
  const [first, second, ...others] = backends;
  const proxy = await startProxy(t, [first, second]);
  const load = new Load(t, proxy);
  await load.goOn(500);
  proxy.writeMesh('app.yaml', serviceYaml('app', backends));
  await eventually('the new ones get some', () => others.every(({ count }) => count > 100) || undefined);
  proxy.writeMesh('app.yaml', serviceYaml('app', others));
  await eventually(
    'the old ones are left',
    () => first.sessions.size + second.sessions.size === 0 || undefined,
  );
  await load.goOn(500);
  await load.stop();
  t.strictSame(failures(load.answers), [], `${load.answers.length} requests, none of which fails`);
  const seen = backends.reduce((sum, { count }) => sum + count, 0);
  t.equal(seen, load.answers.length, 'none is sent twice');
});

t.test('a rolling restart of servers that say GOAWAY', async (t) => {
  let backends = await Promise.all([1, 2, 3].map(() => startH2Application(t, slowly)));
  const all = [...backends];
  const proxy = await startProxy(t, backends);
  const load = new Load(t, proxy);
  for (const old of [...backends]) {
    await load.goOn(300);
    const left = old.leave();
    await load.goOn(100);
    const replacement = await startH2Application(t, slowly);
    all.push(replacement);
    backends = [...backends.filter((backend) => backend !== old), replacement];
    proxy.writeMesh('app.yaml', serviceYaml('app', backends));
    await left;
    await isUsed(proxy, replacement);
  }
  await load.goOn(300);
  await load.stop();
  t.strictSame(failures(load.answers), [], `${load.answers.length} requests, none of which fails`);
  const twice = all.flatMap(({ seen }) => [...seen.values()]).filter((count) => count > 1);
  t.strictSame(twice, [], 'none is sent twice');
});

t.test('a rolling restart of nghttpd, which just goes', async (t) => {
  const nghttpd = requirePeer(t, 'nghttpd');
  if (nghttpd === undefined) return;
  const folder = t.testdir({ file: 'ok' });
  const start = () =>
    startProgram(t, nghttpd, ({ ip, port }) => ['--no-tls', '-a', String(ip), '-d', folder, String(port)]);
  let servers: StartedProgram[] = await Promise.all([start(), start(), start()]);
  const proxy = await startProxy(t, servers);
  const load = new Load(t, proxy, (client) => client.get('/file'));
  for (const old of [...servers]) {
    await load.goOn(500);
    await old.stop();
    await load.goOn(200);
    const replacement = await start();
    servers = [...servers.filter((server) => server !== old), replacement];
    proxy.writeMesh('app.yaml', serviceYaml('app', servers));
    await isUsed(proxy, replacement);
  }
  await load.goOn(500);
  await load.stop();
  t.strictSame(failures(load.answers), [], `${load.answers.length} requests, none of which fails`);
});

t.test('what a server leaves undone at GOAWAY is done on another connection', async (t) => {
  const { address, wires } = await serveH2(t, (wire, { type, stream, flags }) => {
    const isEnd = (flags & 1) === 1 && (type === FRAME.headers || type === FRAME.data);
    if (wire !== wires[0]) return void (isEnd && answering(wire, stream));
    if (!isEnd || stream !== 19) return;
    // Ten requests are there: it has only seen the first three, which it answers.
    wire.send(goAway(5, H2_ERROR.noError));
    for (const id of [1, 3, 5]) answering(wire, id);
  });
  const proxy = await startProxy(t, [{ address }]);
  const client = new H2Client(t, proxy.listeners[0]);
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, n) => (n % 2 === 0 ? client.get('/') : client.post('/', pieces(10_000)))),
  );
  t.strictSame(failures(answers), []);
  t.equal(wires.length, 2, 'two connections');
  await eventually('the first one is closed', () => wires[0].closed || undefined);
});

t.test(
  'connections that end one after the other are not the fault of the request they leave undone',
  async (t) => {
    const count = 10;
    const first: (readonly [wire: H2Wire, stream: number])[] = [];
    let refused = 0;
    const { address, wires } = await serveH2(
      t,
      (wire, { type, stream, flags }) => {
        if ((flags & 1) === 0 || (type !== FRAME.headers && type !== FRAME.data)) return;
        if (first.length === count) {
          if (wires.indexOf(wire) >= count) return answering(wire, stream);
          refused++;
          return wire.send(goAway(stream - 2, H2_ERROR.noError));
        }
        // Each has a connection of its own, which proves useful.
        first.push([wire, stream]);
        if (first.length === count) for (const asked of first) answering(...asked);
      },
      [SETTING.maxConcurrentStreams, 1],
    );
    const proxy = await startProxy(t, [{ address }]);
    const client = new H2Client(t, proxy.listeners[0]);
    t.strictSame(failures(await Promise.all(Array.from({ length: count }, () => client.get('/')))), []);
    t.strictSame(failures([await client.post('/', pieces(1_000))]), []);
    t.equal(refused, count, 'all but a new connection have left it undone');
  },
);

t.test(
  'what a connection brought that its server ends before a word of its own is done elsewhere',
  async (t) => {
    // As the kernel ends those that wait to be accepted when their server leaves.
    let reset = 0;
    const leaving = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        reset++;
        socket.resetAndDestroy();
      });
    });
    leaving.listen(0, '127.0.0.1');
    await once(leaving, 'listening');
    t.teardown(() => leaving.close());
    const { port } = leaving.address() as AddressInfo;
    const right = await startH2Application(t);
    const proxy = await startProxy(t, [{ address: at(`127.0.0.1:${port}`) }, right]);
    const client = new H2Client(t, proxy.listeners[0]);
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) => client.post('/echo', pieces(n * 100))),
    );
    t.strictSame(failures(answers), []);
    t.ok(reset > 0, `${reset} connections were reset`);
  },
);

t.test('what an endpoint refuses goes to another one', async (t) => {
  let taken = 0;
  let refused = 0;
  const refusing = await serveH2(t, (wire, { type, stream }) => {
    if (type !== FRAME.headers) return;
    // One that has proved useful, and has nothing to do.
    if (taken++ < 20) return answering(wire, stream);
    refused++;
    wire.send(rstStream(stream, H2_ERROR.refusedStream));
  });
  const right = await startH2Application(t);
  const proxy = await startProxy(t, [refusing, right]);
  const client = new H2Client(t, proxy.listeners[0]);
  await Promise.all(Array.from({ length: 40 }, () => client.get('/')));
  for (let round = 0; round < 10; round++) {
    const asked = Array.from({ length: 20 }, (_, n) => client.post('/echo', pieces(n * 1_000)));
    const answers = await Promise.all(asked);
    t.strictSame(failures(answers), [], `round ${round}`);
    const wrong = answers.flatMap(({ digest }, n) => (digest === streamDigest(n * 1_000) ? [] : [n]));
    t.strictSame(wrong, [], 'all bodies whole');
  }
  t.ok(refused > 0, `${refused} streams were refused`);
});

t.test('a server that takes few streams gets no more than that, and none fails', async (t) => {
  for (const limit of [1, 8]) {
    const application = await startH2Application(t, slowly, { settings: { maxConcurrentStreams: limit } });
    const proxy = await startProxy(t, [application]);
    const client = new H2Client(t, proxy.listeners[0]);
    const answers = await Promise.all(Array.from({ length: STREAMS }, () => client.post('/', pieces(1_000))));
    t.strictSame(failures(answers), [], `${limit} at a time`);
    t.ok(application.sessions.size <= STREAMS / limit, `${application.sessions.size} connections`);
  }
});
