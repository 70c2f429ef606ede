/** Responses the proxy makes itself. Each says what happened, in words. */
import { reasonOf } from './reasons.ts';

/** What to answer. */
export interface LocalAnswer {
  /** 400 to 599. */
  readonly status: number;
  /** What spoke: a rule, a timer or a limit, with its value. Also the value of `l5d-proxy-error`. */
  readonly message: string;
  /** Id of the record that tells more; see `ferrule explain`. */
  readonly decision: string;
}

const END_OF_HEAD = '\r\n\r\n';

/**
 * The whole response as HTTP/1.1 bytes.
 * @param json the client prefers JSON to text
 * @param head leave the body out, as for HEAD
 * @param close say that the connection ends
 */
export function encodeAnswer(answer: LocalAnswer, json: boolean, head: boolean, close: boolean): Uint8Array {
  const { status, message, decision } = answer;
  const body = answerBody(answer, json);
  const lines = [
    `HTTP/1.1 ${status} ${reasonOf(status)}`,
    `content-type: ${answerType(json)}`,
    `content-length: ${Buffer.byteLength(body)}`,
    `l5d-proxy-error: ${printable(message)}`,
    `l5d-proxy-decision: ${decision}`,
    ...(close ? ['connection: close'] : []),
    '',
    head ? '' : body,
  ];
  return Buffer.from(lines.join('\r\n'), 'utf8');
}

/** Length of the body in what `encodeAnswer` made, in bytes. */
export function bodyLength({ buffer, byteOffset, length }: Uint8Array): number {
  return length - Buffer.from(buffer, byteOffset, length).indexOf(END_OF_HEAD) - END_OF_HEAD.length;
}

/** The body of an answer: a line of text, or of JSON. */
export function answerBody({ status, message, decision }: LocalAnswer, json: boolean): string {
  const line = json
    ? JSON.stringify({ status, error: message, decision })
    : `${message} (decision ${decision})`;
  return `${line}\n`;
}

/** The content type of an answer's body. */
export function answerType(json: boolean): string {
  return json ? 'application/json' : 'text/plain; charset=utf-8';
}

/** What a field value may hold: names from configuration and peers may be in the message. */
export function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').trim();
}
