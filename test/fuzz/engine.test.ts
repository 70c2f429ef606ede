/**
 * The fuzzer of the socket engine, a fixed amount of it. FERRULE_FUZZ_SEED repeats a run, FERRULE_FUZZ_ROUNDS sets its
 * length, FERRULE_SOAK=1 makes it long.
 */

import t from 'tap';
import { fuzz } from './rounds.ts';

/** About 15 s, 50 ms each. */
const ROUNDS = 300;
const SOAK_ROUNDS = 20_000;

const seed = Number(process.env.FERRULE_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const rounds = Number(
  process.env.FERRULE_FUZZ_ROUNDS ?? (process.env.FERRULE_SOAK === '1' ? SOAK_ROUNDS : ROUNDS),
);

t.setTimeout(process.env.FERRULE_SOAK === '1' ? 3_600_000 : 280_000);

t.test(`${rounds} rounds from FERRULE_FUZZ_SEED=${seed}`, async (t) => {
  const summary = await fuzz(seed, rounds);
  t.comment(JSON.stringify(summary));
  for (const [what, count] of Object.entries(summary)) {
    if (rounds >= ROUNDS) t.ok(count > 0, `${what}: ${count}`);
  }
  t.ok(summary.connections > rounds, 'connections were made');
});
