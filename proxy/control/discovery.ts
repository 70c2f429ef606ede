/**
 * Asks the configured sources in order. The first that knows a target answers; "unknown" needs the word of
 * every one. While a source has not answered, those after it are not heard: it could know that the target
 * must not be dialled in plaintext.
 */
import { isDeepStrictEqual } from 'node:util';
import type { TargetKey, TargetSnapshot } from '../model/target.ts';
import type { DiscoverySource, SourceHealth, Unwatch } from './source.ts';

const UNKNOWN: TargetSnapshot = Object.freeze({ kind: 'unknown' });

/** The health of one source. */
export interface NamedHealth {
  readonly name: string;
  readonly health: SourceHealth;
}

/** All sources as one. */
export class Discovery {
  private readonly sources: readonly DiscoverySource[];
  private readonly targets = new Map<TargetKey, TargetWatch>();
  private closed = false;

  /** In the order they are to be asked. Without any, everything is unknown at once. */
  constructor(sources: readonly DiscoverySource[]) {
    this.sources = sources;
  }

  /** True when every source has a complete first answer. */
  get synced(): boolean {
    return this.sources.every((source) => source.health.synced);
  }

  /** How each source is doing, in order. */
  health(): readonly NamedHealth[] {
    return this.sources.map(({ name, health }) => ({ name, health }));
  }

  /** Calls back whenever the health of a source changed (see `DiscoverySource.onHealth`). */
  onHealth(listener: () => void): void {
    for (const source of this.sources) source.onHealth(listener);
  }

  /**
   * Follows a target: `onAnswer` is called once an answer is there (possibly before this returns) and on each
   * change. Watchers of one target share what is asked of the sources.
   */
  watch(target: TargetKey, onAnswer: (snapshot: TargetSnapshot) => void): Unwatch {
    if (this.closed) return () => undefined;
    let entry = this.targets.get(target);
    if (entry === undefined) {
      entry = new TargetWatch(this.sources, target);
      this.targets.set(target, entry);
    }
    const shared = entry;
    const remove = shared.add(onAnswer);
    return () => {
      remove();
      if (!shared.idle || this.targets.get(target) !== shared) return;
      this.targets.delete(target);
      shared.close();
    };
  }

  /** Starts every source; resolves after the first attempt of each, good or bad. */
  async start(): Promise<void> {
    await Promise.all(this.sources.map((source) => source.start()));
  }

  /** Ends every watch and closes the sources. */
  close(): void {
    this.closed = true;
    for (const entry of this.targets.values()) entry.close();
    this.targets.clear();
    for (const source of this.sources) source.close();
  }
}

interface Subscriber {
  readonly onAnswer: (snapshot: TargetSnapshot) => void;
  last: TargetSnapshot | undefined;
}

/** One target as the sources see it. */
class TargetWatch {
  private readonly sources: readonly DiscoverySource[];
  private readonly target: TargetKey;
  /** By source; undefined where there is none yet. */
  private readonly answers: (TargetSnapshot | undefined)[] = [];
  private readonly unwatches: Unwatch[] = [];
  private readonly subscribers = new Set<Subscriber>();
  private current: TargetSnapshot | undefined;
  private asked = 0;
  private closed = false;

  constructor(sources: readonly DiscoverySource[], target: TargetKey) {
    this.sources = sources;
    this.target = target;
    this.decide();
  }

  get idle(): boolean {
    return this.subscribers.size === 0;
  }

  add(onAnswer: (snapshot: TargetSnapshot) => void): Unwatch {
    const subscriber: Subscriber = { onAnswer, last: undefined };
    this.subscribers.add(subscriber);
    this.tell(subscriber);
    return () => void this.subscribers.delete(subscriber);
  }

  close(): void {
    this.closed = true;
    this.subscribers.clear();
    for (const unwatch of this.unwatches) unwatch();
  }

  /** Settles on an answer as far as the sources allow; while they do not, the last one stays. */
  private decide(): void {
    if (this.closed) return;
    const answer = this.firstKnown();
    if (answer === undefined || answer === this.current || isDeepStrictEqual(answer, this.current)) return;
    this.current = answer;
    for (const subscriber of [...this.subscribers]) this.tell(subscriber);
  }

  /** A source is asked only once all before it know nothing: a remote one is spared what a file answers. */
  private firstKnown(): TargetSnapshot | undefined {
    for (let index = 0; index < this.sources.length; index++) {
      if (index === this.asked) this.ask(index);
      const answer = this.answers[index];
      if (answer?.kind !== 'unknown') return answer;
    }
    return UNKNOWN;
  }

  private ask(index: number): void {
    this.asked++;
    let asking = true;
    const unwatch = this.sources[index].watch(this.target, (snapshot) => {
      this.answers[index] = snapshot;
      // An answer within the call is seen by who asked.
      if (!asking) this.decide();
    });
    asking = false;
    this.unwatches.push(unwatch);
  }

  private tell(subscriber: Subscriber): void {
    const { current } = this;
    // Told before by a change that a callback caused, or gone.
    if (current === undefined || subscriber.last === current || !this.subscribers.has(subscriber)) return;
    subscriber.last = current;
    subscriber.onAnswer(current);
  }
}
