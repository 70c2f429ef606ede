/** Heads that are long, or have many fields, through the forwarder: nothing is lost, sent twice or kept. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { H2_ERROR } from '../../proxy/http/h2/frames.ts';
import { until } from '../support/engine.ts';
import { type EndpointKind, Rig } from '../support/forward-rig.ts';
import { GET, POST } from '../support/h2.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const ECONNRESET = 104;

/** Most fields of a head, and its most bytes; see problems.ts. */
const MAX_FIELDS = 256;
const MAX_HEAD_BYTES = 65_536;

const ON_HTTP2: readonly [string, EndpointKind][] = [
  ['to an application', { protocol: 'http2' }],
  ['to a sidecar', { mesh: true, multiplexed: true }],
];

t.test('a POST that the server has is not sent again, however long its head is', async (t) => {
  for (const length of [1_000, 20_000, 50_000]) {
    const rig = new Rig({ protocol: 'http2' });
    const client = rig.acceptHttp2();
    const seen = () => [...rig.servers.values()].flatMap(({ owner }) => owner.heard);
    rig.ask(client, GET);
    rig.dial();
    rig.run();
    rig.server.answer([[':status', '200']]);
    rig.run();
    rig.ask(client, [...POST, ['x-long', '~'.repeat(length)]]);
    rig.run();
    t.equal(seen().filter((what) => what.startsWith('3 request')).length, 1, `${length} bytes have come`);
    rig.lose(rig.upstream, ECONNRESET);
    rig.dial();
    rig.run();
    t.equal(seen().filter((what) => what.includes('POST')).length, 1, 'once');
    t.match(client.owner.heard.join('\n'), /^3 response :status=502 /m);
  }
});

/** `count` fields with nothing in them. */
function fieldLines(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `x-${index}: 1`);
}

/** The head that arrives on HTTP/2, as a set of `name=value`. */
function arrived(kind: EndpointKind, lines: readonly string[]): ReadonlySet<string> {
  const rig = new Rig(kind);
  const client = rig.accept('http1');
  rig.say(client, `${lines.join('\r\n')}\r\n\r\n`);
  rig.dial();
  rig.run();
  const [request = ''] = rig.server.owner.heard;
  return new Set(request.split(' '));
}

for (const [where, kind] of ON_HTTP2) {
  t.test(`as many fields as there may be, ${where}`, async (t) => {
    const lines = fieldLines(MAX_FIELDS - 2);
    const head = arrived(kind, ['POST /all HTTP/1.1', 'Host: web.test', 'TE: trailers', ...lines]);
    const expected = [':method=POST', ':authority=web.test', ':path=/all', 'te=trailers'];
    for (const line of lines) expected.push(line.replace(': ', '='));
    t.strictSame(
      expected.filter((field) => !head.has(field)),
      [],
    );
  });

  t.test(`… and no Host, in HTTP/1.0, ${where}`, async (t) => {
    const lines = fieldLines(MAX_FIELDS);
    const head = arrived(kind, ['GET /all HTTP/1.0', ...lines]);
    const expected = [':method=GET', ':authority=10.9.0.1:80', ':path=/all'];
    for (const line of lines) expected.push(line.replace(': ', '='));
    t.strictSame(
      expected.filter((field) => !head.has(field)),
      [],
    );
  });

  t.test(`as many bytes as there may be, and no Host, ${where}`, async (t) => {
    const lines = ['GET /all HTTP/1.0', 'X-First: 1', 'X-Long: '];
    lines[2] += '~'.repeat(MAX_HEAD_BYTES - `${lines.join('\r\n')}\r\n\r\n`.length);
    const head = arrived(kind, lines);
    const expected = [':authority=10.9.0.1:80', 'x-first=1', lines[2].replace('X-Long: ', 'x-long=')];
    t.strictSame(
      expected.filter((field) => !head.has(field)),
      [],
    );
  });
}

t.test('a client that asks for nothing more leaves no long heads behind', async (t) => {
  const rig = new Rig({ protocol: 'http2' });
  const clients = [0, 1, 2, 3].map(() => rig.acceptHttp2());
  collectGarbage();
  const before = process.memoryUsage().arrayBuffers;
  for (const [number, client] of clients.entries()) {
    for (let n = 0; n < 32; n++)
      rig.ask(client, [...GET, ['x-token', `${number}-${n}`.padEnd(60_000, '~')]], false);
    for (const stream of client.session.openStreams()) client.session.reset(stream, H2_ERROR.cancel);
    rig.run();
  }
  rig.dial();
  rig.run();
  t.equal(rig.inFlight, 0);
  t.match(new Set(rig.decisions.map(({ outcome }) => outcome)), new Set(['client left']));
  // V8 frees buffers on a thread of its own, which has to get a processor first.
  await until(
    () => {
      collectGarbage();
      return process.memoryUsage().arrayBuffers - before < 1e6;
    },
    `less than 1 MB more than before, of ${4 * 32 * 60_000} bytes that came`,
  );
});
