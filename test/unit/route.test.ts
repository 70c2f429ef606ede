import t from 'tap';
import { Discovery } from '../../proxy/control/discovery.ts';
import { Publisher } from '../../proxy/control/publisher.ts';
import type { DiscoverySource } from '../../proxy/control/source.ts';
import { IdleCache } from '../../proxy/core/idle-cache.ts';
import type { ToWorker } from '../../proxy/model/messages.ts';
import type { TargetSnapshot } from '../../proxy/model/target.ts';

function entry(): { users: number; usedMs: number } {
  return { users: 0, usedMs: 0 };
}

t.test('the cache keeps what is in use, drops what is idle, and is bounded', async (t) => {
  const dropped: object[] = [];
  const cache = new IdleCache<string, { users: number; usedMs: number }>(2, 1_000, (gone) =>
    dropped.push(gone),
  );
  const a = cache.obtain('a', 0, entry);
  t.equal(cache.obtain('a', 10, entry), a, 'the same entry');
  t.equal(a?.usedMs, 10);
  const b = cache.obtain('b', 10, entry);
  if (a === undefined || b === undefined) throw new Error('there was room');
  a.users = 1;
  const c = cache.obtain('c', 20, entry);
  t.same(dropped, [b], 'the idle one made room');
  if (c !== undefined) c.users = 1;
  t.equal(cache.obtain('d', 30, entry), undefined, 'every place is in use');
  a.users = 0;
  cache.evict(500);
  t.equal(cache.size, 2, 'idle, but not for long');
  cache.evict(2_000);
  t.equal(cache.size, 1);
  t.equal(cache.get('a'), undefined);
  t.ok(cache.get('c'), 'in use stays for ever');
});

/** A source whose answers the test gives. */
class HandSource implements DiscoverySource {
  readonly name = 'hand';
  readonly health = { synced: true, lastGoodMs: 0, error: undefined };
  answer: ((snapshot: TargetSnapshot) => void) | undefined;
  watch(_target: string, onAnswer: (snapshot: TargetSnapshot) => void): () => void {
    this.answer = onAnswer;
    return () => {
      this.answer = undefined;
    };
  }
  onHealth(): void {
    // Its health never changes.
  }
  async start(): Promise<void> {
    // There is nothing to read.
  }
  close(): void {
    this.answer = undefined;
  }
}

function service(name: string): TargetSnapshot {
  return { kind: 'service', name, labels: {}, endpoints: [] };
}

t.test('one snapshot is under way per target, and the newest wins', async (t) => {
  const source = new HandSource();
  const sent: ToWorker[] = [];
  const publisher = new Publisher(new Discovery([source]), (message) => sent.push(message));
  publisher.lookUp('web.default:80');
  source.answer?.(service('one'));
  source.answer?.(service('two'));
  source.answer?.(service('three'));
  t.same(sent, [{ type: 'target', key: 'web.default:80', version: 1, snapshot: service('one') }]);
  publisher.applied('web.default:80', 1);
  t.same(sent.slice(1), [{ type: 'target', key: 'web.default:80', version: 2, snapshot: service('three') }]);
  publisher.applied('web.default:80', 1);
  t.equal(sent.length, 2, 'a late answer to a former version changes nothing');
  publisher.applied('web.default:80', 2);
  source.answer?.(service('four'));
  t.equal(sent.length, 3);
  publisher.release('web.default:80');
  t.equal(source.answer, undefined, 'released: nobody watches');
  publisher.applied('web.default:80', 3);
  publisher.lookUp('web.default:80');
  publisher.close();
  t.equal(source.answer, undefined, 'closed: nobody watches');
});
