import t from 'tap';
import type { Balancer } from '../../proxy/balance/balancer.ts';
import type { Endpoint } from '../../proxy/model/endpoint.ts';
import type { BalancePolicy } from '../../proxy/model/target.ts';
import { allocated, allocatedWhenCompiled } from '../support/allocation.ts';
import { balancerOf, snapshots } from '../support/balance.ts';

const NONE: readonly Endpoint[] = [];
const TIMES = Array.from({ length: 13 }, (_, index) => index + 0.5);
const NOW_MS = 1_234.5;

/** Requests one after the other; all numbers that go in exist already. */
function run(picker: Balancer, requests: number): void {
  for (let i = 0; i < requests; i++) {
    const endpoint = picker.pickForRequest(NONE, NOW_MS);
    endpoint?.beginRequest();
    endpoint?.answered(TIMES[i % TIMES.length], NOW_MS);
    endpoint?.endRequest();
  }
}

t.test('picking and recording allocate nothing', async (t) => {
  const listed = snapshots(1, 2, 3, 4).map((snapshot, index) => ({
    ...snapshot,
    zones: [index < 2 ? 'a' : 'b'],
  }));
  for (const policy of ['ewma', 'least-request', 'round-robin'] satisfies BalancePolicy[]) {
    for (const zone of [undefined, 'a']) {
      const picker = balancerOf(listed, policy, { zone });
      const bytes = allocatedWhenCompiled(() => run(picker, 100_000), 400_000);
      t.ok(bytes < 400_000, `${policy}, zone ${zone}: ${bytes} bytes for 100,000 requests`);
    }
  }
  // Enough of it: a sample is taken every 512 bytes on the average, and of one kilobyte sometimes none.
  const boxed: unknown[] = [];
  const box = (): void => {
    for (let i = 0; i < 10_000; i++) boxed.push([i + 0.5]);
  };
  t.ok(allocated(box) > 100_000, 'what is allocated is seen');
});
