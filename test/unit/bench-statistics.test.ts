import fc from 'fast-check';
import t from 'tap';
import { median, pairedRatios, roundOrder, spread } from '../../bench/harness/statistics.ts';

const CHECKS = { seed: 20261121, numRuns: 500 };
const positive = fc.double({ min: 1e-6, max: 1e6, noNaN: true });
const sample = fc.array(positive, { minLength: 1, maxLength: 20 });

t.test('median', async (t) => {
  t.equal(median([3]), 3);
  t.equal(median([9, 1, 5]), 5, 'the middle, in whatever order');
  t.equal(median([4, 1, 3, 2]), 2.5, 'between the two in the middle');
  t.equal(median([10, 9, 100]), 10, 'sorts numbers and not their text');
  t.throws(() => median([]), RangeError);
  const input = [3, 1, 2];
  median(input);
  t.same(input, [3, 1, 2], 'leaves its input alone: rounds are paired by their place');
});

t.test('the median is in the middle of any sample', async (t) => {
  fc.assert(
    fc.property(sample, (values) => {
      const middle = median(values);
      const below = values.filter((value) => value < middle).length;
      const above = values.filter((value) => value > middle).length;
      return below <= values.length / 2 && above <= values.length / 2;
    }),
    CHECKS,
  );
  t.pass('held');
});

t.test('spread', async (t) => {
  t.same(spread([2, 8, 4]), { median: 4, min: 2, max: 8 });
});

t.test('ratios are paired by round', async (t) => {
  t.same(pairedRatios([1, 2, 30], [2, 4, 60]), [0.5, 0.5, 0.5], 'a slow round slows both');
  t.throws(() => pairedRatios([1], [1, 2]), RangeError);
  t.equal(pairedRatios([1, 1], [0, 1]), undefined, 'nothing is a multiple of 0');
  t.equal(pairedRatios([1], [Number.NaN]), undefined);
});

t.test('what slows a round down for both leaves the ratios alone', async (t) => {
  const rounds = fc.array(fc.tuple(positive, positive, fc.double({ min: 0.5, max: 20, noNaN: true })), {
    minLength: 1,
    maxLength: 9,
  });
  fc.assert(
    fc.property(rounds, (taken) => {
      const still = pairedRatios(
        taken.map(([ours]) => ours),
        taken.map(([, theirs]) => theirs),
      )!;
      const noisy = pairedRatios(
        taken.map(([ours, , noise]) => ours * noise),
        taken.map(([, theirs, noise]) => theirs * noise),
      )!;
      return still.every((ratio, round) => Math.abs(ratio / noisy[round] - 1) < 1e-9);
    }),
    CHECKS,
  );
  t.pass('held');
});

t.test('everybody takes each place once in as many rounds as there are peers', async (t) => {
  t.same(roundOrder(['a', 'b', 'c'], 0), ['a', 'b', 'c']);
  t.same(roundOrder(['a', 'b', 'c'], 1), ['b', 'c', 'a']);
  t.same(roundOrder(['a', 'b', 'c'], 5), ['c', 'a', 'b']);
  t.same(roundOrder([], 3), []);
});
