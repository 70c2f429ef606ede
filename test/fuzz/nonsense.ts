/** What may be asked for by mistake, or too late, and must do no harm. */

import type { ConnectionId } from '../../proxy/native/engine.ts';
import type { FuzzBench, FuzzConnection } from './model.ts';

/** Operations on `id`, which means nothing; on `live`, ranges outside the slab and states that do not fit. */
export function nonsense({ engine, random }: FuzzBench, id: ConnectionId, live?: FuzzConnection): void {
  engine.resume(id);
  engine.sendRange(id, random.int(1 << 22), random.int(1 << 22));
  engine.link(id, live?.id ?? 0);
  engine.unrelay(id);
  engine.pass(id, random.int(1 << 30));
  engine.count(id, random.int(1 << 20), random.int(1 << 20));
  if (live === undefined) return;
  if (!live.passes) {
    engine.link(live.id, id);
    // To nobody.
    engine.pass(live.id, random.int(1 << 30));
  }
  live.refusals++;
  engine.sendRange(live.id, -1 - random.int(1 << 20), random.int(1 << 22));
}
