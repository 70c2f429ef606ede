/**
 * The log: one line per event on standard error, in logfmt-like text or JSON. Levels are checked before arguments are
 * built: `if (log.debugEnabled) log.debug(...)` on warm paths.
 *
 * Not pino: it costs 9 MB of anonymous memory against a budget of 45 for the whole process, and what a sidecar
 * needs from a logger fits this page.
 */

/** Levels from most to least severe; `off` silences everything. */
export const LOG_LEVELS = ['off', 'error', 'warn', 'info', 'debug'] as const;
/** One of `LOG_LEVELS`. */
export type LogLevel = (typeof LOG_LEVELS)[number];
/** `text` is for people, `json` for collectors: one object per line. */
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
    const line =
      this.format === 'json'
        ? // The last wins: no field replaces what the log itself says.
          JSON.stringify(Object.assign({ time, level, message }, fields, { time, level, message }))
        : `${time} ${level.padEnd(5)} ${message}${formatFields(fields)}`;
    this.sink(`${escapeControls(line)}\n`);
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

/**
 * Keeps one event on one line and terminals out of the hands of strangers: control, format and line-separating characters
 * (names come from the network) are written as JSON escapes, which leaves JSON as valid as it was.
 */
function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => {
    let escaped = '';
    for (let i = 0; i < char.length; i++) escaped += `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`;
    return escaped;
  });
}
