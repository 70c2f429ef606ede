/** Clients that never come to the point are cut by a deadline, however many they are; those that drip cost little. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { until } from '../support/engine.ts';
import { dial } from '../support/engine-peers.ts';
import { OPENING, Recorder, startBoth, talk } from '../support/http-corpus-rig.ts';

/** Of the proxy, in ms: a head is due by then. */
const HEAD_MS = 10_000;

/** Timers tick coarsely, and other tests run beside. */
const PATIENCE_MS = 25_000;

const STALLED: readonly (readonly [string, string, string | undefined])[] = [
  ['in the method', 'GE', undefined],
  ['in the target', 'GET /a', undefined],
  ['before the line end', 'GET / HTTP/1.1\r', undefined],
  ['behind the request line', 'GET / HTTP/1.1\r\n', undefined],
  ['in a field', 'GET / HTTP/1.1\r\nHost: sh', undefined],
  ['before the blank line', 'GET / HTTP/1.1\r\nHost: shop\r\n', undefined],
  ['in the method of the second request', 'GE', OPENING],
  ['in a field of the second request', 'GET / HTTP/1.1\r\nHost: sh', OPENING],
];

/** Clients that have sent this much of a head each, and no more. */
const CROWD = 300;
const CROWD_HEAD_BYTES = 30_000;

t.test('heads that are never whole', async (t) => {
  const recorder = await Recorder.start(t);
  const { proxy, outbound, inbound } = await startBoth(t, recorder.address);
  const memory = proxy.anonymousBytes();
  const begun = performance.now();
  const few = [outbound, inbound].flatMap((address) =>
    STALLED.map(async ([where, text, opening]) => {
      const { statuses, closed } = await talk(address, text, { opening, patienceMs: PATIENCE_MS });
      const tookMs = performance.now() - begun;
      const wanted = opening === undefined ? [408] : [200, 408];
      t.strictSame({ statuses, closed }, { statuses: wanted, closed: true }, `stalled ${where}`);
      t.ok(tookMs > HEAD_MS * 0.9 && tookMs < HEAD_MS * 2, `stalled ${where}: ${Math.round(tookMs)} ms`);
    }),
  );
  const head = `GET / HTTP/1.1\r\nHost: shop\r\nX-A: ${'a'.repeat(CROWD_HEAD_BYTES)}`;
  const crowd = Array.from({ length: CROWD }, () => talk(outbound, head, { patienceMs: PATIENCE_MS }));
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, proxy.anonymousBytes() - memory);
  }, 100);
  t.teardown(() => clearInterval(watch));
  await proxy.until('tcp_open_connections', { peer: 'src' }, (open) => open >= CROWD);
  t.strictSame((await talk(outbound, OPENING, { end: true })).statuses, [200], 'others are served meanwhile');
  const ends = await Promise.all(crowd);
  clearInterval(watch);
  // On top of the heads comes what growing them has left to the garbage collector.
  t.ok(most > CROWD * CROWD_HEAD_BYTES * 0.5, `${most} bytes at the most: the heads were there`);
  t.ok(most < CROWD * CROWD_HEAD_BYTES * 10, `${most} bytes at the most for ${CROWD} heads`);
  t.equal(ends.filter(({ statuses, closed }) => closed && statuses[0] === 408).length, CROWD);
  await Promise.all(few);
  t.equal(recorder.text, '', 'nothing of it reached the server');
  await proxy.until('tcp_open_connections', { peer: 'src' }, (open) => open === 0);
});

/** Pieces of a head, sent a moment apart, by so many clients at once that what reading costs is more than a tick of the clock. */
const PIECES = 1_000;
const DRIPPING = 20;

t.test('a head in many pieces', async (t) => {
  const recorder = await Recorder.start(t);
  const { proxy, outbound } = await startBoth(t, recorder.address);
  const drip = async (bytes: number) => {
    const client = await dial(t, outbound, { noDelay: true });
    const text = `GET /opening HTTP/1.1\r\nHost: shop\r\nX-A: ${'a'.repeat(bytes)}\r\n\r\n`;
    const piece = Math.ceil(text.length / PIECES);
    for (let at = 0; at < text.length; at += piece) {
      client.socket.write(text.slice(at, at + piece));
      // What is dripped has a rhythm: without it all arrives as one.
      await sleep(1);
    }
    await until(() => client.text.startsWith('HTTP/1.1 200 OK\r\n'), 'the answer');
    client.socket.destroy();
  };
  const costOf = async (bytes: number) => {
    const before = proxy.cpuSeconds();
    await Promise.all(Array.from({ length: DRIPPING }, () => drip(bytes)));
    return proxy.cpuSeconds() - before;
  };
  await costOf(PIECES);
  const [short, long] = [await costOf(PIECES), await costOf(60_000)];
  // Parsed from the beginning with each piece, it would be 600 MB: many times the short one.
  t.ok(long < 2 * short + 0.3, `${PIECES} pieces of 60 KB cost ${long} s, those of 1 KB ${short} s`);
});
