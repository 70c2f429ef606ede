/** Requests whose service has no endpoint: they wait, in bounds, and then fail at once. */
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import type { PeerAddress } from '../../proxy/core/address.ts';
import { Waiting } from '../../proxy/forward/waiting.ts';
import { ProxyConnection } from '../../proxy/model/connection.ts';
import type { Exchange } from '../../proxy/model/exchange.ts';
import type { EndpointPicker } from '../../proxy/model/pick.ts';
import { at } from '../support/engine.ts';

function rig(t: Test) {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const again: Exchange[] = [];
  const failed: { exchange: Exchange; status: number; reason: string; message: string }[] = [];
  let count = 0;
  const waiting = new Waiting({
    attemptAgain: (exchange) => void again.push(exchange),
    failed: (exchange, status, reason, message) => void failed.push({ exchange, status, reason, message }),
    waitingChanged: (by) => {
      count += by;
    },
  });
  return { waiting, again, failed, count: () => count };
}

function makeExchange(): Exchange {
  const connection = new ProxyConnection('outbound', 1, at('127.0.0.1:1000') as PeerAddress, undefined);
  connection.target = { key: 'api.default:80', users: 1 };
  return { connection } as Exchange;
}

function makePicker(): EndpointPicker {
  return { pick: () => undefined, pickForRequest: () => undefined, last: undefined };
}

t.test('who waits goes on in order when there are endpoints, and only those of that service', async (t) => {
  const { waiting, again, failed, count } = rig(t);
  const [picker, other] = [makePicker(), makePicker()];
  const [one, two, three] = [makeExchange(), makeExchange(), makeExchange()];
  waiting.add(one, picker);
  waiting.add(two, picker);
  waiting.add(three, other);
  t.equal(count(), 3);
  waiting.endpointsCame(picker);
  t.strictSame(again, [one, two]);
  t.equal(count(), 1);
  mock.timers.tick(2_999);
  t.equal(failed.length, 0);
  mock.timers.tick(1);
  t.strictSame(
    failed.map(({ exchange, status, reason }) => ({ same: exchange === three, status, reason })),
    [{ same: true, status: 503, reason: 'failfast' }],
  );
  t.equal(count(), 0);
});

t.test('after its time everything fails at once, until there are endpoints', async (t) => {
  const { waiting, again, failed, count } = rig(t);
  const picker = makePicker();
  waiting.add(makeExchange(), picker);
  mock.timers.tick(3_000);
  t.equal(failed.length, 1);
  waiting.add(makeExchange(), picker);
  t.equal(failed.length, 2, 'at once');
  t.equal(
    failed[1].message,
    'service api.default:80 has had no endpoints for 3 s: its requests fail at once until it has one',
  );
  waiting.endpointsCame(picker);
  waiting.add(makeExchange(), picker);
  t.equal(failed.length, 2, 'waits again');
  t.equal(count(), 1);
  waiting.endpointsCame(picker);
  t.equal(again.length, 1);
});

t.test('so many wait and no more; who leaves makes room', async (t) => {
  const { waiting, failed, count } = rig(t);
  const picker = makePicker();
  const first = makeExchange();
  waiting.add(first, picker);
  for (let index = 1; index < 1_000; index++) waiting.add(makeExchange(), picker);
  t.equal(failed.length, 0);
  waiting.add(makeExchange(), picker);
  t.match(failed, [{ status: 503, reason: 'loadshed', message: /1000 requests wait/ }]);
  waiting.remove(first);
  waiting.remove(first);
  t.equal(count(), 999);
  waiting.add(makeExchange(), picker);
  t.equal(failed.length, 1);
});

t.test('a client that left is not answered when the time is up', async (t) => {
  const { waiting, again, failed } = rig(t);
  const picker = makePicker();
  const exchange = makeExchange();
  waiting.add(exchange, picker);
  waiting.remove(exchange);
  mock.timers.tick(3_000);
  waiting.endpointsCame(picker);
  t.strictSame([again.length, failed.length], [0, 0]);
});
