/** Connections on which nothing is said: who is asked for a sign of life, and who is let go. Each takes its time at once with the others. */
import t, { type Test } from 'tap';
import { FLAG, FRAME } from '../../proxy/http/h2/frames.ts';
import { data, GET, headers, headersBegin, type PlainFrame, ping } from '../support/h2.ts';
import { H2Client, startH2Application } from '../support/h2-application.ts';
import { dialH2, serveH2 } from '../support/h2-wire.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy, type TestEndpoint } from '../support/proxy.ts';

/** Of silence, until a peer is asked; and again, until it is given up, in ms. */
const QUIET_MS = 10_000;
/** How early a timer may be by the clock of a test, in ms. */
const EARLY_MS = 500;

function startInFront(t: Test, endpoints: readonly TestEndpoint[]) {
  const mesh = { 'app.yaml': serviceYaml('app', endpoints) };
  return startTestProxy(t, { outbound: listenerFor('app'), mesh });
}

const isPing = ({ type, flags }: PlainFrame) => type === FRAME.ping && (flags & FLAG.ack) === 0;
const textOf = ({ payload }: PlainFrame) => Buffer.from(payload).toString('latin1');

async function clients(t: Test): Promise<void> {
  const application = await startH2Application(t, (stream) => stream.resume());
  const proxy = await startInFront(t, [application]);
  const began = performance.now();
  const wires = [1, 2].map(() => dialH2(t, proxy.listeners[0]));
  const [alive, dead] = wires;
  for (const wire of wires) wire.send(headers(1, GET));
  const [asked] = await Promise.all(wires.map((wire) => wire.expect('PING', isPing)));
  t.ok(performance.now() - began >= QUIET_MS - EARLY_MS, 'a client is asked after a while');
  alive.send(ping(textOf(asked), true));
  await eventually('the silent one is given up', () => dead.closed || undefined);
  t.ok(performance.now() - began >= 2 * QUIET_MS - EARLY_MS, 'after as long again');
  t.notOk(alive.closed, 'the one that answered is not');
  await proxy.until('ferrule_engine_connections', {}, (count) => count <= 2);
}

async function endpoints(t: Test): Promise<void> {
  const silent = await serveH2(t, () => undefined);
  const proxy = await startInFront(t, [silent]);
  const client = new H2Client(t, proxy.listeners[0]);
  const [get, post] = [client.get('/'), client.post('/', [Buffer.from('body')])];
  await eventually('the requests', () => silent.wires.length > 0 || undefined);
  const right = await startH2Application(t);
  proxy.writeMesh('app.yaml', serviceYaml('app', [silent, right]));
  const [{ status }, { status: lost, text }] = await Promise.all([get, post]);
  t.equal(status, 200, 'what may be sent again is');
  t.equal(lost, 502, 'what may not is told');
  t.match(text, /was lost .* must not be sent twice/);
  t.equal(silent.wires[0].frames.filter(isPing).length, 1, 'it was asked once');
}

async function kept(t: Test): Promise<void> {
  const server = await serveH2(t, (wire, { type, stream }) => {
    if (type === FRAME.headers)
      wire.send(headers(stream, [[':status', '200']], false), data(stream, 'ok', true));
  });
  const proxy = await startInFront(t, [server]);
  const client = new H2Client(t, proxy.listeners[0]);
  const began = performance.now();
  t.equal((await client.get('/')).text, 'ok');
  await eventually('the connection to the endpoint ends', () => server.wires[0].closed || undefined);
  t.ok(performance.now() - began >= QUIET_MS - EARLY_MS, 'after a while');
  t.equal(server.wires[0].frames.filter(isPing).length, 0, 'it is not asked');
  t.notOk(client.session.closed, 'the client keeps its own');
  t.equal((await client.get('/')).text, 'ok', 'and is served on another one');
  t.equal(server.wires.length, 2);
}

async function unfinished(t: Test): Promise<void> {
  const proxy = await startInFront(t, [await startH2Application(t)]);
  const wire = dialH2(t, proxy.listeners[0]);
  // Its acknowledgement would be in the middle of the head.
  await wire.frame(FRAME.settings, 0);
  wire.send(headersBegin(1, GET));
  const { payload } = await wire.expect('GOAWAY', ({ type }) => type === FRAME.goAway);
  t.match(Buffer.from(payload).toString('latin1'), /did not become whole/, 'a head without an end');
  await eventually('the connection ends', () => wire.closed || undefined);
  const labels = { peer: 'src', by: 'us', error: 'ENHANCE_YOUR_CALM' };
  t.equal(await proxy.sum('ferrule_http2_connection_errors_total', labels), 1, 'is counted');
}

t.test('quiet connections', { jobs: 4 }, async (t) => {
  const tests = { clients, endpoints, kept, unfinished };
  await Promise.all(Object.entries(tests).map(([name, test]) => t.test(name, test)));
});
