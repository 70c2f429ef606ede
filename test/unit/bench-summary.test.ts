import t from 'tap';
import { digits, summarise } from '../../bench/harness/summary.ts';
import { benchCase, benchResult } from '../support/bench.ts';

const AT_MOST_1 = benchCase({ kind: 'ratio', atMost: 1 });

t.test('the best rival is the one with the lowest median, not the lowest round', async (t) => {
  const { best, verdict } = summarise(AT_MOST_1, [
    benchResult('ferrule', 'subject', [9, 9, 9]),
    benchResult('lucky once', 'rival', [1, 20, 20]),
    benchResult('steady', 'rival', [10, 10, 10]),
    benchResult('direct', 'control', [0.1, 0.1, 0.1]),
  ]);
  t.equal(best, 'steady');
  t.equal(verdict.status, 'pass');
  t.equal(verdict.text, '0.90 of steady (0.90–0.90), target at most 1');
});

t.test('the ratio is the median of the ratios of each round', async (t) => {
  const { rows, verdict } = summarise(AT_MOST_1, [
    benchResult('ferrule', 'subject', [8, 30, 10]),
    benchResult('rival', 'rival', [10, 20, 9]),
  ]);
  // The medians (10 and 10) would say 1.00.
  t.same(rows[1].subjectRatio, { median: 10 / 9, min: 0.8, max: 1.5 });
  t.equal(rows[0].subjectRatio, undefined, 'nobody is compared with itself');
  t.same(verdict, { status: 'missed', text: '1.11 of rival (0.80–1.50), target at most 1' });
});

t.test('a target is reached when it is met exactly', async (t) => {
  const results = [benchResult('ferrule', 'subject', [10]), benchResult('rival', 'rival', [10])];
  t.equal(summarise(AT_MOST_1, results).verdict.status, 'pass');
  t.equal(summarise(benchCase({ kind: 'ratio', atMost: 0.99 }), results).verdict.status, 'missed');
});

t.test('a rival that failed has no numbers, is not the best, and is named', async (t) => {
  const { rows, best, verdict } = summarise(AT_MOST_1, [
    benchResult('ferrule', 'subject', [10, 10]),
    benchResult('broken', 'rival', [1], 'round 2: wrong answer'),
    benchResult('sound', 'rival', [20, 20]),
  ]);
  t.match(rows[1], { failure: 'round 2: wrong answer', value: undefined, throughput: undefined });
  t.equal(best, 'sound');
  t.same(verdict, {
    status: 'pass',
    text: '0.50 of sound (0.50–0.50), target at most 1; without broken: failed',
  });
});

t.test('a subject that failed is compared with nobody', async (t) => {
  const { rows, verdict } = summarise(AT_MOST_1, [
    benchResult('ferrule', 'subject', [1], 'round 2: 7 bytes missing'),
    benchResult('rival', 'rival', [20, 20]),
  ]);
  t.equal(rows[1].subjectRatio, undefined);
  t.same(verdict, { status: 'failed', text: 'ferrule failed in round 2: 7 bytes missing' });
});

t.test('no verdict without somebody to judge or to compare with', async (t) => {
  const subject = benchResult('ferrule', 'subject', [10]);
  const status = (...results: Parameters<typeof summarise>[1]) => summarise(AT_MOST_1, results).verdict;
  t.same(status(benchResult('rival', 'rival', [1])), {
    status: 'not judged',
    text: 'ferrule did not take part',
  });
  t.same(status(subject), { status: 'not judged', text: 'nothing to compare with' });
  t.same(
    status(subject, benchResult('rival', 'rival', [0])),
    { status: 'not judged', text: '10.0 against 0 of rival: no ratio' },
    'a rival that costs nothing',
  );
  t.same(summarise(benchCase(undefined), [subject, benchResult('rival', 'rival', [20])]).verdict, {
    status: 'not judged',
    text: '0.50 of rival (0.50–0.50)',
  });
});

t.test('absolute targets look at the value alone', async (t) => {
  const results = [
    benchResult('ferrule', 'subject', [300, 420, 390]),
    benchResult('rival', 'rival', [1, 1, 1]),
  ];
  const judged = (atMost: number) => summarise(benchCase({ kind: 'absolute', atMost }), results).verdict;
  t.same(judged(400), { status: 'pass', text: '390 µs (300–420), target at most 400 µs' });
  t.equal(judged(389).status, 'missed');
});

t.test('medians of latency and memory', async (t) => {
  const measurements = [1, 2, 9].map((n) => ({
    value: n,
    cpuSeconds: n,
    throughput: n * 1000,
    latencyMs: { p50: n, p99: 10 * n, p999: 100 * n },
    memoryKb: { rss: n, pss: n, anonymous: 3 * n },
  }));
  const [row] = summarise(AT_MOST_1, [
    { peer: 'rival', role: 'rival', measurements, failure: undefined },
  ]).rows;
  t.same(row.latencyMs, { p50: 2, p99: 20, p999: 200 });
  t.same(row.memoryKb, { rss: 2, pss: 2, anonymous: 6 });
  t.equal(row.throughput, 2000);
});

t.test('three digits', async (t) => {
  t.same([0.5451, 12.34, 56_712, 0, 1.0].map(digits), ['0.545', '12.3', '56,700', '0', '1.00']);
});
