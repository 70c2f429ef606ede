/** Records of decisions: what they say, how many there are, and that nothing of an older one is left in a newer. */
import t from 'tap';
import type { PeerAddress } from '../../proxy/core/address.ts';
import { Decisions } from '../../proxy/forward/decisions.ts';
import { explain } from '../../proxy/forward/explanation.ts';
import { H2Head, readRequest } from '../../proxy/http/h2/head.ts';
import { fieldOf } from '../../proxy/http/h2/interning.ts';
import { Head } from '../../proxy/http/head.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { ProxyConnection } from '../../proxy/model/connection.ts';
import type { Decision } from '../../proxy/model/decision.ts';
import { PickRecord } from '../../proxy/model/pick.ts';
import { createEndpoint } from '../support/balance.ts';
import { at } from '../support/engine.ts';

function makeConnection(): ProxyConnection {
  const connection = new ProxyConnection('outbound', 1, at('127.0.0.1:1000') as PeerAddress, undefined);
  connection.target = { key: 'api.default:80', users: 1 };
  connection.detectedAfterMs = 1.25;
  return connection;
}

function makeEndpoint(ip: string) {
  return createEndpoint({ ip, port: 80, weight: 1, labels: {} });
}

function h2HeadOf(authority: string, path: string): H2Head {
  const head = new H2Head();
  const fields = { ':method': 'GET', ':scheme': 'http', ':authority': authority, ':path': path };
  for (const [name, value] of Object.entries(fields)) head.fields.push(fieldOf(name, value));
  if (readRequest(head) !== 0) throw new Error(`no head: ${path}`);
  return head;
}

function headOf(text: string): Head {
  const head = new Head();
  const bytes = Buffer.from(text, 'latin1');
  if (readRequestHead(head, bytes, 0, bytes.length) <= 0) throw new Error(`no head: ${text}`);
  return head;
}

const GET = 'GET /cart/1?token=secret HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n';

function finish(decisions: Decisions, decision: Decision, outcome: Decision['outcome'], status = 200): void {
  decision.outcome = outcome;
  decision.status = status;
  decisions.end(decision);
}

t.test('a request with two attempts', async (t) => {
  const decisions = new Decisions(3);
  const decision = decisions.begin(makeConnection(), headOf(GET), 100);
  const [first, second] = [makeEndpoint('10.0.0.1'), makeEndpoint('10.0.0.2')];
  const pick = new PickRecord();
  pick.reason = 'load';
  Object.assign(pick.first, { endpoint: first, load: 4, timeMs: 2, measured: true, inFlight: 1 });
  Object.assign(pick.second, { endpoint: second, load: 90.0004, timeMs: 30, measured: false, inFlight: 2 });
  decision.attempt(first, pick, true, 7, 100);
  decision.attempted('lost', 'it closed');
  pick.clear();
  pick.reason = 'rest';
  Object.assign(pick.first, { endpoint: second, load: 1, timeMs: Number.NaN, measured: false, inFlight: 0 });
  decision.attempt(second, pick, false, -1, 100.5);
  decision.sentMs = 101;
  decision.attempted('answered', '');
  decision.answeredMs = 103;
  decision.endedMs = 104.5;
  finish(decisions, decision, 'answered');
  const explanation = JSON.parse(JSON.stringify(explain(decision, decisions.idOf(decision))));
  t.ok(Math.abs(Date.parse(explanation.startedAt) - performance.timeOrigin - 100) < 2);
  delete explanation.startedAt;
  t.strictSame(explanation, {
    id: '3-1',
    direction: 'outbound',
    client: '127.0.0.1:1000',
    target: 'api.default:80',
    detection: { protocol: 'http/1', afterMs: 1.25 },
    request: { method: 'GET', path: '/cart/1', authority: 'Shop.example:8080' },
    outcome: 'answered',
    status: 200,
    attempts: [
      {
        endpoint: '10.0.0.1:80',
        afterMs: 0,
        protocol: 'h2',
        connection: 'kept',
        served: 7,
        outcome: 'lost',
        detail: 'it closed',
        choice: {
          reason: 'load',
          compared: [
            { address: '10.0.0.1:80', inFlight: 1, ewmaMs: 2, measured: true, load: 4 },
            { address: '10.0.0.2:80', inFlight: 2, ewmaMs: 30, measured: false, load: 90 },
          ],
        },
      },
      {
        endpoint: '10.0.0.2:80',
        afterMs: 0.5,
        protocol: 'http/1',
        connection: 'new',
        outcome: 'answered',
        choice: {
          reason: 'rest',
          compared: [{ address: '10.0.0.2:80', inFlight: 0, measured: false, load: 1 }],
        },
      },
    ],
    attemptsLeftOut: 0,
    sentAfterMs: 1,
    answeredAfterMs: 3,
    endedAfterMs: 4.5,
  });
  t.strictSame(decisions.newestFirst([]), [decision]);
});

t.test('more attempts than are kept: the first ones and the last', async (t) => {
  const decisions = new Decisions(0);
  const decision = decisions.begin(makeConnection(), headOf(GET), 0);
  for (let index = 1; index <= 9; index++) {
    decision.attempt(makeEndpoint(`10.0.0.${index}`), undefined, false, -1, index);
    decision.attempted('not reached', `reason ${index}`);
  }
  const { attempts, attemptsLeftOut } = explain(decision, '');
  t.strictSame(
    attempts.map(({ endpoint, detail, choice }) => [endpoint, detail, choice]),
    [1, 2, 3, 9].map((index) => [`10.0.0.${index}:80`, `reason ${index}`, undefined]),
  );
  t.equal(attemptsLeftOut, 5);
});

t.test('what could not be read, and long names', async (t) => {
  const decisions = new Decisions(0);
  const unread = explain(decisions.begin(makeConnection(), undefined, 5), '');
  t.strictSame(unread.request, { method: '', path: '', authority: '' });
  t.strictSame([unread.outcome, unread.status, unread.endedAfterMs], ['under way', undefined, undefined]);
  const long = `GET /${'x'.repeat(500)} HTTP/1.1\r\nHost: ${'a.'.repeat(100)}b\r\n\r\n`;
  const { request } = explain(decisions.begin(makeConnection(), headOf(long), 5), '');
  t.equal(request.authority, `${'a.'.repeat(100)}b`);
  t.equal(request.path, `/${'x'.repeat(320 - 201 - 1)}`);
  const tunnel = headOf('CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n');
  t.strictSame(explain(decisions.begin(makeConnection(), tunnel, 5), '').request, {
    method: 'CONNECT',
    path: '',
    authority: 'db:5432',
  });
});

t.test('requests of HTTP/2', async (t) => {
  const decisions = new Decisions(0);
  const long = `/${'x'.repeat(500)}`;
  const kept = [
    ['shop:80', '/cart/1', '/cart/1'],
    ['shop:80', '/cart/1?token=secret', '/cart/1'],
    ['shop:80', long, long.slice(0, 320 - 7)],
  ];
  for (const [authority, path, told] of kept) {
    const decision = decisions.begin(makeConnection(), headOf(GET), 5);
    decision.begin(1, makeConnection(), h2HeadOf(authority, path), 5);
    t.strictSame(explain(decision, '').request, { method: 'GET', path: told, authority });
    t.notMatch(Buffer.from(decision.path).toString('latin1'), 'secret', 'what is not told is not kept');
  }
});

t.test('records are used again, and nothing of the one before is left', async (t) => {
  const decisions = new Decisions(0);
  const used = new Set<Decision>();
  for (let index = 0; index < 5_000; index++) {
    const decision = decisions.begin(makeConnection(), headOf(GET), index);
    used.add(decision);
    decision.attempt(makeEndpoint('10.0.0.1'), undefined, false, -1, index);
    decision.attempted('answered', `of ${index}`);
    decision.error = 'connect';
    decision.message = 'old';
    finish(decisions, decision, 'answered');
  }
  t.equal(used.size, 257, 'the ring, and one that was under way');
  const fresh = explain(decisions.begin(makeConnection(), undefined, 5), 'x');
  t.strictSame(
    { attempts: fresh.attempts, error: fresh.error, message: fresh.message, request: fresh.request },
    { attempts: [], error: undefined, message: undefined, request: { method: '', path: '', authority: '' } },
  );
});

t.test('what is notable outlives what is usual', async (t) => {
  const decisions = new Decisions(0);
  const odd = [
    ['refused', 503],
    ['client left', 0],
    ['broken off', 200],
    ['answered', 500],
  ] as const;
  for (const [outcome, status] of odd) {
    finish(decisions, decisions.begin(makeConnection(), headOf(GET), 0), outcome, status);
  }
  const twice = decisions.begin(makeConnection(), headOf(GET), 0);
  twice.attempt(makeEndpoint('10.0.0.1'), undefined, false, -1, 0);
  twice.attempt(makeEndpoint('10.0.0.1'), undefined, false, -1, 0);
  finish(decisions, twice, 'answered');
  for (let index = 0; index < 3_000; index++) {
    finish(decisions, decisions.begin(makeConnection(), headOf(GET), 0), 'answered');
  }
  const sequences = decisions.newestFirst([]).map(({ sequence }) => sequence);
  t.strictSame(sequences.slice(-5), [5, 4, 3, 2, 1]);
  t.equal(sequences.length, 256 + 5);
  t.equal(sequences[0], 3_005, 'newest first');
});
