/**
 * The access log of one worker: one line per request when it is over, in Apache's combined format or as JSON. What strangers sent
 * is in it, and stays inside its field: lines are printable ASCII, whatever came.
 */
import { latin1 } from '../http/bytes.ts';
import type { Field, FieldList } from '../http/h2/field.ts';
import { H2Head } from '../http/h2/head.ts';
import type { Head } from '../http/head.ts';
import type { AccessFormat, RequestTexts } from '../model/access.ts';
import type { Decision } from '../model/decision.ts';

/** Longest text taken from a head, in bytes: as long as a request line may be for Apache by default. */
const TEXT_BYTES = 8_190;

/** nginx's numbers where no status was sent, since readers of the combined format want one: the client left; anything else. */
const CLIENT_LEFT = '499';
const NO_STATUS = '000';

const NS_PER_MS = 1e6;

const USER_AGENT = latin1('user-agent');
const REFERER = latin1('referer');

const TRACEPARENT = latin1('traceparent');
/** Other customs, in this order, where there is no usable `traceparent`; the value is the trace's id as it is. */
const TRACE_FIELDS = ['x-b3-traceid', 'x-request-id', 'x-amzn-trace-id'].map(latin1);
/** Version, trace id, parent id and flags; no id is all zeros (W3C Trace Context, section 3.2.2). */
const TRACE_PARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)/;

/** Bytes of bodies that passed, without framing. */
export interface BodyBytes {
  readonly request: number;
  readonly response: number;
}

/** Makes the lines. */
export class AccessLog {
  private readonly format: AccessFormat;
  private readonly write: (line: string) => void;

  /** @param write takes each line, with its end */
  constructor(format: AccessFormat, write: (line: string) => void) {
    this.format = format;
    this.write = write;
  }

  /** Takes what `add` will need of a head, which is there for a moment only. */
  take(head: Head | H2Head): RequestTexts {
    if (head instanceof H2Head) return textsOf(head);
    return {
      method: textOf(head, head.start, head.methodEnd),
      uri: textOf(head, head.targetStart, head.targetEnd),
      version: head.minor === 1 ? 'HTTP/1.1' : 'HTTP/1.0',
      host: textOf(head, head.authorityStart, head.authorityEnd),
      userAgent: fieldOf(head, USER_AGENT),
      referer: fieldOf(head, REFERER),
      traceId: traceIdOf(head),
    };
  }

  /**
   * Writes the line of a request that is over, or cut off as it stands.
   * @param texts undefined for what could not be read as a request
   * @param nowMs of `performance.now()`
   */
  add(
    decision: Decision,
    id: string,
    texts: RequestTexts | undefined,
    bytes: BodyBytes,
    nowMs: number,
  ): void {
    const format = this.format === 'json' ? jsonLine : apacheLine;
    this.write(`${format(decision, id, texts, bytes, nowMs)}\n`);
  }
}

/** `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`, as mod_log_config writes it; `%u` is the client's identity. */
function apacheLine(
  { client, identity, startedMs, status, outcome }: Decision,
  _id: string,
  texts: RequestTexts | undefined,
  bytes: BodyBytes,
  nowMs: number,
): string {
  const request = texts === undefined ? undefined : `${texts.method} ${texts.uri} ${texts.version}`;
  const sent = status === 0 ? (outcome === 'client left' ? CLIENT_LEFT : NO_STATUS) : status;
  const who = `${client?.ip ?? '-'} - ${escaped(identity?.text)} [${apacheTime(wallMs(startedMs, nowMs))}]`;
  const what = `"${escaped(request)}" ${sent} ${bytes.response === 0 ? '-' : bytes.response}`;
  return `${who} ${what} "${escaped(texts?.referer)}" "${escaped(texts?.userAgent)}"`;
}

/** What is not there, or does not apply, is absent. */
function jsonLine(
  decision: Decision,
  id: string,
  texts: RequestTexts | undefined,
  bytes: BodyBytes,
  nowMs: number,
): string {
  const { startedMs, answeredMs, status, outcome, error, message } = decision;
  const line = JSON.stringify({
    timestamp: new Date(wallMs(startedMs, nowMs)).toISOString(),
    direction: decision.direction,
    client_addr: decision.client?.toString(),
    client_id: decision.identity?.text,
    host: texts?.host || undefined,
    method: texts?.method,
    uri: texts?.uri,
    version: texts?.version,
    trace_id: texts?.traceId,
    user_agent: texts?.userAgent,
    referer: texts?.referer,
    request_bytes: bytes.request,
    response_bytes: bytes.response,
    status: status === 0 ? undefined : status,
    total_ns: Math.round((nowMs - startedMs) * NS_PER_MS),
    processing_ns: answeredMs < 0 ? undefined : Math.round((answeredMs - startedMs) * NS_PER_MS),
    endpoint: decision.kept().at(-1)?.endpoint?.address.toString(),
    error: error ?? (outcome === 'answered' ? undefined : outcome),
    message: message === '' ? undefined : message,
    decision: id,
  });
  return line.replaceAll(/[^\x20-\x7e]/g, unicodeEscape);
}

/** When something was, in ms since 1970, by the clock of today: it may have been set since the process began. */
function wallMs(thenMs: number, nowMs: number): number {
  return Date.now() - (nowMs - thenMs);
}

/** `21/Nov/2026:14:05:09 +0000` */
function apacheTime(ms: number): string {
  const [, day, month, year, time] = new Date(ms).toUTCString().split(' ');
  return `${day}/${month}/${year}:${time} +0000`;
}

/** As Apache's ap_escape_logitem; `-` for what is not there. */
function escaped(text: string | undefined): string {
  return text === undefined ? '-' : text.replaceAll(/[^\x20-\x7e]|["\\]/gu, apacheEscape);
}

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

/** Bytes beyond Latin-1, which no head has but a certificate might, are those of UTF-8. */
function apacheEscape(char: string): string {
  const short = SHORT_ESCAPES[char];
  if (short !== undefined) return short;
  const bytes = Buffer.from(char, char <= '\u00ff' ? 'latin1' : 'utf8');
  return bytes.toString('hex').replaceAll(/../g, '\\x$&');
}

function unicodeEscape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function textsOf({ methodField, path, authority, fields }: H2Head): RequestTexts {
  const value = (name: string): string | undefined => fieldValue(fields, name);
  return {
    method: latin1Text(methodField),
    // CONNECT has the authority for a target.
    uri: latin1Text(path ?? authority),
    version: 'HTTP/2.0',
    host: latin1Text(authority),
    userAgent: value('user-agent'),
    referer: value('referer'),
    traceId:
      TRACE_PARENT.exec(value('traceparent') ?? '')?.[1] ??
      TRACE_FIELDS.map((name) => value(Buffer.from(name).toString('latin1'))).find((id) => id !== undefined),
  };
}

function fieldValue({ items, count }: FieldList, name: string): string | undefined {
  for (let i = 0; i < count; i++)
    if (items[i].name.length === name.length && Buffer.from(items[i].name).toString('latin1') === name)
      return latin1Text(items[i]);
  return undefined;
}

function latin1Text(field: Field | undefined): string {
  return field === undefined ? '' : Buffer.from(field.value.subarray(0, TEXT_BYTES)).toString('latin1');
}

function textOf({ bytes }: Head, start: number, end: number): string {
  const { buffer, byteOffset, byteLength } = bytes;
  const stop = Math.min(end, start + TEXT_BYTES);
  return Buffer.from(buffer, byteOffset, byteLength).toString('latin1', start, stop);
}

function fieldOf(head: Head, name: Uint8Array): string | undefined {
  const field = head.find(name);
  return field < 0 ? undefined : textOf(head, head.fields[4 * field + 2], head.fields[4 * field + 3]);
}

function traceIdOf(head: Head): string | undefined {
  const parent = TRACE_PARENT.exec(fieldOf(head, TRACEPARENT) ?? '');
  if (parent !== null) return parent[1];
  for (const name of TRACE_FIELDS) {
    const id = fieldOf(head, name);
    if (id !== undefined) return id;
  }
  return undefined;
}
