/** What a client of HTTP/2 does with the applications of `h2-application.ts` and `http-application.ts`, which answer alike. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Test } from 'tap';
import { answerOf, type H2Client } from './h2-application.ts';
import { pieces, streamDigest } from './http-application.ts';

/** Bodies down, up, and both ways at once. A body of `large` bytes or more is not sent both ways. */
export async function exerciseBodies(
  t: Test,
  client: H2Client,
  sizes: readonly number[],
  large: number,
): Promise<void> {
  for (const size of sizes) {
    const right = streamDigest(size);
    const down = await client.get(`/body?n=${size}`);
    t.strictSame([down.status, down.length, down.digest], [200, size, right], `${size} bytes down`);
    const up = await client.post('/digest', pieces(size));
    const { length, digest } = JSON.parse(up.text);
    t.strictSame([length, digest], [size, right], `${size} bytes up`);
    if (size >= large) continue;
    const both = await client.post('/echo', pieces(size));
    t.strictSame([both.length, both.digest], [size, right], `${size} bytes both ways`);
  }
}

/** Trailers both ways, interim responses, responses without content, cookies. */
export async function exerciseMessages(t: Test, client: H2Client): Promise<void> {
  const { trailers, text } = await client.get('/trailers', { te: 'trailers' });
  t.strictSame([trailers['x-sum'], text], ['42', 'body'], 'trailers of the response');
  const stream = client.open('/digest', { ':method': 'POST', te: 'trailers' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-check': 'ok' }));
  const answered = answerOf(stream);
  stream.end('some');
  const digested = JSON.parse((await answered).text);
  t.equal(digested.trailers['x-check'], 'ok', 'trailers of the request');
  t.equal(digested.headers.te, 'trailers', 'and that trailers are welcome');

  const hinted = await client.get('/hints');
  t.strictSame([hinted.interims, hinted.status], [[103, 102], 200], 'interim responses');
  t.equal(hinted.text, 'answer to /hints');

  const head = await client.get('/body?n=300000&framing=length', { ':method': 'HEAD' });
  const announced = [head.status, head.headers['content-length'], head.length, head.code];
  t.strictSame(announced, [200, '300000', 0, 0], 'HEAD');
  for (const status of [204, 304, 404, 500]) {
    const { status: got, length, code } = await client.get(`/status?n=${status}`);
    t.strictSame([got, length, code], [status, 0, 0], `${status} without content`);
  }
  const cookie = ['a=1', 'b=2', 'c=3'];
  const { headers } = JSON.parse((await client.get('/digest', { cookie, ':authority': 'app.test' })).text);
  t.equal(headers.cookie, 'a=1; b=2; c=3', 'cookie crumbs');
  t.equal(headers[':authority'] ?? headers.host, 'app.test');
  await expectations(t, client);
}

/** `Expect: 100-continue`, with a server that wants the body and one that does not. */
async function expectations(t: Test, client: H2Client): Promise<void> {
  for (const early of [0, 417]) {
    const fields = { ':method': 'POST', expect: '100-continue' };
    const stream = client.open(`/digest?early=${early}`, fields);
    let continues = 0;
    stream.on('continue', () => {
      continues++;
      stream.end('welcome');
    });
    const { status, text } = await answerOf(stream);
    const length = early === 0 ? JSON.parse(text).length : 0;
    const right = early === 0 ? [1, 200, 7] : [0, 417, 0];
    t.strictSame([continues, status, length], right, `Expect, answered ${status}`);
  }
}

/** What is said comes back while both sides of a CONNECT are open. */
export async function exerciseConnect(
  t: Test,
  client: H2Client,
  heads: readonly Record<string, string>[],
): Promise<void> {
  for (const head of heads) {
    const stream = client.session.request(head);
    const answered = answerOf(stream);
    await once(stream, 'response');
    for (let n = 0; n < 3; n++) {
      const said = randomBytes(1_000);
      stream.write(said);
      const [heard] = await once(stream, 'data');
      t.same(heard, said, 'what is said comes back while both sides are open');
    }
    stream.end();
    const { status, length, code } = await answered;
    t.strictSame([status, length, code], [200, 3_000, 0]);
  }
}
