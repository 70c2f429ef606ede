/**
 * The log: one line per event on standard error, in logfmt-like text or JSON. Levels are checked before arguments are
 * built: `if (log.debugEnabled) log.debug(...)` on warm paths.
 *
 * Not pino: it costs 9 MB of anonymous memory against a budget of 45 for the whole process, and what a sidecar
 * needs from a logger fits this page.
 */

/** Levels from most to least severe; `off` silences everything. */
export const LOG_LEVELS = ['off', 'error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = 'text' | 'json';

/** Named facts of one log line. Values are printed with String(), text with spaces is quoted. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/** Where finished lines go. Workers replace it by a post to the main thread. */
export type LogSink = (line: string) => void;

class Logger {
  level: LogLevel = 'info';
  format: LogFormat = 'text';
  sink: LogSink = (line) => void process.stderr.write(line);

  get debugEnabled(): boolean {
    return this.level === 'debug';
  }

  error(message: string, fields?: LogFields): void {
    this.write('error', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.write('warn', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.write('info', message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.write('debug', message, fields);
  }

  private write(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(this.level)) return;
    const time = new Date().toISOString();
    this.sink(
      this.format === 'json'
        ? `${JSON.stringify({ time, level, message, ...fields })}\n`
        : `${time} ${level.padEnd(5)} ${escapeText(message)}${formatFields(fields)}\n`,
    );
  }
}

/** The log of this thread. */
export const log = new Logger();

function formatFields(fields: LogFields): string {
  let text = '';
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const plain = String(value);
    text += ` ${name}=${/^[\w.:/@[\]+-]+$/.test(plain) ? plain : JSON.stringify(plain)}`;
  }
  return text;
}

/** Keeps one event on one line: names from the network must not forge log lines. */
function escapeText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being removed
  const control = /[\u0000-\u001f\u007f]/g;
  return text.replace(control, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
