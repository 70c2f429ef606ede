/** A strict reader of Prometheus' text format 0.0.4: what it accepts, Prometheus accepts; anything else throws. */

/** What one exposition says. */
export interface Exposition {
  /** Families in the order of the text, with their type. */
  readonly families: ReadonlyMap<string, 'counter' | 'gauge' | 'histogram'>;
  /** Value by series: `name{a="1",b="2"}` with labels sorted by name. */
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
      const [series, value] = parseSample(line, current);
      if (samples.has(series)) throw new Error(`series ${series} twice`);
      samples.set(series, value);
    }
  }
  return { families, samples };
}

/** The name `parseExposition` gives a series. */
export function seriesName(family: string, labels: Readonly<Record<string, string>>): string {
  const parts = Object.keys(labels)
    .sort()
    .map((name) => `${name}=${JSON.stringify(labels[name])}`);
  return parts.length === 0 ? family : `${family}{${parts.join(',')}}`;
}

function parseSample(line: string, family: string): [string, number] {
  const match = SAMPLE.exec(line);
  if (match === null) throw new Error(`not a sample: ${line}`);
  const [, name, labelText = '', valueText] = match;
  if (name !== family) throw new Error(`sample of ${name} under ${family}`);
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
  return [seriesName(name, labels), value];
}
