/** A bounded map whose entries count their users: those in use stay, idle ones go with time or when room is needed. */

/** What the cache needs to know of an entry. */
export interface CacheEntry {
  /** Those that must not lose the entry now. */
  users: number;
  /** When it was last asked for, in ms of a monotonic clock. */
  usedMs: number;
}

/** Entries by key, at most `limit` of them. */
export class IdleCache<K, V extends CacheEntry> {
  private readonly entries = new Map<K, V>();
  private readonly limit: number;
  private readonly idleMs: number;
  private readonly dropped: (entry: V) => void;

  /**
   * @param idleMs how long an entry without users is kept
   * @param dropped called for each entry that leaves
   */
  constructor(limit: number, idleMs: number, dropped: (entry: V) => void) {
    this.limit = limit;
    this.idleMs = idleMs;
    this.dropped = dropped;
  }

  get size(): number {
    return this.entries.size;
  }

  get(key: K): V | undefined {
    return this.entries.get(key);
  }

  values(): Iterable<V> {
    return this.entries.values();
  }

  /** The entry of `key`, made by `create` when there is none; undefined when every place is taken by one in use. */
  obtain(key: K, nowMs: number, create: () => V): V | undefined {
    let entry = this.entries.get(key);
    if (entry === undefined) {
      if (this.entries.size >= this.limit && !this.dropOneIdle()) return undefined;
      entry = create();
      this.entries.set(key, entry);
    }
    entry.usedMs = nowMs;
    return entry;
  }

  /** Drops what has been idle long enough. */
  evict(nowMs: number): void {
    for (const [key, entry] of this.entries) {
      if (entry.users === 0 && nowMs - entry.usedMs >= this.idleMs) this.drop(key, entry);
    }
  }

  /** The oldest by insertion: not the least recently used one, but found without a scan of everything. */
  private dropOneIdle(): boolean {
    for (const [key, entry] of this.entries) {
      if (entry.users > 0) continue;
      this.drop(key, entry);
      return true;
    }
    return false;
  }

  private drop(key: K, entry: V): void {
    this.entries.delete(key);
    this.dropped(entry);
  }
}
