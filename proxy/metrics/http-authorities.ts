/** The HTTP series of one destination by authority, found from the bytes of a request without a string. */
import type { Labels } from '../model/target.ts';
import type { Histogram } from './histogram.ts';
import { HttpSeries } from './http.ts';
import type { MetricsSlab } from './slab.ts';

/**
 * Authorities of one destination that are told apart. The client chooses them, and each takes 30 to 90 slots; a service is called by a
 * few names, a gateway for virtual hosts by some dozens. The others share the series with `overflow="true"` in place of an
 * authority until `sweep` makes room.
 */
export const MAX_AUTHORITIES = 100;

/** Longest authority that becomes a label: a DNS name of at most 253 characters, a colon and a port. */
const MAX_AUTHORITY_BYTES = 259;

interface Entry {
  /** In lower case. */
  readonly bytes: Uint8Array;
  readonly hash: number;
  readonly series: HttpSeries;
  /** The next one of the same hash. */
  next: Entry | undefined;
  /** Whether it was asked for since the last sweep. */
  asked: boolean;
}

/** Series by authority. */
export class HttpAuthorities {
  private readonly slab: MetricsSlab;
  private readonly labels: Labels;
  private readonly fine: Histogram;
  private readonly byHash = new Map<number, Entry>();
  private count = 0;
  /** The one asked for last, which the next request most likely names too. */
  private last: Entry | undefined;
  private overflow: HttpSeries | undefined;

  /**
   * @param labels of the destination, without an authority
   * @param fine latency of the whole target; see `HttpSeries`
   */
  constructor(slab: MetricsSlab, labels: Labels, fine: Histogram) {
    this.slab = slab;
    this.labels = labels;
    this.fine = fine;
    slab.retain(fine.slot);
  }

  /** The series of the authority in `bytes` from `from` to `to`, in any case; an empty one has a series too. Held by its requests. */
  of(bytes: Uint8Array, from: number, to: number): HttpSeries {
    let entry = this.last;
    if (entry === undefined || !sameAuthority(entry.bytes, bytes, from, to)) {
      const hash = hashOf(bytes, from, to);
      entry = this.byHash.get(hash);
      while (entry !== undefined && !sameAuthority(entry.bytes, bytes, from, to)) entry = entry.next;
      entry ??= this.open(hash, bytes, from, to);
      if (entry === undefined) return this.overflowSeries();
      this.last = entry;
    }
    entry.asked = true;
    return entry.series;
  }

  /**
   * Lets authorities go that were not asked for since the last call; call it about once a minute. The slab keeps their series for
   * as long as any idle one: who returns before that continues its counters.
   */
  sweep(): void {
    const entries = this.entries();
    this.byHash.clear();
    this.last = undefined;
    this.count = 0;
    for (const entry of entries) {
      if (!entry.asked) {
        entry.series.release();
        continue;
      }
      entry.asked = false;
      this.add(entry);
    }
  }

  /** The destination goes. Requests under way keep what they use. */
  release(): void {
    for (const { series } of this.entries()) series.release();
    this.overflow?.release();
    this.slab.release(this.fine.slot);
  }

  private open(hash: number, bytes: Uint8Array, from: number, to: number): Entry | undefined {
    if (this.count >= MAX_AUTHORITIES || to - from > MAX_AUTHORITY_BYTES) return undefined;
    const copy = bytes.subarray(from, to).map(lower);
    const labels = { ...this.labels, authority: Buffer.from(copy).toString('latin1') };
    const series = new HttpSeries(this.slab, labels, this.fine);
    const entry: Entry = { bytes: copy, hash, series, next: undefined, asked: true };
    this.add(entry);
    return entry;
  }

  private add(entry: Entry): void {
    entry.next = this.byHash.get(entry.hash);
    this.byHash.set(entry.hash, entry);
    this.count++;
  }

  private overflowSeries(): HttpSeries {
    this.slab.overflowed();
    this.overflow ??= new HttpSeries(this.slab, { ...this.labels, overflow: 'true' }, this.fine);
    return this.overflow;
  }

  private entries(): Entry[] {
    const all: Entry[] = [];
    for (const first of this.byHash.values()) {
      for (let entry: Entry | undefined = first; entry !== undefined; entry = entry.next) all.push(entry);
    }
    return all;
  }
}

/** Four bytes at a time as long as the case is the same too, which takes half the time. */
function sameAuthority(known: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean {
  const { length } = known;
  if (length !== to - from) return false;
  let index = 0;
  for (; index + 4 <= length; index += 4) {
    const at = from + index;
    const differs =
      (known[index] ^ bytes[at]) |
      (known[index + 1] ^ bytes[at + 1]) |
      (known[index + 2] ^ bytes[at + 2]) |
      (known[index + 3] ^ bytes[at + 3]);
    if (differs !== 0) break;
  }
  for (; index < length; index++) {
    if (known[index] !== lower(bytes[from + index])) return false;
  }
  return true;
}

/** FNV-1a. Clients may seek collisions: a chain has at most MAX_AUTHORITIES entries. */
function hashOf(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0x811c9dc5;
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ lower(bytes[at]), 0x01000193);
  // Thirty bits stay a small integer, which a Map finds without boxing.
  return (hash ^ (hash >>> 15)) & 0x3fffffff;
}

function lower(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte;
}
