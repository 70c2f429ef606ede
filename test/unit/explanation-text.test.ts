/** What `ferrule explain` prints. */
import t from 'tap';
import { renderExplanation, renderLatest } from '../../proxy/cli/explanation-text.ts';
import type { ExplainedAttempt, Explanation } from '../../proxy/model/explanation.ts';
import type { PickReason } from '../../proxy/model/pick.ts';
import { explanationOf } from '../support/explanations.ts';

const lines = (text: string) => text.split('\n');

/** The first line, without id and request. */
const ending = (own: Partial<Explanation>) =>
  lines(renderExplanation(explanationOf(own)))[0].replace('0-17  GET payments.default/orders/17: ', '');

t.test('a request that was tried twice', async (t) => {
  t.strictSame(lines(renderExplanation(explanationOf())), [
    '0-17  GET payments.default/orders/17: answered 200 after 31.3 ms',
    '',
    'client      127.0.0.1:50322',
    'target      payments.default:80 (outbound)',
    'began       2026-11-21 14:02:11.123 UTC',
    'protocol    HTTP/1, found 0.31 ms after the connection was accepted',
    '',
    'attempt 1   10.0.0.1:8080 (HTTP/1, new connection): not reached: ECONNREFUSED',
    '            chosen: of two drawn it has less load, and their times differ by more than twice',
    '               compared       in flight  EWMA ms  load',
    '               10.0.0.2:8080          5     40.1   241',
    '            →  10.0.0.1:8080          3     12.0  48.0',
    'attempt 2   10.0.0.2:8080 (HTTP/2, kept connection, 7 requests before): answered',
    '            had to prove to be spiffe://cluster.local/ns/default/sa/payments',
    '            chosen: the least loaded of those not tried yet; what failed a moment ago comes last',
    '               compared       in flight  EWMA ms  load',
    '            →  10.0.0.2:8080          5     40.1   241',
    '',
    'timeline     0.00 ms  the head of the request was complete',
    '             0.04 ms  attempt 1, 10.0.0.1:8080',
    '             1.50 ms  attempt 2, 10.0.0.2:8080',
    '             1.52 ms  sent, for the last time',
    '            30.90 ms  the head of the response came',
    '            31.25 ms  the end',
    '',
  ]);
});

t.test('a gRPC call says when it was due, and its own status', async (t) => {
  const call = explanationOf({
    detection: { protocol: 'h2', afterMs: 0.312 },
    deadlineMs: 200,
    outcome: 'refused',
    grpcStatus: 'DEADLINE_EXCEEDED',
  });
  const text = lines(renderExplanation(call));
  t.equal(text[0].split(': ')[1], 'the proxy itself answered 200, gRPC DEADLINE_EXCEEDED after 31.3 ms');
  t.ok(text.includes('deadline    200 ms after it began (grpc-timeout)'), text.join('\n'));
  t.ok(text.includes('protocol    HTTP/2, found 0.31 ms after the connection was accepted'), text.join('\n'));
  t.match(renderLatest([call]), / {2}DEADLINE_EXCEEDED refused {2}/);
});

t.test('a refusal says what spoke, and where it is counted', async (t) => {
  const text = renderExplanation(
    explanationOf({
      direction: 'inbound',
      request: { method: '', path: '', authority: '' },
      outcome: 'refused',
      status: 408,
      error: 'timeout',
      message: 'no complete request head within 10 s',
      target: '',
      detection: { protocol: 'http/1', afterMs: -0.5 },
      attempts: [],
      sentAfterMs: undefined,
      answeredAfterMs: undefined,
    }),
  );
  t.strictSame(lines(text), [
    '0-17  not readable as a request: the proxy itself answered 408 after 31.3 ms',
    '',
    'why         no complete request head within 10 s',
    'counted     in inbound_http_errors_total{error="timeout"}',
    'client      127.0.0.1:50322, without an identity',
    'target      unknown (inbound)',
    'began       2026-11-21 14:02:11.123 UTC',
    'protocol    HTTP/1',
    '',
    'attempts    none: it was given to no endpoint',
    '',
    'timeline     0.00 ms  it was clear that this is no request',
    '            31.25 ms  the end',
    '',
  ]);
});

t.test('every ending has its words', async (t) => {
  t.equal(ending({ outcome: 'refused', status: undefined }), 'refused after 31.3 ms');
  t.equal(ending({ outcome: 'broken off' }), 'broken off in the middle of its response (200) after 31.3 ms');
  t.equal(
    ending({ outcome: 'client left' }),
    'the client left after 31.3 ms, in the middle of its response (200)',
  );
  t.equal(
    ending({ outcome: 'client left', status: undefined, endedAfterMs: 1234.5 }),
    'the client left after 1235 ms',
  );
  const underWay = { outcome: 'under way', endedAfterMs: undefined } as const;
  t.equal(ending(underWay), 'under way, 200 so far');
  t.equal(ending({ ...underWay, status: undefined }), 'under way');
});

t.test('every reason and outcome is explained in words', async (t) => {
  const reasons: readonly PickReason[] = [
    ...(['none', 'only', 'turn', 'drawn', 'in-flight'] as const),
    ...(['load', 'failed', 'new', 'zone', 'rest'] as const),
  ];
  const seen = new Set<string>();
  const base = explanationOf().attempts[0];
  for (const reason of reasons) {
    const text = renderExplanation(
      explanationOf({ attempts: [{ ...base, choice: { reason, compared: [] } }] }),
    );
    const words = /chosen: (.*)/.exec(text)?.[1] ?? '';
    t.ok(words.split(' ').length >= 5, `${reason}: ${words}`);
    t.notMatch(text, 'compared ', 'no table of nothing');
    seen.add(words);
  }
  t.equal(seen.size, reasons.length, 'all different');
  const outcomes: readonly (readonly [ExplainedAttempt['outcome'], string, string])[] = [
    ['under way', 'under way', 'under way: ECONNRESET'],
    ['not reached', 'not reached', 'not reached: ECONNRESET'],
    ['lost', 'lost', 'ECONNRESET'],
    [
      'not understood',
      'its answer could not be understood',
      'its answer could not be understood: ECONNRESET',
    ],
  ];
  for (const [outcome, without, withReason] of outcomes) {
    // A reason may name the endpoint, which is there already.
    for (const detail of [undefined, 'ECONNRESET', '10.0.0.1:8080: ECONNRESET']) {
      const text = renderExplanation(explanationOf({ attempts: [{ ...base, outcome, detail }] }));
      const words = detail === undefined ? without : withReason;
      t.match(text, `attempt 1   10.0.0.1:8080 (HTTP/1, new connection): ${words}\n`);
    }
  }
});

t.test('long reasons are wrapped in the account and cut in the table', async (t) => {
  const own = explanationOf({ outcome: 'refused', message: 'word '.repeat(40) });
  const account = lines(renderExplanation(own));
  t.ok(account.every((line) => line.length <= 100));
  t.equal(account.filter((line) => /^ {12}word/.test(line)).length, 2, 'it goes on in the second column');
  t.match(lines(renderLatest([own]))[1], /word…$/);
});

t.test('candidates of other zones, times that are assumed, and policies without times', async (t) => {
  const [base] = explanationOf().attempts;
  const near = { address: '10.0.0.2:8080', inFlight: 0, measured: true, load: 1 };
  const far = { address: '10.0.0.1:8080', inFlight: 0, ewmaMs: 30, measured: false, load: 30 };
  const choice = { reason: 'zone', compared: [near], elsewhere: far } as const;
  const text = lines(renderExplanation(explanationOf({ attempts: [{ ...base, choice }] })));
  const at = text.findIndex((line) => line.includes('compared'));
  t.strictSame(text.slice(at, at + 3), [
    '               compared       in flight  EWMA ms  load',
    '               10.0.0.2:8080          0        -  1.00',
    '            →  10.0.0.1:8080          0     30.0  30.0  of another zone; time assumed: none was measured yet',
  ]);
});

t.test('attempts that were not kept are counted', async (t) => {
  const text = renderExplanation(explanationOf({ attemptsLeftOut: 3 }));
  t.match(text, '\n            (3 more, not kept, came between)\nattempt 5   10.0.0.2:8080 (HTTP/2, kept');
  t.match(text, ' 1.50 ms  attempt 5, 10.0.0.2:8080');
});

t.test('nothing from outside reaches the terminal as a command', async (t) => {
  const evil = '\x1b[2J\x9b31m\r\n';
  const own = { message: `server ${evil}`, request: { method: 'GET', path: `/${evil}`, authority: evil } };
  for (const text of [renderExplanation(explanationOf(own)), renderLatest([explanationOf(own)])]) {
    t.notMatch(text.replaceAll('\n', ''), /\p{Cc}/u);
    t.match(text, '?[2J?31m??');
  }
  t.equal(lines(renderLatest([explanationOf(own)])).length, 3, 'and makes no line of its own');
});

t.test('the table: one line a request', async (t) => {
  t.equal(renderLatest([]), 'no HTTP request has come yet\n');
  const long = { method: 'DELETE', authority: 'payments.default', path: `/${'x'.repeat(60)}` };
  const table = renderLatest([
    explanationOf({ id: '1-4567', status: undefined, outcome: 'client left', request: long }),
    explanationOf({ id: '0-18', status: 503, outcome: 'refused', message: 'no endpoint', attempts: [] }),
    explanationOf({ attemptsLeftOut: 1, direction: 'inbound' }),
    explanationOf({ id: '0-16', attempts: explanationOf().attempts.slice(1), endedAfterMs: 0.456 }),
  ]);
  t.strictSame(lines(table), [
    'ID      TIME (UTC)    DIRECTION  REQUEST                                   STATUS         MS  ENDPOINT       NOTE',
    `1-4567  14:02:11.123  outbound   DELETE payments.default/${'x'.repeat(15)}…  client left  31.3  10.0.0.2:8080  2 attempts`,
    '0-18    14:02:11.123  outbound   GET payments.default/orders/17            503 refused  31.3                 no endpoint',
    '0-17    14:02:11.123  inbound    GET payments.default/orders/17            200          31.3  10.0.0.2:8080  3 attempts',
    '0-16    14:02:11.123  outbound   GET payments.default/orders/17            200          0.46  10.0.0.2:8080',
    '',
  ]);
});
