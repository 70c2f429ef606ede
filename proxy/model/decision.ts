/**
 * What was decided for one request, and by which figures: what `ferrule explain` shows. Objects are used again and again, so that
 * a record costs a request some stores and no memory of its own; `forward/decisions.ts` keeps them.
 */
import type { PeerAddress } from '../core/address.ts';
import type { PeerIdentity } from '../core/identity.ts';
import { H2Head } from '../http/h2/head.ts';
import type { Head } from '../http/head.ts';
import { METHOD } from '../http/names.ts';
import { isFailure } from '../metrics/http.ts';
import type { HttpErrorReason } from '../metrics/http-worker.ts';
import { type Direction, NO_BYTES, type ProxyConnection } from './connection.ts';
import type { Endpoint } from './endpoint.ts';
import type { AttemptOutcome, DecisionOutcome } from './explanation.ts';
import { PickRecord } from './pick.ts';

/** Bytes kept of an authority, as long as one may be (a DNS name and a port), and of a path. */
const TEXT_BYTES = 320;

/** Attempts whose figures are kept; of a request that takes more, the first ones and the last one. */
const MAX_ATTEMPTS = 4;

/** A time that was not reached. No whole number, so that V8 keeps the fields as the doubles they become. */
const NEVER = -0.5;

const QUESTION_MARK = 0x3f;

/** One endpoint that a request was given to, and why. */
export class Attempt extends PickRecord {
  endpoint: Endpoint | undefined;
  /** It was spoken to in HTTP/2. */
  isHttp2 = false;
  /** Exchanges its connection had carried before; -1 for a new one. */
  served = -1;
  /** In ms of `performance.now()`. */
  startedMs = NEVER;
  outcome: AttemptOutcome = 'under way';
  /** Why it failed; empty when it did not. */
  detail = '';
}

/**
 * One request. Times are of `performance.now()` in ms, below 0 when not reached.
 *
 * Hundreds are written before one is written again, and are in no near cache by then: each object that has to be looked up on the way
 * to another is waited for, and what the last attempt was is two away.
 */
export class Decision {
  /** 1 and up, in the order in which requests began. */
  sequence = 0;
  direction: Direction = 'outbound';
  client: PeerAddress | undefined;
  identity: PeerIdentity | undefined;
  /** Where the client wanted to go. */
  target = '';
  /** How long it took to tell what the client speaks. */
  detectedAfterMs = NEVER;
  /** The client speaks HTTP/2. */
  isHttp2 = false;
  /** One of METHOD; below 0 when the request could not be read. */
  method = -1;
  /** What begins with the authority, and what has the path without its query: secrets travel there. */
  authority: Uint8Array = NO_BYTES;
  authorityLength = 0;
  path: Uint8Array = NO_BYTES;
  pathStart = 0;
  pathEnd = 0;
  startedMs = NEVER;
  /** How long a gRPC call may take, by what its client says. */
  deadlineMs = NEVER;
  /** When it was last sent. */
  sentMs = NEVER;
  /** When the head of the response came. */
  answeredMs = NEVER;
  endedMs = NEVER;
  outcome: DecisionOutcome = 'under way';
  /** 0 when there was none. */
  status = 0;
  /** Of a gRPC call; -1 when there was none. */
  grpcStatus = -1;
  /** Of an answer of the proxy: what spoke, and with which value. */
  error: HttpErrorReason | undefined;
  message = '';
  /** Attempts that were made; the first MAX_ATTEMPTS - 1 and the last are kept. */
  tries = 0;
  /** Means nothing before there was one. */
  private last = new Attempt();
  private readonly earlier: Attempt[] = [];
  /** What had to be copied: the authority, and behind it the path. */
  private readonly text = new Uint8Array(TEXT_BYTES);

  /** A request begins, or something that could not be read as one; nothing of the one before is left. */
  begin(sequence: number, connection: ProxyConnection, head: Head | H2Head | undefined, nowMs: number): void {
    this.sequence = sequence;
    this.direction = connection.direction;
    this.client = connection.peer;
    this.identity = connection.clientIdentity;
    this.target = connection.target?.key ?? '';
    this.detectedAfterMs = connection.detectedAfterMs;
    this.startedMs = nowMs;
    this.deadlineMs = this.sentMs = this.answeredMs = this.endedMs = NEVER;
    this.outcome = 'under way';
    if (this.tries > 1) this.earlier.length = 0;
    this.status = this.tries = 0;
    this.grpcStatus = -1;
    this.error = undefined;
    this.message = '';
    this.method = head?.method ?? -1;
    this.authorityLength = this.pathStart = this.pathEnd = 0;
    this.isHttp2 = head instanceof H2Head;
    if (head instanceof H2Head) this.keepFields(head);
    else if (head !== undefined) this.keepText(head);
  }

  /** It is given to an endpoint. `pick`: why to this one, where there was a choice. */
  attempt(
    endpoint: Endpoint,
    pick: PickRecord | undefined,
    isHttp2: boolean,
    served: number,
    nowMs: number,
  ): void {
    if (this.tries++ > 0 && this.earlier.length < MAX_ATTEMPTS - 1) {
      this.earlier.push(this.last);
      this.last = new Attempt();
    }
    const attempt = this.last;
    attempt.endpoint = endpoint;
    attempt.isHttp2 = isHttp2;
    attempt.served = served;
    attempt.startedMs = nowMs;
    attempt.outcome = 'under way';
    attempt.detail = '';
    if (pick === undefined) attempt.clear();
    else attempt.copy(pick);
  }

  /** The last attempt ended. */
  attempted(outcome: AttemptOutcome, detail: string): void {
    if (this.tries === 0) return;
    this.last.outcome = outcome;
    this.last.detail = detail;
  }

  /** The attempts that were kept, in their order. */
  kept(): readonly Attempt[] {
    return this.tries === 0 ? [] : [...this.earlier, this.last];
  }

  /** Something about it was not as usual: it is kept for longer. */
  get notable(): boolean {
    return this.outcome !== 'answered' || this.tries > 1 || isFailure(this.status, this.grpcStatus);
  }

  /** Fields stay what they are, and are not copied, unless that would keep more than is needed. */
  private keepFields(head: H2Head): void {
    const authority = head.authority?.value ?? NO_BYTES;
    const path = head.path?.value ?? NO_BYTES;
    if (authority.length + path.length > TEXT_BYTES || hasQuery(path)) {
      this.keepAuthority(authority, 0, authority.length);
      return this.keepPath(path, 0, path.length);
    }
    this.authority = authority;
    this.authorityLength = authority.length;
    this.path = path;
    this.pathEnd = path.length;
  }

  /** CONNECT has no path. */
  private keepText({ bytes, method, authorityStart, authorityEnd, pathStart, pathEnd }: Head): void {
    this.keepAuthority(bytes, authorityStart, authorityEnd);
    if (method !== METHOD.connect) this.keepPath(bytes, pathStart, pathEnd);
  }

  private keepAuthority(bytes: Uint8Array, from: number, to: number): void {
    this.authority = this.text;
    this.authorityLength = this.keep(bytes, from, to, 0);
  }

  private keepPath(bytes: Uint8Array, from: number, to: number): void {
    this.path = this.text;
    this.pathStart = this.authorityLength;
    this.pathEnd = this.keep(bytes, from, to, this.pathStart);
  }

  /** Copies up to a query. @returns behind what was copied */
  private keep(bytes: Uint8Array, from: number, to: number, start: number): number {
    const { text } = this;
    let end = start;
    for (let at = from; at < to && end < TEXT_BYTES && bytes[at] !== QUESTION_MARK; at++)
      text[end++] = bytes[at];
    return end;
  }
}

function hasQuery(path: Uint8Array): boolean {
  for (let i = 0; i < path.length; i++) if (path[i] === QUESTION_MARK) return true;
  return false;
}
