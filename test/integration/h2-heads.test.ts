/** Heads that are as large as they may be, and heads that are none. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import t, { type Test } from 'tap';
import { renderExplanation } from '../../proxy/cli/explanation-text.ts';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { FRAME, H2_ERROR } from '../../proxy/http/h2/frames.ts';
import { at } from '../support/engine.ts';
import { changed, GET, headers, type PlainField } from '../support/h2.ts';
import { H2Client, startH2Application } from '../support/h2-application.ts';
import { dialH2 } from '../support/h2-wire.ts';
import { makeIdentities } from '../support/identities.ts';
import { eventually, listenerFor, serviceYaml, startTestProxy } from '../support/proxy.ts';

/** What HTTP/1 allows: bytes of a head, and fields in it. */
const MAX_HEAD_BYTES = 65_536;
const MAX_FIELDS = 256;

/** Its fields but for the first. */
const FIELDS = /^x-\d+: v+\r?$/gm;

/** A head of exactly that, which begins with `start`. */
function largest(start: string): string {
  const names = Array.from({ length: MAX_FIELDS - start.split('\r\n').length + 2 }, (_, n) => `x-${n}: `);
  const left = MAX_HEAD_BYTES - start.length - 2 - names.join('').length - 2 * names.length;
  const each = Math.floor(left / names.length);
  const fields = names.map(
    (name, n) => `${name}${'v'.repeat(n === 0 ? left - each * (names.length - 1) : each)}\r\n`,
  );
  return `${start}${fields.join('')}\r\n`;
}

/** An application that looks at nothing but where heads end, and answers with as large a head. */
async function startServer(t: Test): Promise<{ address: SocketAddress; heads: string[] }> {
  const heads: string[] = [];
  const server = createServer((socket) => {
    let text = '';
    socket.on('error', () => socket.destroy());
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      const parts = text.split('\r\n\r\n');
      text = parts.pop() ?? '';
      heads.push(...parts);
      for (const head of parts) {
        const start = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n';
        socket.write(head.startsWith('GET /small ') ? `${start}\r\n` : largest(start));
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { address: at(`127.0.0.1:${(server.address() as AddressInfo).port}`), heads };
}

/** Sends a request on a connection of its own. @returns the head of the response */
async function ask(t: Test, { ip, port }: SocketAddress, request: string): Promise<string> {
  const socket = connect(port, ip);
  t.teardown(() => socket.destroy());
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
  });
  socket.write(request);
  return eventually('a head', () => (text.includes('\r\n\r\n') ? text : undefined));
}

t.test('between sidecars HTTP/1 passes as HTTP/2 whatever its size', async (t) => {
  const { address, heads } = await startServer(t);
  const identities = await makeIdentities(t);
  const [web, api] = [await identities.make('web'), await identities.make('api')];
  const incoming = await startTestProxy(t, {
    identity: api.settings,
    inbound: { ports: [{ listen: '127.0.0.1:0', port: address.port, policy: 'all-authenticated' }] },
  });
  const endpoint = { address: incoming.listeners[0], identity: api.spiffe };
  const outgoing = await startTestProxy(t, {
    identity: web.settings,
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', [endpoint]) },
  });
  const request = largest('GET / HTTP/1.1\r\nhost: app.test\r\n');
  t.equal(request.length, MAX_HEAD_BYTES);
  // The first one travels as HTTP/1: its response says that others need not.
  t.match(await ask(t, outgoing.listeners[0], 'GET /small HTTP/1.1\r\nhost: app.test\r\n\r\n'), / 200 OK\r/);
  const head = await ask(t, outgoing.listeners[0], request);
  t.match(head.slice(0, 200), /^HTTP\/1\.1 200 OK\r\n/);
  t.equal(head.match(FIELDS)?.length, MAX_FIELDS - 1, 'all fields of the response');
  t.equal(heads.at(-1)?.match(FIELDS)?.length, MAX_FIELDS - 1, 'all fields of the request');
  const detected = (await incoming.explanations()).map(({ detection }) => detection.protocol);
  t.strictSame(detected, ['h2', 'http/1']);
});

t.test('what is malformed is told as HTTP/2, and is no request', async (t) => {
  const { address } = await startH2Application(t);
  const proxy = await startTestProxy(t, {
    inbound: { ports: [{ listen: '127.0.0.1:0', port: address.port, policy: 'all-unauthenticated' }] },
  });
  const wire = dialH2(t, proxy.listeners[0]);
  const malformed: readonly (readonly [readonly PlainField[], RegExp])[] = [
    [[...GET, ['X-Upper', 'case']], /upper-case letter \(RFC 9113 section 8\.2\.1\)/],
    [[...GET, ['connection', 'close']], /connection-specific field.* \(RFC 9113 section 8\.2\.2\)/],
    [changed(GET, ':path'), /pseudo-header field is missing \(RFC 9113 section 8\.3\)/],
    [changed(GET, ':scheme', 'gopher'), /the scheme is neither http nor https \(RFC 9113 section 8\.3\.1\)/],
  ];
  for (const [index, [fields, rule]] of malformed.entries()) {
    const stream = 2 * index + 1;
    wire.send(headers(stream, fields));
    const reset = await wire.frame(FRAME.rstStream, stream);
    t.equal(reset.payload.at(-1), H2_ERROR.protocolError);
    const [explained] = await proxy.explanations();
    t.match(explained, { status: 400, error: 'bad_request', message: rule, detection: { protocol: 'h2' } });
    t.match(renderExplanation(explained), /^protocol +HTTP\/2, found /m);
  }
  wire.send(headers(9, GET));
  await wire.frame(FRAME.headers, 9);
  t.equal(await proxy.sum('request_total', { direction: 'inbound' }), 1, 'one was a request');
  t.equal(await proxy.sum('inbound_http_errors_total', { error: 'bad_request' }), malformed.length);
});

t.test('a gRPC call whose head cannot be served is told so in its own words', async (t) => {
  const { address } = await startH2Application(t);
  const proxy = await startTestProxy(t, {
    outbound: listenerFor('app'),
    mesh: { 'app.yaml': serviceYaml('app', [{ address }]) },
  });
  const client = new H2Client(t, proxy.listeners[0], { maxSendHeaderBlockLength: 1e6 });
  const call = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' };
  const metadata = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`x-${n}`, 'v'.repeat(8_000)]));
  for (const [path, extra, code, message] of [
    ['/call', metadata, '8', 'the header fields are longer than 74240 bytes'],
    ['/%00', {}, '13', 'the path has an encoded NUL'],
  ] as const) {
    const { status, headers } = await client.get(path, { ...call, ...extra });
    t.strictSame([status, headers['grpc-status']], [200, code]);
    t.match(headers['grpc-message'], message);
  }
  const [malformed, large] = await proxy.explanations();
  t.strictSame([large.grpcStatus, malformed.grpcStatus], ['RESOURCE_EXHAUSTED', 'INTERNAL']);
});
