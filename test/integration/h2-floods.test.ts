/**
 * Floods against a proxy that others use as well: attackers are cut, told why, logged and counted, memory stays where it was, and nobody else
 * notices. How much each budget allows is in test/unit/h2-budgets.test.ts.
 */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { FRAME, H2_ERROR, readUint32, SETTING } from '../../proxy/http/h2/frames.ts';
import {
  block,
  changed,
  continuation,
  data,
  frame,
  GET,
  headers,
  headersBegin,
  join,
  POST,
  ping,
  priority,
  rstStream,
  settings,
  settingsAck,
  windowUpdate,
} from '../support/h2.ts';
import { type H2Answer, H2Client, type H2Handler, startH2Application } from '../support/h2-application.ts';
import { dialH2, type H2Wire } from '../support/h2-wire.ts';
import { watchMemory } from '../support/memory.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestProxy } from '../support/proxy.ts';

/** Frames of a flood that are written at once, and at most: many times what any budget allows. */
const BATCH = 500;
const MOST = 200_000;

/** Attackers at once. */
const ATTACKERS = 3;

/** What a proxy may grow by at most during all floods, in bytes: what its heaps take before they are swept. */
const MAX_GROWTH = 48_000_000;

/** For a request of somebody else on a machine that also makes the floods, in ms. */
const PROMPT_MS = 2_000;

/** Heads that wait for their end at once: 13 MB in all. */
const HALVES = 100;
const FILLER = new Uint8Array(16_384);

/** What a request on its way during the floods takes, in ms. */
const SLOW_MS = 500;

const { cancel: CANCEL, enhanceYourCalm: CALM } = H2_ERROR;

const id = (n: number) => 2 * n + 1;
const EMPTY = new Uint8Array(0);

/** What is sent again and again behind a beginning. */
interface Flood {
  readonly name: string;
  readonly begin?: Uint8Array;
  readonly piece: (n: number) => Uint8Array;
  /** In the debug data of GOAWAY. */
  readonly why: RegExp;
}

const FRAMES = /too many control frames/;
const RESETS = /too many streams that are reset/;
const OPEN = headers(1, POST, false);

const FLOODS: readonly Flood[] = [
  { name: 'rapid reset', piece: (n) => join(headers(id(n), GET), rstStream(id(n), CANCEL)), why: RESETS },
  {
    name: 'resets we are made to do',
    piece: (n) => join(headers(id(n), POST, false), windowUpdate(id(n), 0)),
    why: RESETS,
  },
  { name: 'malformed requests', piece: (n) => headers(id(n), changed(GET, ':path')), why: RESETS },
  { name: 'streams over the limit', piece: (n) => headers(id(n), POST, false), why: RESETS },
  { name: 'PING', piece: () => ping(), why: FRAMES },
  { name: 'SETTINGS', piece: (n) => settings([SETTING.initialWindowSize, n]), why: FRAMES },
  { name: 'acknowledgements', piece: () => settingsAck(), why: FRAMES },
  { name: 'PRIORITY', piece: (n) => priority(id(n), 0), why: FRAMES },
  { name: 'unknown frames', piece: () => frame(0x20, 0, 0, EMPTY), why: FRAMES },
  { name: 'WINDOW_UPDATE', piece: () => windowUpdate(0, 1), why: FRAMES },
  { name: 'empty DATA', begin: OPEN, piece: () => data(1, EMPTY), why: FRAMES },
  {
    name: 'CONTINUATION without content',
    begin: headersBegin(1, GET),
    piece: () => continuation(1, EMPTY, false),
    why: /CONTINUATION frames/,
  },
  {
    name: 'CONTINUATION without an end',
    begin: headersBegin(1, GET),
    piece: () => continuation(1, FILLER, false),
    why: /a header block is longer than/,
  },
];

/** Answers at once, but for `/slow`. */
const serve: H2Handler = async (stream, head) => {
  stream.resume();
  if (head[':path'] === '/slow') await sleep(SLOW_MS);
  if (stream.destroyed) return;
  stream.respond({ ':status': 200 });
  stream.end('ok');
};

/** Somebody else, who asks as long as the floods go on: on one connection, on a new one each time, and for what takes long. */
class Honest {
  readonly answers: H2Answer[] = [];
  slowestMs = 0;
  private readonly t: Test;
  private readonly proxy: TestProxy;
  private readonly ended: Promise<unknown>;
  private stopping = false;

  constructor(t: Test, proxy: TestProxy) {
    this.t = t;
    this.proxy = proxy;
    const kept = this.connect();
    const asks = [
      () => this.prompt(() => kept.post('/', [Buffer.from('kept')])),
      () => this.prompt(() => this.anew()),
      () => kept.post('/slow', [Buffer.from('slow')]),
    ];
    this.ended = Promise.all(asks.map((ask) => this.repeat(ask)));
  }

  /** What went wrong, first of all. */
  get failures(): string[] {
    const wrong = this.answers.filter(
      ({ status, text, code }) => status !== 200 || text !== 'ok' || code !== 0,
    );
    return wrong.map(({ status, code, text }) => `${status} ${code} ${text}`).slice(0, 5);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.ended;
  }

  private connect(): H2Client {
    return new H2Client(this.t, this.proxy.listeners[0]);
  }

  private async repeat(ask: () => Promise<H2Answer>): Promise<void> {
    while (!this.stopping) this.answers.push(await ask());
  }

  private async prompt(ask: () => Promise<H2Answer>): Promise<H2Answer> {
    const began = performance.now();
    const answer = await ask();
    this.slowestMs = Math.max(this.slowestMs, performance.now() - began);
    // Others want the machine as well.
    await sleep(5);
    return answer;
  }

  private async anew(): Promise<H2Answer> {
    const client = this.connect();
    const answer = await client.get('/');
    client.session.close();
    return answer;
  }
}

async function startServed(t: Test): Promise<TestProxy> {
  const application = await startH2Application(t, serve);
  const mesh = { 'app.yaml': serviceYaml('app', [application]) };
  return startTestProxy(t, { outbound: listenerFor('app'), mesh });
}

/** Writes until it is told that it is cut. */
async function attack(wire: H2Wire, { begin = EMPTY, piece }: Omit<Flood, 'name' | 'why'>): Promise<void> {
  // Their acknowledgement would be in the middle of a head.
  await wire.frame(FRAME.settings, 0);
  wire.send(begin);
  const isCut = () => wire.closed || wire.frames.at(-1)?.type === FRAME.goAway;
  for (let n = 0; n < MOST && !isCut(); n += BATCH) {
    const batch = join(...Array.from({ length: BATCH }, (_, offset) => piece(n + offset)));
    await new Promise<void>((resolve) => wire.socket.write(batch, () => resolve()));
    // What is written at once never lets anything be read.
    await setImmediate();
  }
}

const cutBy = (proxy: TestProxy) =>
  proxy.sum('ferrule_http2_connection_errors_total', {
    ...{ direction: 'outbound', peer: 'src', by: 'us', error: 'ENHANCE_YOUR_CALM' },
  });

t.test('floods', async (t) => {
  const proxy = await startServed(t);
  const honest = new Honest(t, proxy);
  const grown = watchMemory([proxy.pid]);
  for (const [index, flood] of FLOODS.entries()) {
    const wires = Array.from({ length: ATTACKERS }, () => dialH2(t, proxy.listeners[0]));
    await Promise.all(wires.map((wire) => attack(wire, flood)));
    for (const wire of wires) {
      const { payload } = await wire.expect(`GOAWAY: ${flood.name}`, ({ type }) => type === FRAME.goAway);
      t.equal(readUint32(payload, 4), CALM, flood.name);
      t.match(Buffer.from(payload.subarray(8)).toString(), flood.why, flood.name);
      await eventually(`the end: ${flood.name}`, () => wire.closed || undefined);
    }
    t.equal(await cutBy(proxy), (index + 1) * ATTACKERS, `${flood.name} is counted`);
  }
  await honest.stop();
  t.strictSame(honest.failures, [], `of ${honest.answers.length} requests of somebody else none fails`);
  t.ok(honest.slowestMs < PROMPT_MS, `the slowest took ${honest.slowestMs} ms`);
  const [growth] = grown();
  t.ok(growth < MAX_GROWTH, `the proxy grew by ${growth} bytes`);
  t.match(proxy.said(), /"an HTTP\/2 connection was given up".*ENHANCE_YOUR_CALM/);
});

t.test('who asks and does not read', async (t) => {
  const proxy = await startServed(t);
  const honest = new Honest(t, proxy);
  const grown = watchMemory([proxy.pid]);
  const pieces = [() => ping(), (n: number) => join(headers(id(n), GET), rstStream(id(n), CANCEL))];
  for (const piece of pieces) {
    const wire = dialH2(t, proxy.listeners[0]);
    attack(wire, { piece });
    await wire.frame(FRAME.settings, 0);
    wire.socket.pause();
  }
  await eventually('both are cut', async () => (await cutBy(proxy)) === pieces.length || undefined);
  await honest.stop();
  t.strictSame(honest.failures, [], `of ${honest.answers.length} requests of somebody else none fails`);
  const [growth] = grown();
  t.ok(growth < MAX_GROWTH, `the proxy grew by ${growth} bytes`);
});

t.test('heads that are small and become large', async (t) => {
  const proxy = await startServed(t);
  const honest = new Honest(t, proxy);
  const grown = watchMemory([proxy.pid]);
  // An entry of the table (RFC 7541 section 6.2.1), and as many references to it as a frame holds: 48 MB.
  const entry = join(Uint8Array.of(0x40, 1, 0x78, 0x7f, 0xa1, 0x1e), new Uint8Array(4_000).fill(0x61));
  const bomb = join(block(GET), entry, new Uint8Array(12_000).fill(0xbe));
  const wire = dialH2(t, proxy.listeners[0]);
  const count = 500;
  for (let n = 0; n < count; n++) wire.send(headers(id(n), bomb));
  const last = await wire.frame(FRAME.headers, id(count - 1));
  t.equal(last.payload.length > 0, true, 'all of them are answered');
  await honest.stop();
  t.strictSame(honest.failures, [], `of ${honest.answers.length} requests of somebody else none fails`);
  t.ok(honest.slowestMs < PROMPT_MS, `the slowest took ${honest.slowestMs} ms`);
  const [growth] = grown();
  t.ok(growth < MAX_GROWTH, `the proxy grew by ${growth} bytes`);
});

t.test('heads that are never whole', async (t) => {
  const proxy = await startServed(t);
  const honest = new Honest(t, proxy);
  const grown = watchMemory([proxy.pid]);
  const half = join(headersBegin(1, GET), ...Array.from({ length: 7 }, () => continuation(1, FILLER, false)));
  const wires = Array.from({ length: HALVES }, () => dialH2(t, proxy.listeners[0]));
  for (const wire of wires) {
    await wire.frame(FRAME.settings, 0);
    wire.send(half);
  }
  await proxy.until('tcp_read_bytes_total', { peer: 'src' }, (sum) => sum >= HALVES * half.length);
  await honest.stop();
  t.strictSame(honest.failures, [], `of ${honest.answers.length} requests of somebody else none fails`);
  const [growth] = grown();
  t.ok(growth < MAX_GROWTH, `the proxy grew by ${growth} bytes`);
  // That they are cut after a while is in h2-quiet.test.ts.
  t.equal(wires.filter(({ closed }) => closed).length, 0, 'all of them are there');
});
