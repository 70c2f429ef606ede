/** Spoiled streams of pipelined requests through the whole proxy: it neither fails nor hangs, and nothing of them stays. */
import t from 'tap';
import { Random } from '../fuzz/model.ts';
import { forAll, opensAsHttp, startBoth, startMultiplexed, talk } from '../support/http-corpus-rig.ts';
import { startNode } from '../support/http-corpus-servers.ts';

const ROUNDS = process.env.FERRULE_SOAK === '1' ? 20_000 : 2_000;

const PARTS: readonly string[] = [
  'GET /a HTTP/1.1\r\nHost: shop\r\n\r\n',
  'POST /b HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello',
  'POST /c HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: u\r\n\r\n',
  'HEAD /d HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, x-a\r\nX-A: b\r\n\r\n',
  'PUT /e HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc',
  'GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
  'GET http://shop/g HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n',
  'CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n',
];

const SPICE: readonly string[] = [
  '\r',
  '\n',
  '\r\n',
  '\0',
  ' ',
  '\t',
  ':',
  ',',
  ';',
  '0',
  'f',
  '-',
  '\xff',
  '%2e',
];

/** A stream of its own for each seed. */
function spoiled(seed: number): string {
  const random = new Random(seed);
  const below = (limit: number) => random.int(limit);
  let text = '';
  for (let left = 1 + below(5); left > 0; left--) text += PARTS[below(PARTS.length)];
  // Behind the first line, or all is opaque.
  const first = text.indexOf('\n') + 1;
  for (let left = below(4); left > 0; left--) {
    const at = first + below(text.length - first);
    const length = below(2) === 0 ? 0 : below(12);
    const added = below(3) === 0 ? '' : SPICE[below(SPICE.length)];
    text = text.slice(0, at) + added + text.slice(at + length);
  }
  return text;
}

t.test('streams with a few bytes changed', async (t) => {
  const server = await startNode(t);
  const { proxy, outbound, inbound } = await startBoth(t, server.address);
  const shared = await startMultiplexed(t, server.address);
  const ways = [outbound, inbound, shared.address];
  const open: number[] = [];
  const statuses = new Map<number, number>();
  const seeds = Array.from({ length: ROUNDS }, (_, n) => 20_261_121 + n);
  await forAll(seeds, async (seed) => {
    const text = spoiled(seed);
    if (!opensAsHttp(text)) return;
    const end = seed % 4 !== 0;
    const answer = await talk(ways[seed % ways.length], text, {
      end,
      patienceMs: end ? 5_000 : 50,
    });
    if (end && !answer.closed) open.push(seed);
    for (const status of answer.statuses) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  });
  t.strictSame(open, [], 'whoever has ended is told so');
  t.comment([...statuses].map((pair) => pair.join(': ')).join(', '));
  for (const status of [200, 400]) t.ok((statuses.get(status) ?? 0) > ROUNDS / 20, `some are ${status}`);
  for (const each of [proxy, shared.proxy, shared.inner]) {
    t.equal(await each.sum('ferrule_worker_restarts_total'), 0);
    t.notMatch(each.said(), /TypeError|RangeError|uncaught|assert/i);
  }
  server.close();
  await proxy.idle();
});
