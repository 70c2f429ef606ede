/** The access log, as far as several parts know it. */

/** What it may be set to: nothing, Apache's combined format, or a JSON object per line. */
export const ACCESS_LOGS = ['off', 'apache', 'json'] as const;
/** One of `ACCESS_LOGS`. */
export type AccessLogSetting = (typeof ACCESS_LOGS)[number];
/** How its lines look. */
export type AccessFormat = Exclude<AccessLogSetting, 'off'>;

/** What the log will show of a request's head, taken while the head was there: Latin-1 text as it came, cut where it is long. */
export interface RequestTexts {
  readonly method: string;
  /** The request target. */
  readonly uri: string;
  readonly version: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2.0';
  /** Of the target if it names one, else of Host; empty when there is none. */
  readonly host: string;
  readonly userAgent: string | undefined;
  readonly referer: string | undefined;
  /** By whichever of the customs the client follows. */
  readonly traceId: string | undefined;
}
