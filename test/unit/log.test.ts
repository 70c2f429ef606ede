import fc from 'fast-check';
import t from 'tap';
import { LOG_LEVELS, type LogFields, type LogFormat, type LogLevel, log } from '../../proxy/core/log.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 50_000 : 2_000 };

/** What `write` puts out at a level and in a format; the log is as before afterwards. */
function linesOf(level: LogLevel, format: LogFormat, write: () => void): string[] {
  const before = { level: log.level, format: log.format, sink: log.sink };
  const lines: string[] = [];
  Object.assign(log, { level, format, sink: (line: string) => void lines.push(line) });
  try {
    write();
  } finally {
    Object.assign(log, before);
  }
  return lines;
}

const writing = ['error', 'warn', 'info', 'debug'] as const;

const hostile = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom(
      'a',
      ' ',
      '"',
      '\\',
      '=',
      '\n',
      '\r',
      '\0',
      '\u001b',
      '\u007f',
      '\u009b',
      '\u2028',
      '\u202e',
    ),
  }),
);
const fields = fc.dictionary(
  fc.oneof(fc.stringMatching(/^[a-z_]{1,8}$/), fc.constantFrom('time', 'level', 'message')),
  fc.oneof(hostile, fc.integer(), fc.boolean(), fc.constant(undefined)),
  { noNullPrototype: true },
);

t.test('a line is written at its level and below, and not above', async (t) => {
  for (const level of LOG_LEVELS) {
    for (const used of writing) {
      const expected = LOG_LEVELS.indexOf(used) <= LOG_LEVELS.indexOf(level) ? 1 : 0;
      t.equal(linesOf(level, 'text', () => log[used]('x')).length, expected, `${used} at level ${level}`);
    }
  }
  linesOf('debug', 'text', () => t.ok(log.debugEnabled));
  linesOf('info', 'text', () => t.notOk(log.debugEnabled));
});

t.test('one event is one line without control characters, whatever the network put into it', async (t) => {
  const check = (format: LogFormat) =>
    fc.property(hostile, fields, (message, facts) => {
      const lines = linesOf('info', format, () => log.info(message, facts));
      return lines.length === 1 && /^[^\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]+\n$/u.test(lines[0]);
    });
  fc.assert(check('text'), RUNS);
  fc.assert(check('json'), RUNS);
  const [line] = linesOf('info', 'text', () => log.info('a\n2026-01-01T00:00:00.000Z error forged'));
  t.match(line, /^\S+Z info {2}a\\u000a2026-\S+ error forged\n$/);
});

t.test('JSON carries every value back, and no field replaces time, level or message', async (t) => {
  fc.assert(
    fc.property(hostile, fields, (message, facts) => {
      const [line] = linesOf('warn', 'json', () => log.warn(message, facts));
      const parsed = JSON.parse(line);
      return (
        parsed.message === message &&
        parsed.level === 'warn' &&
        !Number.isNaN(Date.parse(parsed.time)) &&
        Object.entries(facts).every(
          ([name, value]) => ['time', 'level', 'message'].includes(name) || parsed[name] === value,
        )
      );
    }),
    RUNS,
  );
  const [line] = linesOf('warn', 'json', () => log.warn('real', { message: 'forged' }));
  t.equal(JSON.parse(line).message, 'real');
});

t.test('text fields read back: plain as they are, others as JSON strings', async (t) => {
  fc.assert(
    fc.property(fields, (facts) => {
      const [line] = linesOf('error', 'text', () => log.error('m', facts));
      return JSON.stringify(readFields(line)) === JSON.stringify(asText(facts));
    }),
    RUNS,
  );
  const [line] = linesOf('error', 'text', () =>
    log.error('m', { a: '10.0.0.1:80', b: 'two words', c: '', d: undefined }),
  );
  t.match(line, /^\S+ error m a=10\.0\.0\.1:80 b="two words" c=""\n$/);
});

/** The name and value pairs of a text line whose message is `m`. */
function readFields(line: string): [string, string][] {
  const text = line.slice(line.indexOf(' m') + 2, -1);
  return [...text.matchAll(/ (\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)/g)].map(([, name, value]) => [
    name,
    value.startsWith('"') ? JSON.parse(value) : value,
  ]);
}

function asText(facts: LogFields): [string, string][] {
  return Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, String(value)]);
}
