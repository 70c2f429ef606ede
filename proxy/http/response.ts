/** Response heads (RFC 9112 section 4), and where the body of a response ends (section 6.3). As strict as for requests. */
import { BYTE, VALUE } from './bytes.ts';
import { lineEnd, MORE, readFields } from './fields.ts';
import { BODY, FRAMING, type Head } from './head.ts';
import { readHopFields } from './hop.ts';
import { METHOD } from './names.ts';
import { PROBLEM } from './problems.ts';
import { giveUp, readVersion, VERSION_BYTES } from './start-line.ts';

/**
 * Reads the response head at `from`. Interim responses (1xx) are heads of their own: read on behind them.
 * @param method METHOD number of the request, which decides whether there is a body
 * @returns the offset behind the head; 0 when more bytes are needed; a negated PROBLEM
 */
export function readResponseHead(
  head: Head,
  bytes: Uint8Array,
  from: number,
  to: number,
  method: number,
): number {
  head.reset(bytes, from);
  head.method = method;
  const limit = Math.min(to, from + head.mostBytes);
  const lineStop = readStatusLine(head, bytes, from, limit);
  const end = lineStop > 0 ? readFields(head, bytes, lineStop, limit) : lineStop;
  if (end <= 0) return end === MORE ? giveUp(head, to) : end;
  const problem = readHopFields(head) || judgeBody(head);
  return problem === 0 ? end : problem;
}

/** The space behind the status may be missing when there is no reason: some servers leave it out, and nothing depends on it. */
function readStatusLine(head: Head, bytes: Uint8Array, from: number, limit: number): number {
  const version = readVersion(bytes, head.attach(bytes), from, limit);
  if (version <= 0) return version;
  head.minor = version === 10 ? 0 : 1;
  let at = from + VERSION_BYTES;
  if (at >= limit) return MORE;
  if (bytes[at++] !== BYTE.space) return -PROBLEM.statusLine;
  let status = 0;
  for (const stop = at + 3; at < stop; at++) {
    if (at >= limit) return MORE;
    const byte = bytes[at];
    if (byte < BYTE.zero || byte > BYTE.nine) return -PROBLEM.statusLine;
    status = status * 10 + byte - BYTE.zero;
  }
  if (status < 100) return -PROBLEM.statusLine;
  head.status = status;
  if (at >= limit) return MORE;
  if (bytes[at] === BYTE.space) at++;
  else if (bytes[at] !== BYTE.cr) return -PROBLEM.statusLine;
  head.reasonStart = at;
  const value = VALUE;
  while (at < limit && value[bytes[at]] !== 0) at++;
  head.reasonEnd = at;
  return lineEnd(bytes, at, limit);
}

/** RFC 9112 section 6.3, in its order. */
function judgeBody(head: Head): number {
  const { status, method } = head;
  if (status < 200) return judgeInterim(head);
  const tunnel = method === METHOD.connect && status < 300;
  if (tunnel || status === 204) {
    // Neither may announce a body (sections 6.1 and 6.2), and what is announced must be ignored. A server that means
    // it sends bytes that nobody asked for next: its connection is not used again.
    if (!tunnel && (head.framing === FRAMING.chunked || head.contentLength > 0)) head.close = true;
    head.framing = FRAMING.none;
    head.contentLength = -1;
    return 0;
  }
  if (method === METHOD.head || status === 304) return 0;
  if (head.framing === FRAMING.chunked) head.body = BODY.chunked;
  else if (head.contentLength > 0) head.body = BODY.length;
  else if (head.framing === FRAMING.none) {
    head.body = BODY.untilClose;
    head.close = true;
  }
  return 0;
}

/** A body behind an interim response would be read as the final one: refused, but for the empty one that some servers send with 101. */
function judgeInterim(head: Head): number {
  if (head.framing === FRAMING.chunked || head.contentLength > 0) return -PROBLEM.bodyOnInterim;
  head.framing = FRAMING.none;
  head.contentLength = -1;
  return 0;
}
