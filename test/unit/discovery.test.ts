import t from 'tap';
import { Discovery } from '../../proxy/control/discovery.ts';
import type { DiscoverySource, SourceHealth } from '../../proxy/control/source.ts';
import type { TargetKey, TargetSnapshot } from '../../proxy/model/target.ts';

const UNKNOWN: TargetSnapshot = { kind: 'unknown' };
const endpoint = (ip: string): TargetSnapshot => ({
  kind: 'endpoint',
  endpoint: { ip, port: 80, weight: 1, labels: {} },
});

/** A source that says what a test tells it to. */
class ScriptedSource implements DiscoverySource {
  readonly name: string;
  health: SourceHealth = { synced: false, lastGoodMs: undefined, error: undefined };
  started = false;
  closed = false;
  readonly watches = new Map<TargetKey, Set<(snapshot: TargetSnapshot) => void>>();
  private readonly answers = new Map<TargetKey, TargetSnapshot>();
  private readonly listeners: (() => void)[] = [];

  constructor(name: string) {
    this.name = name;
  }

  watch(target: TargetKey, onAnswer: (snapshot: TargetSnapshot) => void): () => void {
    const watchers = this.watches.get(target) ?? new Set();
    this.watches.set(target, watchers.add(onAnswer));
    const answer = this.answers.get(target);
    if (answer !== undefined) onAnswer(answer);
    return () => void watchers.delete(onAnswer);
  }

  say(target: TargetKey, answer: TargetSnapshot): void {
    this.answers.set(target, answer);
    for (const onAnswer of this.watches.get(target) ?? []) onAnswer(answer);
  }

  watchers(target: TargetKey): number {
    return this.watches.get(target)?.size ?? 0;
  }

  report(health: Partial<SourceHealth>): void {
    this.health = { ...this.health, ...health };
    for (const listener of this.listeners) listener();
  }

  onHealth(listener: () => void): void {
    this.listeners.push(listener);
  }

  async start(): Promise<void> {
    this.started = true;
  }

  close(): void {
    this.closed = true;
  }
}

/** Answers in the order they came. */
function record(): { answers: TargetSnapshot[]; onAnswer: (snapshot: TargetSnapshot) => void } {
  const answers: TargetSnapshot[] = [];
  return { answers, onAnswer: (snapshot) => void answers.push(snapshot) };
}

t.test('without sources everything is unknown at once', async (t) => {
  const discovery = new Discovery([]);
  const { answers, onAnswer } = record();
  discovery.watch('10.0.0.1:80', onAnswer);
  t.same(answers, [UNKNOWN]);
  t.ok(discovery.synced);
});

t.test('the first source that knows answers; unknown needs every word', async (t) => {
  const [first, second] = [new ScriptedSource('first'), new ScriptedSource('second')];
  const discovery = new Discovery([first, second]);
  const { answers, onAnswer } = record();
  discovery.watch('x:80', onAnswer);
  second.say('x:80', endpoint('10.0.0.2'));
  t.same(answers, [], 'the second is not heard before the first has spoken');
  first.say('x:80', UNKNOWN);
  t.same(answers, [endpoint('10.0.0.2')]);
  second.say('x:80', UNKNOWN);
  t.same(answers.slice(1), [UNKNOWN], 'both know nothing');
  first.say('x:80', endpoint('10.0.0.1'));
  second.say('x:80', endpoint('10.0.0.3'));
  t.same(answers.slice(2), [endpoint('10.0.0.1')], 'the first goes before the second');
  first.say('x:80', UNKNOWN);
  t.same(answers.slice(3), [endpoint('10.0.0.3')], 'and back');
});

t.test('a source is spared what one before it answers', async (t) => {
  const [first, second] = [new ScriptedSource('first'), new ScriptedSource('second')];
  first.say('x:80', endpoint('10.0.0.1'));
  const { answers, onAnswer } = record();
  new Discovery([first, second]).watch('x:80', onAnswer);
  t.same(answers, [endpoint('10.0.0.1')], 'answered before watch returned');
  t.equal(second.watchers('x:80'), 0);
});

t.test('callbacks come on change only', async (t) => {
  const source = new ScriptedSource('only');
  const { answers, onAnswer } = record();
  new Discovery([source]).watch('x:80', onAnswer);
  source.say('x:80', endpoint('10.0.0.1'));
  source.say('x:80', endpoint('10.0.0.1'));
  source.say('x:80', endpoint('10.0.0.2'));
  t.same(answers, [endpoint('10.0.0.1'), endpoint('10.0.0.2')]);
});

t.test('watchers of one target share one watch, which ends with the last of them', async (t) => {
  const source = new ScriptedSource('only');
  const discovery = new Discovery([source]);
  const [one, two, three] = [record(), record(), record()];
  const unwatchOne = discovery.watch('x:80', one.onAnswer);
  const unwatchTwo = discovery.watch('x:80', two.onAnswer);
  t.equal(source.watchers('x:80'), 1);
  source.say('x:80', endpoint('10.0.0.1'));
  const unwatchThree = discovery.watch('x:80', three.onAnswer);
  t.same(
    [one.answers.length, two.answers.length, three.answers.length],
    [1, 1, 1],
    'a late one is told at once',
  );
  unwatchOne();
  unwatchOne();
  source.say('x:80', endpoint('10.0.0.2'));
  t.same([one.answers.length, two.answers.length, three.answers.length], [1, 2, 2]);
  unwatchTwo();
  unwatchThree();
  t.equal(source.watchers('x:80'), 0, 'the source is let go');
  const again = record();
  discovery.watch('x:80', again.onAnswer);
  t.same(again.answers, [endpoint('10.0.0.2')], 'and asked anew');
  unwatchThree();
  t.equal(source.watchers('x:80'), 1, 'a stale unwatch does not end the new watch');
});

t.test('watching and giving up within a callback', async (t) => {
  const source = new ScriptedSource('only');
  const discovery = new Discovery([source]);
  const [gone, added] = [record(), record()];
  let unwatch = (): void => undefined;
  discovery.watch('x:80', () => {
    unwatch();
    discovery.watch('x:80', added.onAnswer);
  });
  unwatch = discovery.watch('x:80', gone.onAnswer);
  source.say('x:80', endpoint('10.0.0.1'));
  t.same(gone.answers, [], 'who gave up is not called');
  t.same(added.answers, [endpoint('10.0.0.1')], 'who came is called once');
});

t.test('health, start and close', async (t) => {
  const [first, second] = [new ScriptedSource('first'), new ScriptedSource('second')];
  const discovery = new Discovery([first, second]);
  let changes = 0;
  discovery.onHealth(() => changes++);
  await discovery.start();
  t.ok(first.started && second.started);
  first.report({ synced: true, lastGoodMs: 1 });
  t.notOk(discovery.synced);
  second.report({ synced: true, error: 'stale' });
  t.ok(discovery.synced);
  t.equal(changes, 2);
  t.same(discovery.health(), [
    { name: 'first', health: { synced: true, lastGoodMs: 1, error: undefined } },
    { name: 'second', health: { synced: true, lastGoodMs: undefined, error: 'stale' } },
  ]);
  const { answers, onAnswer } = record();
  discovery.watch('x:80', onAnswer);
  discovery.close();
  first.say('x:80', endpoint('10.0.0.1'));
  discovery.watch('y:80', onAnswer);
  t.ok(first.closed && second.closed);
  t.same(answers, [], 'nobody is called after close');
});
