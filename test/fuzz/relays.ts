/** Relays of the fuzzed connections: made, refused and taken apart. */

import type { FuzzBench, FuzzConnection } from './model.ts';
import type { FuzzPeers } from './peers.ts';

/** The relays of one round. */
export class FuzzRelays {
  private readonly bench: FuzzBench;
  private readonly peers: FuzzPeers;
  private refusals = 0;
  /** Both sides of a relay of which the engine may yet tell that it was refused. */
  private unsettled: readonly FuzzConnection[] = [];

  constructor(bench: FuzzBench, peers: FuzzPeers) {
    this.bench = bench;
    this.peers = peers;
  }

  /** The engine did not make one. */
  refused(): void {
    this.refusals++;
  }

  /** Only from steps, one at a time: so a refusal is known to be of this relay. */
  async make(all: readonly FuzzConnection[]): Promise<void> {
    const { engine, random, summary } = this.bench;
    const a = random.pick(all);
    const b = random.pick(all);
    if (a === undefined || b === undefined) return;
    this.peers.match();
    engine.flush();
    if (a.doubtful || b.doubtful) return;
    const impossible = a === b || [a, b].some(({ relayedTo, closing }) => relayedTo !== undefined || closing);
    const certain = [a, b].every(({ state, peer }) => state === 'open' && peer !== undefined);
    if (!impossible && !certain) return;
    if (!impossible) this.join(a, b);
    const before = this.refusals;
    this.unsettled = [a, b];
    engine.relay(a.id, b.id);
    engine.flush();
    // Nothing was read since the counters were compared, so this tells what was moved even where the relay was refused.
    if (!impossible && random.chance(5)) {
      for (const side of [a, b]) side.doubtful = side.shut;
      this.takeApart(a, b);
    }
    await turn();
    await turn();
    this.unsettled = [];
    const refused = this.refusals > before;
    if (impossible && !refused) throw new Error('an impossible relay was made');
    if (refused) summary.refusedRelays++;
    else summary.relays++;
    // Taken apart at once.
    if (impossible || a.relayedTo !== b || b.relayedTo !== a) return;
    // Whoever broke it meanwhile made it doubtful for good.
    for (const side of [a, b]) side.doubtful = side.shut || side.closing;
    if (!refused) return;
    for (const side of [a, b]) {
      side.wire.close(0);
      side.relayedTo = undefined;
    }
  }

  /** Takes the relay of `connection` apart, or asks for it where there is none. */
  unmake(connection: FuzzConnection): void {
    const other = connection.relayedTo;
    // Where the relay was refused, the counters have bytes that this very batch has yet to bring.
    if (this.unsettled.includes(connection)) return;
    if (other === undefined) return this.bench.engine.unrelay(connection.id);
    this.takeApart(connection, other);
  }

  private join(a: FuzzConnection, b: FuzzConnection): void {
    const { metrics } = this.bench;
    for (const [from, to] of [
      [a, b],
      [b, a],
    ]) {
      if (metrics[from.slot] - from.baseRead !== from.read) throw new Error('bytes read but not delivered');
      if (from.peer !== undefined) to.wire.open(from.peer, from.read);
      // What cannot be delivered any more is never read.
      if (to.shut) to.wire.unreliable = true;
      from.relayedTo = to;
      from.doubtful = true;
    }
  }

  private takeApart(connection: FuzzConnection, other: FuzzConnection): void {
    const { engine, metrics, summary } = this.bench;
    engine.unrelay(connection.id);
    // Run it now: the counters tell how much the relay moved.
    engine.flush();
    summary.unrelays++;
    for (const side of [connection, other]) {
      side.unrelayed = true;
      const moved = metrics[side.slot] - side.baseRead - side.read;
      side.read += moved;
      side.relayedTo?.wire.close(moved);
      // The relay may have carried the end over.
      if (side.peer?.endedAt !== undefined && side.relayedTo !== undefined) side.relayedTo.doubtful = true;
    }
    connection.relayedTo = other.relayedTo = undefined;
  }
}

/** One turn of the loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
