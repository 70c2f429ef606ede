/**
 * The fuzzer of the socket engine, a fixed amount of it from a fixed seed. FERRULE_FUZZ_SEED sets another seed,
 * FERRULE_FUZZ_ROUNDS the length; FERRULE_SOAK=1 makes it long.
 */

import t from 'tap';
import { fuzz } from './rounds.ts';

const SEED = 1;

/** 20 to 30 s, 80 to 120 ms each: most of it is node:tls at the other ends. */
const ROUNDS = 250;
/** Ten minutes on one core. */
const SOAK_ROUNDS = 5_000;

const seed = Number(process.env.FERRULE_FUZZ_SEED ?? SEED);
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
