import t from 'tap';
import type { Measurement, Peer } from '../../bench/harness/model.ts';
import { runRounds } from '../../bench/harness/rounds.ts';
import { measured } from '../support/bench.ts';

const QUIET = { turn: () => undefined, done: () => undefined };

function peers(...names: string[]): Peer[] {
  return names.map((name) => ({
    name,
    description: name,
    role: 'rival',
    probe: () => ({ found: true, versions: [] }),
    launch: () => undefined,
  }));
}

t.test('rounds are interleaved and kept in order', async (t) => {
  const seen: string[] = [];
  const results = await runRounds(
    peers('a', 'b', 'c'),
    4,
    async ({ name }) => measured(seen.push(name)),
    QUIET,
  );
  t.equal(seen.join(' '), 'a b c b c a c a b a b c');
  t.same(
    results.map(({ measurements }) => measurements.map(({ value }) => value)),
    [
      [1, 6, 8, 10],
      [2, 4, 9, 11],
      [3, 5, 7, 12],
    ],
  );
});

t.test('a peer that answers wrongly fails and takes no further part', async (t) => {
  const told: string[] = [];
  let turnsOfB = 0;
  const results = await runRounds(
    peers('a', 'b'),
    3,
    async ({ name }): Promise<Measurement> => {
      if (name === 'b' && ++turnsOfB === 2) throw new Error('wrong answer');
      return measured(1);
    },
    {
      turn: (round, { name }) => void told.push(`${round}${name}`),
      done: (outcome) => void told.push(outcome instanceof Error ? outcome.message : 'ok'),
    },
  );
  t.equal(turnsOfB, 2);
  t.equal(told.join(' '), '0a ok 0b ok 1b wrong answer 1a ok 2a ok');
  t.equal(results[1].failure, 'round 2: wrong answer');
  t.match(results[0], { failure: undefined, measurements: { length: 3 } }, 'the others go on');
});
