/** Answers in HTTP/2 that are not exactly right fail the row, whichever generator gets them. */

import { once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { startCalls, startFiles } from '../../bench/backends/h2.ts';
import { callAtRate, chat, download, startStreamBackend } from '../../bench/backends/h2-stream.ts';
import { checkH2load, type H2Load, parseH2load, runH2load } from '../../bench/harness/h2load.ts';
import { stopAllJobs } from '../../bench/harness/job.ts';
import type { Workshop } from '../../bench/harness/model.ts';
import { RunFolder } from '../../bench/harness/workshop.ts';
import { closeEarly, flipByte, HONEST, loseByte, startLiar } from '../support/bench-liar.ts';
import { requirePeer } from '../support/peers.ts';

const run = new RunFolder();
t.teardown(() => run.remove());

function workshop(t: Test, name: string): Workshop {
  t.teardown(stopAllJobs);
  return run.workshop(name, 20);
}

/** A server of one's own. @returns its port */
async function serve(t: Test, answer: (stream: ServerHttp2Stream) => void): Promise<number> {
  const server: Http2Server = createServer();
  // What a client breaks off is looked at there.
  server.on('stream', (stream) => answer(stream.on('error', () => stream.destroy())));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

const PRINTED = `finished in 2.00s, 106144.00 req/s, 12.96MB/s
requests: 212288 total, 212544 started, 212288 done, 212288 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 212288 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 25.92MB (27174008) total, 2.03MB (2123832) headers (space savings 93.55%), 20.25MB (21228800) data
`;
const LOAD: H2Load = { connections: 8, streams: 32, path: '/', bytes: 100 };

t.test('what h2load prints', async (t) => {
  const summary = parseH2load(PRINTED);
  const counted = { done: 212_288, succeeded: 212_288, failed: 0, ok: 212_288, bytes: 21_228_800 };
  t.strictSame(summary, { ...counted, seconds: 2 });
  t.equal(parseH2load(PRINTED.replace('in 2.00s', 'in 200.50ms')).seconds, 0.2005);
  t.throws(() => parseH2load('h2load: no'), { message: /says nothing like/ });
  t.doesNotThrow(() => checkH2load(summary, LOAD));
  t.doesNotThrow(() => checkH2load({ ...summary, bytes: summary.bytes + 25_600 }, LOAD), 'parts of answers');
  for (const [wrong, message] of [
    [{ failed: 1 }, /counts 1 errors/],
    [{ done: 0 }, /got no answer/],
    [{ succeeded: 212_287 }, /212287 successes/],
    [{ ok: 212_287 }, /212287 answers of 212288 have/],
    [{ bytes: 21_228_799 }, /read 21228799 bytes/],
    [{ bytes: 21_228_800 + 25_601 }, /bytes for/],
  ] as const) {
    t.throws(() => checkH2load({ ...summary, ...wrong }, LOAD), { message });
  }
});

t.test('requests and calls', async (t) => {
  if (requirePeer(t, 'nghttpd') === undefined || requirePeer(t, 'h2load') === undefined) return;
  const { folder } = workshop(t, 'requests');
  const [files, calls] = [await startFiles(folder), await startCalls(folder)];
  for (const { port, load, verify } of [files, calls]) {
    await verify(port);
    const { units } = await runH2load(port, 0.3, { ...load, connections: 2, streams: 4 });
    t.ok(units > 100, `${load.path}: ${units} answers`);
  }
  const other = { ...files.load, connections: 2, streams: 2 };
  const missing = runH2load(files.port, 0.2, { ...other, path: '/none' });
  await t.rejects(missing, { message: /errors|2xx|successes/ });
  await t.rejects(runH2load(files.port, 0.2, { ...other, bytes: 101 }), { message: /bytes for/ });
  const [message, text] = [Buffer.alloc(205, 'x'), 'x'.repeat(100)];
  const wrongBody = await serve(t, (stream) => stream.end(text));
  await t.rejects(files.verify(wrongBody), { message: /wrong answer: body/ });
  await t.rejects(calls.verify(wrongBody), { message: /wrong answer: content type/ });
  const wrongMessage = await serve(t, (stream) => {
    stream.respond({ 'content-type': 'application/grpc' });
    stream.end(message);
  });
  await t.rejects(calls.verify(wrongMessage), { message: /wrong answer: message/ });
  const broken = await serve(t, (stream) => stream.close(2));
  await t.rejects(files.verify(broken), { message: /NGHTTP2_INTERNAL_ERROR/ });
});

t.test('a call without its status', async (t) => {
  if (requirePeer(t, 'nghttpd') === undefined) return;
  const calls = await startCalls(workshop(t, 'calls').folder);
  const port = await serve(t, (stream) => {
    stream.respond({ 'content-type': 'application/grpc' });
    stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, 200]), Buffer.alloc(200, 'message ')]));
  });
  await t.rejects(calls.verify(port), { message: /wrong answer: gRPC status undefined/ });
});

t.test('streams', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const tool = await workshop(t, 'streams').tool('h2-stream');
  const backend = await startStreamBackend(tool);
  const load = { connections: 2, streams: 3, bytes: 100 };
  const { units } = await chat(tool, await startLiar(t, backend, HONEST), load, 0.3);
  t.ok(units > 100, `${units} messages`);
  const calls = { connections: 2, bytes: 200, perSecond: 1000 };
  t.equal((await callAtRate(tool, await startLiar(t, backend, HONEST), calls, 0.3)).units, 300);
  await t.rejects(callAtRate(tool, await startLiar(t, backend, flipByte(5_000)), calls, 0.3), {
    message: /exit status 1/,
  });
  const large = await chat(tool, backend, { ...load, bytes: 300_000 }, 0.1);
  t.ok(large.units >= 6, 'messages of more than a window');
  t.match(await download(tool, await startLiar(t, backend, HONEST), 4e6, true), { bytes: 4e6 });
  // Behind settings, the window and the head of the answer is the first message.
  for (const spoil of [flipByte(5_000), loseByte(5_000), closeEarly]) {
    const port = await startLiar(t, backend, spoil);
    await t.rejects(chat(tool, port, { ...load, streams: 1, bytes: 10_000 }, 0.2), {
      message: /exit status 1/,
    });
  }
  for (const spoil of [flipByte(1_000_000), closeEarly]) {
    await t.rejects(download(tool, await startLiar(t, backend, spoil), 4e6, true), {
      message: /exit status 1/,
    });
  }
  await t.rejects(chat(tool, await serve(t, (stream) => stream.close(8)), load, 0.2), {
    message: /RST_STREAM with code 8/,
  });
  const ended = await serve(t, (stream) => void stream.respond({ ':status': 503 }, { endStream: true }));
  await t.rejects(chat(tool, ended, load, 0.2), { message: /answered with an end/ });
});
