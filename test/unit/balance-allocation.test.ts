import t from 'tap';
import type { Endpoint } from '../../proxy/model/endpoint.ts';
import { balancerOf, snapshots } from '../support/balance.ts';

// In a process of its own: other sources of chance would have the numbers of Math.random boxed.
t.test('picking allocates nothing', async (t) => {
  const listed = snapshots(1, 2, 3, 4).map((snapshot, index) => ({
    ...snapshot,
    zones: [index < 2 ? 'a' : 'b'],
  }));
  for (const policy of ['ewma', 'least-request', 'round-robin'] as const) {
    const picker = balancerOf(listed, policy, { zone: 'a', random: Math.random });
    const none: readonly Endpoint[] = [];
    const run = (): number => {
      const before = process.memoryUsage().heapUsed;
      for (let i = 0; i < 100_000; i++) {
        const endpoint = picker.pickForRequest(none, 1_000 + i / 7);
        endpoint?.beginRequest();
        endpoint?.answered((i % 13) + 0.5, 1_000 + i / 7);
        endpoint?.endRequest();
      }
      return (process.memoryUsage().heapUsed - before) / 100_000;
    };
    // The least of several: compiling allocates too, and a collection makes it negative.
    const bytes = Array.from({ length: 8 }, run).filter((value) => value > -1);
    t.ok(Math.min(...bytes) < 4, `${policy}: ${Math.min(...bytes)} bytes per request`);
  }
});
