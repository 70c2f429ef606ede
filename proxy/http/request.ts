/** Request heads (RFC 9112 sections 2 and 3): one pass over the bytes, strictly. */
import { isAuthority } from './authority.ts';
import { BYTE, equalsFolded, LOWER, latin1, sameFolded, TARGET, TOKEN } from './bytes.ts';
import { lineEnd, MORE, readFields } from './fields.ts';
import { BODY, FRAMING, type Head } from './head.ts';
import { readHopFields } from './hop.ts';
import { FIELD, METHOD, methodId } from './names.ts';
import { PROBLEM } from './problems.ts';
import { giveUp, readVersion, VERSION_BYTES } from './start-line.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { cr: CR, space: SPACE, slash: SLASH, asterisk: ASTERISK, question: QUESTION } = BYTE;
const { host: HOST } = FIELD;
const { connect: CONNECT, options: OPTIONS } = METHOD;
const tokens = TOKEN;
const targets = TARGET;

const HTTP = latin1('http://');
const HTTPS = latin1('https://');

/**
 * Reads the request head at `from`, before which one empty line may be (RFC 9112 section 2.2). Nothing is kept between calls: with
 * more bytes it is read again from the start. What is no HTTP at all is told from its first wrong byte on, what fields mean
 * together when the head is whole.
 * @returns the offset behind the head; 0 when more bytes are needed; a negated PROBLEM
 */
export function readRequestHead(head: Head, bytes: Uint8Array, from: number, to: number): number {
  let start = from;
  if (from < to && bytes[from] === CR) {
    start = lineEnd(bytes, from, to);
    if (start <= 0) return start;
  }
  head.reset(bytes, start);
  const limit = Math.min(to, start + head.mostBytes);
  const lineStop = readRequestLine(head, bytes, start, limit);
  const end = lineStop > 0 ? readFields(head, bytes, lineStop, limit) : lineStop;
  if (end <= 0) return end === MORE ? giveUp(head, to) : end;
  const problem = readHopFields(head) || readHost(head);
  if (problem !== 0) return problem;
  if (head.framing === FRAMING.chunked) head.body = BODY.chunked;
  else if (head.contentLength > 0) head.body = BODY.length;
  // CONNECT has no content (RFC 9110 section 9.3.6), and its recipients disagree about one (Traefik CVE-2026-71324).
  if (head.method === CONNECT && head.body !== BODY.none) return -PROBLEM.connectWithBody;
  return end;
}

function readRequestLine(head: Head, bytes: Uint8Array, start: number, limit: number): number {
  let at = start;
  while (at < limit && tokens[bytes[at]] !== 0) at++;
  if (at === limit) return MORE;
  if (at === start || bytes[at] !== SPACE) return -PROBLEM.startLine;
  head.methodEnd = at;
  head.method = methodId(bytes, start, at);
  const targetStart = ++at;
  while (at < limit && targets[bytes[at]] !== 0) at++;
  if (at === limit) return MORE;
  if (at === targetStart || bytes[at] !== SPACE) return -PROBLEM.startLine;
  head.targetStart = targetStart;
  head.targetEnd = at;
  const problem = readTarget(head);
  if (problem !== 0) return problem;
  const version = readVersion(bytes, head.attach(bytes), at + 1, limit);
  if (version <= 0) return version;
  head.minor = version === 10 ? 0 : 1;
  return lineEnd(bytes, at + 1 + VERSION_BYTES, limit);
}

/** The four forms of RFC 9112 section 3.2, each for the methods that have it. */
function readTarget(head: Head): number {
  const { bytes, targetStart, targetEnd } = head;
  if (head.method === CONNECT) {
    head.form = 'authority';
    return takeAuthority(head, targetStart, targetEnd, true);
  }
  if (bytes[targetStart] === SLASH) {
    head.pathStart = targetStart;
    head.pathEnd = targetEnd;
    return 0;
  }
  if (bytes[targetStart] === ASTERISK && targetEnd - targetStart === 1) {
    head.form = 'asterisk';
    return head.method === OPTIONS ? 0 : -PROBLEM.target;
  }
  return readAbsoluteTarget(head);
}

function readAbsoluteTarget(head: Head): number {
  const { bytes, targetStart, targetEnd } = head;
  let start = targetStart;
  if (startsWith(bytes, start, targetEnd, HTTP)) start += HTTP.length;
  else if (startsWith(bytes, start, targetEnd, HTTPS)) start += HTTPS.length;
  else return -PROBLEM.target;
  let end = start;
  while (end < targetEnd && bytes[end] !== SLASH && bytes[end] !== QUESTION) end++;
  head.pathStart = end;
  head.pathEnd = targetEnd;
  head.form = end === targetEnd && head.method === OPTIONS ? 'asterisk' : 'absolute';
  return takeAuthority(head, start, end, false);
}

function startsWith(bytes: Uint8Array, start: number, end: number, word: Uint8Array): boolean {
  return end - start >= word.length && equalsFolded(bytes, start, start + word.length, word, LOWER);
}

function takeAuthority(head: Head, start: number, end: number, portRequired: boolean): number {
  if (!isAuthority(head.bytes, start, end, portRequired)) return -PROBLEM.target;
  head.authorityStart = start;
  head.authorityEnd = end;
  head.targetNamesHost = true;
  return 0;
}

/**
 * Exactly one Host in HTTP/1.1, at most one in 1.0 (RFC 9112 section 3.2); it may be empty. An absolute target must agree with it,
 * or a policy and an application would see two hosts. CONNECT wins over it without a comparison: common clients name
 * the proxy there, or leave out the port.
 */
function readHost(head: Head): number {
  const { bytes, fields, ids, dropped, count } = head;
  let host = -1;
  for (let i = 0; i < count; i++) {
    if (ids[i] !== HOST) continue;
    if (host >= 0) return -PROBLEM.hostRepeated;
    host = i;
  }
  if (host < 0) return head.minor === 1 ? -PROBLEM.hostMissing : 0;
  const start = fields[4 * host + 2];
  const end = fields[4 * host + 3];
  if (start !== end && !isAuthority(bytes, start, end, false)) return -PROBLEM.host;
  if (!head.targetNamesHost) {
    head.authorityStart = start;
    head.authorityEnd = end;
    // An empty one is written anew, since a better one may be known.
    if (start === end) dropped[host] = 1;
    return 0;
  }
  dropped[host] = 1;
  if (head.form === 'authority') return 0;
  return sameFolded(bytes, start, end, head.authorityStart, head.authorityEnd) ? 0 : -PROBLEM.hostMismatch;
}
