/** A strict reader of Prometheus' text format 0.0.4: what it accepts, Prometheus accepts; anything else throws. */

/** What one exposition says. */
export interface Exposition {
  /** Families in the order of the text, with their type. */
  readonly families: ReadonlyMap<string, 'counter' | 'gauge' | 'histogram'>;
  /** Value by series: `name{a="1",b="2"}` with labels sorted by name; of a histogram by its lines. */
  readonly samples: ReadonlyMap<string, number>;
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/;
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;

/** Parses an exposition; throws at the first line Prometheus would refuse, and at a repeated family or series. */
export function parseExposition(text: string): Exposition {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const families = new Map<string, 'counter' | 'gauge' | 'histogram'>();
  const samples = new Map<string, number>();
  const histograms = new Map<string, HistogramLines>();
  let helped = '';
  let current = '';
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const help = HELP.exec(line);
    const type = TYPE.exec(line);
    if (help !== null) {
      helped = help[1];
    } else if (type !== null) {
      current = type[1];
      if (current !== helped) throw new Error(`TYPE of ${current} without its HELP`);
      if (families.has(current)) throw new Error(`family ${current} twice`);
      families.set(current, type[2] as 'counter' | 'gauge' | 'histogram');
    } else {
      const { name, labels, value } = parseSample(line);
      const series = seriesName(name, labels);
      if (samples.has(series)) throw new Error(`series ${series} twice`);
      samples.set(series, value);
      if (families.get(current) === 'histogram') collect(histograms, current, name, labels, value);
      else if (name !== current) throw new Error(`sample of ${name} under ${current}`);
    }
  }
  for (const [series, lines] of histograms) checkHistogram(series, lines);
  return { families, samples };
}

/** The name `parseExposition` gives a series. */
export function seriesName(family: string, labels: Readonly<Record<string, string>>): string {
  const parts = Object.keys(labels)
    .sort()
    .map((name) => `${name}=${JSON.stringify(labels[name])}`);
  return parts.length === 0 ? family : `${family}{${parts.join(',')}}`;
}

/** The lines of one series of a histogram. */
interface HistogramLines {
  readonly buckets: { le: number; count: number }[];
  sum: number | undefined;
  count: number | undefined;
}

function collect(
  histograms: Map<string, HistogramLines>,
  family: string,
  name: string,
  { le, ...labels }: Record<string, string>,
  value: number,
): void {
  const series = seriesName(family, labels);
  const lines = histograms.get(series) ?? { buckets: [], sum: undefined, count: undefined };
  histograms.set(series, lines);
  if ((name === `${family}_bucket`) !== (le !== undefined)) throw new Error(`le of ${name}: ${le}`);
  if (name === `${family}_bucket`)
    lines.buckets.push({ le: le === '+Inf' ? Infinity : Number(le), count: value });
  else if (name === `${family}_sum`) lines.sum = value;
  else if (name === `${family}_count`) lines.count = value;
  else throw new Error(`sample of ${name} under the histogram ${family}`);
}

/** Bounds ascend to +Inf, counts never fall, the last one is the count. */
function checkHistogram(series: string, { buckets, sum, count }: HistogramLines): void {
  let before = { le: -Infinity, count: 0 };
  for (const bucket of buckets) {
    if (!(bucket.le > before.le)) throw new Error(`${series}: le ${bucket.le} after ${before.le}`);
    if (!(bucket.count >= before.count)) throw new Error(`${series}: ${bucket.count} after ${before.count}`);
    before = bucket;
  }
  if (before.le !== Infinity) throw new Error(`${series} has no bucket +Inf`);
  if (count !== before.count) throw new Error(`${series}: count ${count} is not ${before.count}`);
  if (sum === undefined) throw new Error(`${series} has no sum`);
}

function parseSample(line: string): { name: string; labels: Record<string, string>; value: number } {
  const match = SAMPLE.exec(line);
  if (match === null) throw new Error(`not a sample: ${line}`);
  const [, name, labelText = '', valueText] = match;
  const value = Number(valueText);
  if (valueText === '' || Number.isNaN(value)) throw new Error(`not a number: ${line}`);
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < labelText.length) {
    const at = LABEL.lastIndex;
    const label = LABEL.exec(labelText);
    if (label === null) throw new Error(`bad labels at ${at}: ${line}`);
    if (label[1] in labels) throw new Error(`label ${label[1]} twice: ${line}`);
    labels[label[1]] = label[2].replace(/\\(["\\n])/g, (_, char) => (char === 'n' ? '\n' : char));
  }
  return { name, labels, value };
}
