import t from 'tap';
import { toSvg } from '../../bench/harness/chart.ts';
import {
  hasFailure,
  type Report,
  type ScenarioReport,
  toJson,
  toMarkdown,
} from '../../bench/harness/report.ts';
import type { PeerResult } from '../../bench/harness/rounds.ts';
import { summarise } from '../../bench/harness/summary.ts';
import { benchCase, benchResult } from '../support/bench.ts';

function report(results: readonly PeerResult[], skipped?: string): Report {
  const summary = summarise(benchCase({ kind: 'ratio', atMost: 0.85 }), results);
  const scenario: ScenarioReport = {
    name: 'tcp-request',
    description: 'short requests',
    skipped,
    cases: skipped === undefined ? [{ summary, results }] : [],
  };
  return {
    startedAt: '2026-01-02T03:04:05.000Z',
    effort: { rounds: 2, seconds: 5 },
    versions: ['Linux 6.1', 'HAProxy 2.6'],
    missing: [{ peer: 'nginx-stream', reason: 'nginx is not installed' }],
    scenarios: [scenario],
  };
}

const SOUND = [
  benchResult('ferrule', 'subject', [8, 10]),
  benchResult('haproxy', 'rival', [10, 10]),
  benchResult('direct', 'control', [undefined, undefined]),
];
const BROKEN = [...SOUND, benchResult('liar <&>', 'rival', [1], 'round 2: wrong answer:\n"hell"')];

t.test('Markdown', async (t) => {
  const text = toMarkdown(report(SOUND));
  const row = (peer: string) => text.split('\n').find((line) => line.startsWith(`| ${peer} `));
  t.match(text, '- HAProxy 2.6\n');
  t.match(text, '- without nginx-stream: nginx is not installed\n');
  t.match(row('peer'), /CPU per request, µs +\| ferrule ÷ peer/);
  t.match(row('ferrule'), /\| 9.00 \(8.00–10.0\) +\| – /);
  t.match(row('haproxy (best)'), /\| 10.0 \(10.0–10.0\) +\| 0.90 \(0.80–1.00\) \| 50,000/);
  t.match(row('direct'), /\| – +\| – +\| 50,000/, 'a control costs nothing');
  t.match(text, '**missed**: 0.90 of haproxy (0.80–1.00), target at most 0.85');
  const widths = text
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.length);
  t.equal(new Set(widths).size, 1, 'columns line up');
});

t.test('a failed peer has a reason and no numbers', async (t) => {
  const text = toMarkdown(report(BROKEN));
  t.match(text, /\| liar <&> +\| FAILED +\| – +\| – +\| – +\| – +\|/);
  t.match(text, 'liar <&> failed in round 2: wrong answer: "hell"\n');
});

t.test('a scenario that could not run says why', async (t) => {
  const text = toMarkdown(report([], 'needs wrk'));
  t.match(text, '## tcp-request');
  t.match(text, 'Did not run: needs wrk');
});

t.test('JSON holds every measurement', async (t) => {
  const parsed = JSON.parse(toJson(report(SOUND)));
  const [one] = parsed.scenarios[0].cases;
  t.same(
    one.results[0].measurements.map(({ value }: { value: number }) => value),
    [8, 10],
  );
  t.equal(one.summary.verdict.status, 'missed');
  t.same(parsed.effort, { rounds: 2, seconds: 5 });
});

t.test('SVG', async (t) => {
  const text = toSvg(report(BROKEN));
  t.match(
    text,
    /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="760" height="(\d+)" viewBox="0 0 760 \1"/,
  );
  t.match(text, 'liar &lt;&amp;&gt;', 'names are escaped');
  t.match(text, '>failed</text>');
  t.notMatch(text, /NaN|undefined|Infinity/);
  const widths = [...text.matchAll(/<rect x="170" [^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width));
  t.same(widths, [396, 440], 'bars are in proportion, and a peer without value has none');
});

t.test('failures and absences fail the run, missed targets do not', async (t) => {
  t.equal(hasFailure(report(SOUND)), false);
  t.equal(hasFailure(report(BROKEN)), true);
  t.equal(hasFailure(report([], 'needs wrk')), true);
});
