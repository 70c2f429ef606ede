/** What fuzzed connections pass on natively to those they are linked to: begun, given another number, cut off. */

import type { ConnectionId } from '../../proxy/native/engine.ts';
import type { FuzzBench, FuzzConnection, FuzzPass } from './model.ts';

/** Who was sent no more than this has not ended for being sent too much: QUEUE_LIMIT (engine.h) less what relays leave. */
const SURE_BYTES = 2_500_000;

/** `passed` has yet to say that it was cut off. */
interface Cut {
  readonly source: FuzzConnection;
  readonly to: FuzzConnection;
  readonly rest: number;
}

/** The passing of one round. */
export class FuzzPasses {
  private readonly bench: FuzzBench;
  private cuts: Cut[] = [];
  /** Cut off by the engine itself: that one of the two has ended must come in the same batch. */
  private unexplained: Pick<Cut, 'source' | 'to'>[] = [];

  constructor(bench: FuzzBench) {
    this.bench = bench;
  }

  /** Lets some connection pass on to another, or changes the number of one that does. Only between batches. */
  make(all: readonly FuzzConnection[]): void {
    const source = this.bench.random.pick(all);
    if (source?.passing !== undefined) this.change(source, source.passing);
    else if (source !== undefined) this.begin(source, all, true);
  }

  /** The same in the middle of a batch, for what follows what it told of `source`. */
  makeBehind(source: FuzzConnection, all: readonly FuzzConnection[]): void {
    if (source.passing === undefined) this.begin(source, all, false);
  }

  /**
   * Links `connection` to `id`, which is that of `other` if it means anything. That cuts off what it passes on, and
   * what another does to the same receiver. Those only between batches.
   */
  link(connection: FuzzConnection, id: ConnectionId, other?: FuzzConnection): void {
    const sources = [connection, other === connection ? undefined : other?.passedFrom];
    // Whether the operation finds it must be known then.
    if (sources.some((source) => source?.passing !== undefined) && !isSure(connection)) return;
    for (const source of sources) this.cut(source);
    this.bench.engine.link(connection.id, id);
  }

  /** Counts what `source` has passed on so far. Between batches, or when its end is told: later bytes may come in one. */
  settle(source: FuzzConnection | undefined): void {
    const passing = source?.passing;
    // One that closes reads the rest and throws it away.
    if (source === undefined || passing === undefined || source.closing) return;
    const moved = this.readBy(source) - source.read;
    if (moved >= passing.left)
      throw new Error(`${moved} of ${passing.left} bytes were passed on, and nothing told`);
    this.advance(source, passing, moved);
  }

  /** What `source` reads next is from another position, which TypeScript set. */
  rewound(source: FuzzConnection): void {
    source.passing?.to.wire.advance(0, source.read);
  }

  /**
   * Bytes at `offset` of the slab, already counted in `source.read`. When they come behind a request to pass on, they
   * are sent on and taken off its number, or do not count.
   * @throws when they were to be passed on
   */
  data(source: FuzzConnection, offset: number, length: number): void {
    const { passing, peer } = source;
    if (passing === undefined || peer === undefined) return;
    if (passing.begun) throw new Error('told of bytes that were to be passed on');
    const { to } = passing;
    if (passing.takesOff && isSure(to)) {
      const taken = Math.min(length, passing.left);
      to.wire.add(peer.stream, source.read - length, taken);
      this.bench.engine.sendRange(to.id, offset, taken);
      passing.left -= taken;
      this.bench.engine.pass(source.id, passing.left);
    }
    this.rewound(source);
    if (passing.left === 0) this.over(source, passing);
  }

  /** @throws when it is not what was to be told */
  passed(source: FuzzConnection, rest: number): void {
    const { summary } = this.bench;
    const cut = this.cuts.find((candidate) => candidate.source === source);
    if (cut !== undefined) {
      this.cuts = this.cuts.filter((other) => other !== cut);
      summary.cutPasses++;
      if (cut.rest !== rest) throw new Error(`${rest} bytes were left to pass on instead of ${cut.rest}`);
      return;
    }
    const { passing } = source;
    if (passing === undefined) throw new Error('passed on what nobody asked it to');
    const moved = passing.left - rest;
    if (moved > this.readBy(source) - source.read) throw new Error('passed on more than was read');
    if (source.closing && moved > 0) throw new Error('passed on what was to be thrown away');
    this.advance(source, passing, moved);
    this.over(source, passing);
    const { to } = passing;
    if (rest === 0) summary.passes++;
    else summary.cutPasses++;
    if (rest > 0 && !source.closing && !to.closing && !to.shut) this.unexplained.push({ source, to });
  }

  /** @throws when what `connection` passed on, or got so, ended without a word */
  gone(connection: FuzzConnection): void {
    const concerns = ({ source, to }: Pick<Cut, 'source' | 'to'>) =>
      source === connection || to === connection;
    this.unexplained = this.unexplained.filter((sides) => !concerns(sides));
    if (this.cuts.some(concerns)) throw new Error('ended, and nothing told of what was cut off');
    for (const source of [connection, connection.passedFrom]) {
      const passing = source?.passing;
      if (source === undefined || passing === undefined) continue;
      if (passing.begun) throw new Error('ended, and nothing told of what was passed on');
      this.over(source, passing);
    }
  }

  /** Between batches. @throws when the engine cut off what could have gone on */
  check(): void {
    if (this.unexplained.length > 0) throw new Error('cut off, and both sides are there');
  }

  /** The engine stops: nothing is told any more. */
  stop(all: readonly FuzzConnection[]): void {
    for (const source of all) {
      this.settle(source);
      if (source.passing !== undefined) this.over(source, source.passing);
    }
    this.cuts = [];
  }

  private begin(source: FuzzConnection, all: readonly FuzzConnection[], begun: boolean): void {
    const { engine, random } = this.bench;
    const { peer } = source;
    if (peer === undefined || !isSure(source, true)) return;
    const to = random.pick(
      all.filter((other) => other !== source && other.passedFrom === undefined && isSure(other)),
    );
    if (to === undefined) return;
    const passing = { to, left: this.length(), begun, takesOff: random.chance(50) };
    engine.link(source.id, to.id);
    engine.pass(source.id, passing.left);
    if (random.chance(70)) engine.resume(source.id);
    source.passing = passing;
    to.passedFrom = source;
    to.wire.open(peer, source.read);
    if (begun) return;
    engine.atEnd(() => {
      passing.begun = true;
    });
  }

  private change(source: FuzzConnection, passing: FuzzPass): void {
    const { engine, random } = this.bench;
    if (!isSure(source, true) || !isSure(passing.to)) return;
    this.settle(source);
    passing.left = random.chance(30) ? 0 : this.length();
    engine.pass(source.id, passing.left);
    if (passing.left === 0) this.over(source, passing);
  }

  private cut(source: FuzzConnection | undefined): void {
    const passing = source?.passing;
    if (source === undefined || passing === undefined) return;
    this.settle(source);
    this.cuts.push({ source, to: passing.to, rest: passing.left });
    this.over(source, passing);
  }

  private advance(source: FuzzConnection, passing: FuzzPass, moved: number): void {
    if (moved < 0) throw new Error(`${-moved} bytes fewer passed on than before`);
    source.read += moved;
    passing.left -= moved;
    passing.to.wire.advance(moved, source.read);
    this.bench.summary.passedBytes += moved;
  }

  private over(source: FuzzConnection, passing: FuzzPass): void {
    passing.to.wire.close(0);
    passing.to.passedFrom = undefined;
    source.passing = undefined;
  }

  private readBy({ slot, baseRead }: FuzzConnection): number {
    return this.bench.metrics[slot] - baseRead;
  }

  /** Rarely more than there will ever be, and more than 32 bits hold. */
  private length(): number {
    const { random } = this.bench;
    return random.chance(10) ? 2 ** 33 + random.length() : random.length();
  }
}

/**
 * Whether it is open for certain and what is known of it is true: nothing that was asked for can have ended it without a word
 * so far. `mayBeShut` where it is only to be read.
 */
function isSure(connection: FuzzConnection, mayBeShut = false): boolean {
  const { state, closing, doubtful, relayedTo, shut, unrelayed, ends, wire } = connection;
  if (state !== 'open' || closing || doubtful || relayedTo !== undefined) return false;
  // With both sides ended it is gone, and an end that a relay saw is told later.
  if (shut && (!mayBeShut || unrelayed || ends > 0)) return false;
  return wire.added < SURE_BYTES;
}
