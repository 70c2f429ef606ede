/**
 * What a field list says as the head of a request or response, or as trailers: HTTP's rules for it (RFC 9113 section 8). What is
 * wrong with a single field is known already (Field.problem).
 *
 * The fields that remain are those that are forwarded, ready for an encoder: `:authority` instead of Host, the path in its canonical
 * form, no `l5d-*` from peers that may not send them.
 */
import { isAuthority } from '../authority.ts';
import { BYTE, equalsFolded, LOWER, latin1, TARGET, TOKEN } from '../bytes.ts';
import { FIELD, METHOD, methodId } from '../names.ts';
import { canonicalPath } from '../path.ts';
import { PROBLEM } from '../problems.ts';
import { type Field, FieldList, H2_FIELD, STATIC_FIELDS } from './field.ts';
import { fieldOf, internValue } from './interning.ts';
import { lastingList } from './lasting-lists.ts';
import { H2_PROBLEM, pathProblem } from './problems.ts';

// Imported bindings are loaded at every use, constants of this module are compiled in (see fields.ts).
const { other: OTHER, host: HOST, contentLength: CONTENT_LENGTH, te: TE, expect: EXPECT, mesh: MESH } = FIELD;
const { get: GET, post: POST, connect: CONNECT, options: OPTIONS, other: OTHER_METHOD } = METHOD;
const { firstRegular: FIRST_REGULAR, method: FIRST_PSEUDO, status: STATUS } = H2_FIELD;
const { zero: ZERO, nine: NINE, slash: SLASH, asterisk: ASTERISK } = BYTE;
const [targets, tokens] = [TARGET, TOKEN];

/** The fields that nearly all requests have; each is one object. */
const METHOD_GET = STATIC_FIELDS[2];
const METHOD_POST = STATIC_FIELDS[3];
const SCHEME_HTTP = STATIC_FIELDS[6];
const SCHEME_HTTPS = STATIC_FIELDS[7];
const STATUS_200 = STATIC_FIELDS[8];

const HTTP = latin1('http');
const HTTPS = latin1('https');
const CONTINUE = latin1('100-continue');
const AUTHORITY_NAME = fieldOf(':authority', '').label;
const PATH_NAME = fieldOf(':path', '').label;

/** The last ones that were found good: fields are interned, and clients ask for the same again and again. */
let lastAuthority: Field | undefined;
let lastPath: Field | undefined;

/** What a head was found to be. */
const JUDGED = { not: 0, request: 1, response: 2, trailers: 3 } as const;

const { request: REQUEST, response: RESPONSE, trailers: TRAILERS } = JUDGED;

/** One head. Reused: each judgement begins anew, and what it found holds until the next; but for those that last, which stay as they are. */
export class H2Head {
  /** One of JUDGED. */
  judged: number = JUDGED.not;
  /** `l5d-*` fields come from a peer that may send them, and stay. */
  keepMesh = false;
  /** Clients have been told that they may use `:protocol` (RFC 8441). */
  extendedConnect = false;
  /** What was decoded, and then what of it is forwarded. */
  readonly fields: FieldList;
  /** Of one that lasts: what of them goes on from its connection, where that is not all of them and nothing else. */
  forwarded: FieldList | undefined = undefined;
  /** How many of them are pseudo-header fields: those are the first. */
  pseudoCount = 0;
  /** METHOD number of a request. */
  method: number = METHOD.other;
  /** Pseudo-header fields of a request that are there; they are in `fields` too. */
  methodField: Field | undefined = undefined;
  scheme: Field | undefined = undefined;
  /** Host and port, from `:authority` or from Host. */
  authority: Field | undefined = undefined;
  /** The Host field, which is not forwarded: it agrees with the authority. */
  host: Field | undefined = undefined;
  /** In its canonical form. */
  path: Field | undefined = undefined;
  /** Of an extended CONNECT. */
  protocol: Field | undefined = undefined;
  /** Of a response: 100 to 999. */
  status = 0;
  /** Bytes announced by Content-Length, -1: none were. */
  contentLength = -1;
  /** `te: trailers` is there. */
  teTrailers = false;
  /** `expect: 100-continue` is there. */
  expectContinue = false;

  constructor(fields = new FieldList()) {
    this.fields = fields;
  }

  /** It and its fields are nobody's to change. */
  get isLasting(): boolean {
    return this.fields.lasts;
  }

  /** One like this that lasts. */
  lasting(): H2Head {
    return Object.assign(new H2Head(), this, { fields: lastingList(this.fields) });
  }

  /** Back to the values above, but for the fields and what the peer may do. */
  reset(): void {
    this.judged = JUDGED.not;
    this.pseudoCount = 0;
    this.method = METHOD.other;
    this.methodField = this.scheme = this.authority = this.host = this.path = this.protocol = undefined;
    this.status = 0;
    this.contentLength = -1;
    this.teTrailers = this.expectContinue = false;
  }
}

/** Judges `head.fields` as a request. @returns 0 or a number for describeH2Problem */
export function readRequest(head: H2Head): number {
  if (head.isLasting) return head.judged === REQUEST ? 0 : H2_PROBLEM.pseudoMissing;
  head.reset();
  head.judged = REQUEST;
  const { items, count } = head.fields;
  let at = 0;
  for (; at < count; at++) {
    const field = items[at];
    if (field.problem !== 0) return field.problem;
    if (!isPseudo(field.id)) break;
    const problem = takePseudo(head, field);
    if (problem !== 0) return problem;
  }
  head.pseudoCount = at;
  return readRegular(head) || readTarget(head);
}

/** Judges `head.fields` as a response. @returns 0 or a number for describeH2Problem */
export function readResponse(head: H2Head): number {
  if (head.isLasting) return head.judged === RESPONSE ? 0 : H2_PROBLEM.pseudoMissing;
  head.reset();
  head.judged = RESPONSE;
  const { items, count } = head.fields;
  if (count === 0) return H2_PROBLEM.pseudoMissing;
  const first = items[0];
  if (first.problem !== 0) return first.problem;
  if (first.id !== STATUS) return isPseudo(first.id) ? H2_PROBLEM.pseudoForeign : H2_PROBLEM.pseudoMissing;
  if (count > 1 && isPseudo(items[1].id)) {
    return items[1].id === STATUS ? H2_PROBLEM.pseudoRepeated : H2_PROBLEM.pseudoForeign;
  }
  head.status = first === STATUS_200 ? 200 : statusOf(first.value);
  // 101 has no meaning here (RFC 9113 section 8.6).
  if (head.status < 100 || head.status === 101) return H2_PROBLEM.status;
  head.pseudoCount = 1;
  return readRegular(head);
}

/**
 * Judges `head.fields` as trailers. Fields that mean something before the content cannot mean it behind it (RFC 9110 section 6.5.1), and
 * are taken out. @returns 0 or a number for describeH2Problem
 */
export function readTrailers(head: H2Head): number {
  if (head.isLasting) return head.judged === TRAILERS ? 0 : H2_PROBLEM.pseudoInTrailers;
  head.reset();
  head.judged = TRAILERS;
  const { fields } = head;
  const { items, count } = fields;
  let kept = 0;
  for (let i = 0; i < count; i++) {
    const field = items[i];
    if (field.problem !== 0) return field.problem;
    if (isPseudo(field.id)) return H2_PROBLEM.pseudoInTrailers;
    if (isPlain(field.id)) items[kept++] = field;
    else fields.size -= field.size;
  }
  fields.count = kept;
  return 0;
}

/** Whether a block that was decoded is the head of a message, and no trailers. */
export function startsWithPseudo(fields: FieldList): boolean {
  return fields.count > 0 && isPseudo(fields.items[0].id);
}

/** METHOD number of a request that is to be sent. */
export function methodOf(fields: FieldList): number {
  const { items, count } = fields;
  for (let i = 0; i < count; i++) {
    if (items[i].id === H2_FIELD.method) return methodNumber(items[i]);
  }
  return OTHER_METHOD;
}

function isPseudo(id: number): boolean {
  return id >= FIRST_PSEUDO && id < FIRST_REGULAR;
}

/** A regular field that no rule speaks about. */
function isPlain(id: number): boolean {
  return id === OTHER || id >= FIRST_REGULAR;
}

function methodNumber(field: Field): number {
  if (field === METHOD_GET) return GET;
  if (field === METHOD_POST) return POST;
  return field.value.length === 0 ? OTHER_METHOD : methodId(field.value, 0, field.value.length);
}

function takePseudo(head: H2Head, field: Field): number {
  switch (field.id) {
    case H2_FIELD.method:
      if (head.methodField !== undefined) return H2_PROBLEM.pseudoRepeated;
      head.methodField = field;
      head.method = methodNumber(field);
      return head.method === OTHER_METHOD && !isToken(field.value) ? H2_PROBLEM.method : 0;
    case H2_FIELD.scheme:
      if (head.scheme !== undefined) return H2_PROBLEM.pseudoRepeated;
      head.scheme = field;
      return isScheme(field) ? 0 : H2_PROBLEM.scheme;
    case H2_FIELD.authority:
      if (head.authority !== undefined) return H2_PROBLEM.pseudoRepeated;
      head.authority = field;
      return 0;
    case H2_FIELD.path:
      if (head.path !== undefined) return H2_PROBLEM.pseudoRepeated;
      head.path = field;
      return 0;
    case H2_FIELD.protocol:
      if (head.protocol !== undefined) return H2_PROBLEM.pseudoRepeated;
      head.protocol = field;
      return isToken(field.value) ? 0 : H2_PROBLEM.protocol;
    default:
      return H2_PROBLEM.pseudoForeign;
  }
}

function isScheme(field: Field): boolean {
  if (field === SCHEME_HTTP || field === SCHEME_HTTPS) return true;
  const { value } = field;
  return (
    equalsFolded(value, 0, value.length, HTTP, LOWER) || equalsFolded(value, 0, value.length, HTTPS, LOWER)
  );
}

function isToken(value: Uint8Array): boolean {
  for (let i = 0; i < value.length; i++) if (tokens[value[i]] === 0) return false;
  return value.length > 0;
}

/** Digits without a sign; 0 for everything else. */
function statusOf(value: Uint8Array): number {
  if (value.length !== 3) return 0;
  let status = 0;
  for (let i = 0; i < 3; i++) {
    if (value[i] < ZERO || value[i] > NINE) return 0;
    status = status * 10 + value[i] - ZERO;
  }
  return status;
}

/** Everything behind the pseudo-header fields; what is not forwarded is taken out. */
function readRegular(head: H2Head): number {
  const { fields } = head;
  const { items, count } = fields;
  let kept = head.pseudoCount;
  for (let i = kept; i < count; i++) {
    const field = items[i];
    if (field.problem !== 0) return field.problem;
    if (!isPlain(field.id)) {
      const problem = takeRegular(head, field);
      if (problem > 0) return problem;
      if (problem === DROP) {
        fields.size -= field.size;
        continue;
      }
    }
    if (kept !== i) items[kept] = field;
    kept++;
  }
  fields.count = kept;
  return 0;
}

/** What takeRegular says of a field that is not forwarded. */
const DROP = -1;

function takeRegular(head: H2Head, field: Field): number {
  switch (field.id) {
    case CONTENT_LENGTH:
      if (head.contentLength >= 0) return H2_PROBLEM.contentLengthRepeated;
      head.contentLength = lengthOf(field.value);
      return head.contentLength < 0 ? H2_PROBLEM.contentLength : 0;
    case HOST:
      return head.methodField === undefined ? 0 : takeHost(head, field);
    case TE:
      head.teTrailers = true;
      return 0;
    case EXPECT:
      if (equalsFolded(field.value, 0, field.value.length, CONTINUE, LOWER)) head.expectContinue = true;
      return 0;
    case MESH:
      return head.keepMesh ? 0 : DROP;
    default:
      return isPseudo(field.id) ? H2_PROBLEM.pseudoOrder : 0;
  }
}

/** Digits only, once, as in HTTP/1 (hop.ts); -1 for everything else. */
function lengthOf(value: Uint8Array): number {
  let length = value.length === 0 ? -1 : 0;
  for (let i = 0; i < value.length; i++) {
    if (value[i] < ZERO || value[i] > NINE) return -1;
    length = length * 10 + value[i] - ZERO;
    if (length > Number.MAX_SAFE_INTEGER) return -1;
  }
  return length;
}

/**
 * Host must agree with `:authority`, or a policy and an application would see two hosts; without one it is the authority (RFC 9113
 * section 8.3.1). Two are refused even when they agree, as in HTTP/1.
 */
function takeHost(head: H2Head, field: Field): number {
  if (head.host !== undefined) return H2_PROBLEM.hostRepeated;
  head.host = field;
  if (head.authority === undefined) return DROP;
  return sameHost(field.value, head.authority.value) ? DROP : H2_PROBLEM.hostMismatch;
}

function sameHost(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (LOWER[one[i]] !== LOWER[other[i]]) return false;
  return true;
}

/** Which pseudo-header fields must be there, and where the request goes (RFC 9113 sections 8.3.1 and 8.5, RFC 8441 section 4). */
function readTarget(head: H2Head): number {
  if (head.methodField === undefined) return H2_PROBLEM.pseudoMissing;
  const plainConnect = head.method === CONNECT && head.protocol === undefined;
  const problem = readAuthority(head, plainConnect);
  if (problem !== 0) return problem;
  if (plainConnect) {
    if (head.scheme !== undefined || head.path !== undefined) return H2_PROBLEM.connect;
    // As in HTTP/1: its recipients disagree about content that is announced.
    return head.contentLength > 0 ? H2_PROBLEM.connectWithContent : 0;
  }
  if (head.scheme === undefined || head.path === undefined) return H2_PROBLEM.pseudoMissing;
  if (head.protocol !== undefined) {
    if (head.method !== CONNECT || !head.extendedConnect) return H2_PROBLEM.protocol;
    if (head.authority === undefined) return H2_PROBLEM.pseudoMissing;
  }
  return readPath(head, head.path);
}

function readAuthority(head: H2Head, plainConnect: boolean): number {
  if (head.authority === undefined && head.host !== undefined) {
    const { value } = head.host;
    head.authority = internValue(AUTHORITY_NAME, value, 0, value.length, false);
    insertPseudo(head, head.authority);
  }
  const { authority } = head;
  if (authority === undefined) return plainConnect ? H2_PROBLEM.connect : 0;
  const { value } = authority;
  if (value.length === 0 && !plainConnect) {
    // As an empty Host: whoever forwards it may know a better one.
    removePseudo(head, authority);
    head.authority = undefined;
    return 0;
  }
  if (authority === lastAuthority && !plainConnect) return 0;
  if (!isAuthority(value, 0, value.length, plainConnect)) {
    return plainConnect ? H2_PROBLEM.connect : H2_PROBLEM.authority;
  }
  lastAuthority = authority;
  return 0;
}

function readPath(head: H2Head, path: Field): number {
  if (path === lastPath) return 0;
  const { value } = path;
  const end = value.length;
  if (end === 1 && value[0] === ASTERISK && head.method === OPTIONS) return 0;
  if (end === 0 || value[0] !== SLASH) return H2_PROBLEM.path;
  // In HTTP/1 a space would end the target.
  for (let i = 0; i < end; i++) if (targets[value[i]] === 0) return H2_PROBLEM.path;
  const canonical = canonicalPath(value, 0, end);
  // Package registries and forges have encoded slashes in names; they are forwarded as they came, as in HTTP/1.
  if (canonical === 0 || canonical === -PROBLEM.pathEncodedSlash) {
    lastPath = path;
    return 0;
  }
  if (typeof canonical === 'number') return pathProblem(canonical);
  head.path = internValue(PATH_NAME, canonical, 0, canonical.length, false);
  const { fields } = head;
  fields.items[fields.items.indexOf(path)] = head.path;
  fields.size += head.path.size - path.size;
  return 0;
}

/** Puts a field behind the pseudo-header fields that are there. */
function insertPseudo(head: H2Head, field: Field): void {
  const { fields } = head;
  const { items } = fields;
  for (let i = fields.count; i > head.pseudoCount; i--) items[i] = items[i - 1];
  items[head.pseudoCount++] = field;
  fields.count++;
  fields.size += field.size;
}

function removePseudo(head: H2Head, field: Field): void {
  const { fields } = head;
  fields.items.splice(fields.items.indexOf(field), 1);
  head.pseudoCount--;
  fields.count--;
  fields.size -= field.size;
}
