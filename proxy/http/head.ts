/**
 * A message head as offsets: what request.ts and response.ts fill and write.ts reads.
 *
 * `framing` is what was announced, `body` what follows: a HEAD response announces what it does not send. The readers are in
 * request.ts and response.ts, limits in problems.ts, FIELD and METHOD in names.ts.
 */
import { FieldIndex } from './fields.ts';
import { METHOD } from './names.ts';
import { MAX_FIELDS, MAX_HEAD_BYTES, MAX_OWN_FIELDS } from './problems.ts';

/** More than any head of ours has, in bytes, where the one that came was within its limit. */
const OWN_HEAD_BYTES = 2 * MAX_HEAD_BYTES;

/** How a message says where its body ends. */
export const FRAMING = { none: 0, length: 1, chunked: 2 } as const;

/** What follows the head. */
export const BODY = {
  /** Nothing: the next message, or the other protocol behind 101 and a 2xx to CONNECT. */
  none: 0,
  /** `contentLength` bytes, at least 1. */
  length: 1,
  chunked: 2,
  /** Everything until the connection ends; responses only. */
  untilClose: 3,
} as const;

/** What an Upgrade field asks for, when it is the only protocol it names. */
export const PROTOCOL = { none: 0, websocket: 1, h2c: 2, other: 3 } as const;

/** One head, of a request or a response. Reused: each reading begins with `reset`. */
export class Head extends FieldIndex {
  /** Set by the owner, kept by `reset`: `l5d-*` fields come from a peer that may send them, and are forwarded. */
  keepMesh = false;
  /** How long it may be. */
  readonly mostBytes: number;
  /** Of the start line; an empty line before it is left out. */
  start = 0;
  /** How long it was when it was given up, in bytes; for describeProblem. */
  seenBytes = 0;
  /** HTTP/1.minor. */
  minor: 0 | 1 = 1;

  /** One of METHOD; of a response: that of its request. */
  method: number = METHOD.other;
  methodEnd = 0;
  targetStart = 0;
  targetEnd = 0;
  /** `asterisk` also for OPTIONS with an absolute target that has no path (RFC 9112 section 3.2.4). */
  form: 'origin' | 'absolute' | 'authority' | 'asterisk' = 'origin';
  /** Path and query; may be empty or begin with the query in absolute form. Equal in authority and asterisk form. */
  pathStart = 0;
  pathEnd = 0;
  /** Host and port: of the target if it names one, else of Host; equal when there is none. */
  authorityStart = 0;
  authorityEnd = 0;
  /** The target names the host. The Host field, if there is one, is dropped then and written anew from the authority. */
  targetNamesHost = false;

  /** 100 to 999. */
  status = 0;
  reasonStart = 0;
  reasonEnd = 0;

  /** One of FRAMING: what was announced and is written again. */
  framing: number = FRAMING.none;
  /** Bytes announced, -1 when none were. */
  contentLength = -1;
  /** One of BODY. */
  body: number = BODY.none;

  /** The sender will not use the connection after this message; HTTP/1.0 without `keep-alive` included. */
  close = false;
  /** `keep-alive` is named in Connection: HTTP/1.0 clients want to be answered so. */
  keepAlive = false;
  /** Upgrade is there and named in Connection, in HTTP/1.1. */
  upgrade = false;
  /** The value of the first Upgrade field. */
  upgradeStart = 0;
  upgradeEnd = 0;
  /** One of PROTOCOL. */
  protocol: number = PROTOCOL.none;
  /** `Expect: 100-continue`, in HTTP/1.1. */
  expectContinue = false;
  /** `TE: trailers` was there: written again. */
  teTrailers = false;
  /** `timeout` of a Keep-Alive field, -1: none. */
  keepAliveTimeoutMs = -1;

  /** @param isOurs what is read into it has been written here: with what was added it may be longer than what others may send */
  constructor(isOurs = false) {
    super(isOurs ? MAX_FIELDS + MAX_OWN_FIELDS : MAX_FIELDS);
    this.mostBytes = isOurs ? OWN_HEAD_BYTES : MAX_HEAD_BYTES;
  }

  /** Back to the values above, for a head at `start` of `bytes`. */
  reset(bytes: Uint8Array, start: number): void {
    this.bytes = bytes;
    this.start = start;
    this.fieldsStart = this.end = this.count = this.seenBytes = 0;
    this.minor = 1;
    this.method = METHOD.other;
    this.methodEnd = this.targetStart = this.targetEnd = this.pathStart = this.pathEnd = 0;
    this.form = 'origin';
    this.authorityStart = this.authorityEnd = 0;
    this.targetNamesHost = false;
    this.status = this.reasonStart = this.reasonEnd = 0;
    this.framing = FRAMING.none;
    this.contentLength = this.keepAliveTimeoutMs = -1;
    this.body = BODY.none;
    this.close = this.keepAlive = this.upgrade = this.expectContinue = this.teTrailers = false;
    this.upgradeStart = this.upgradeEnd = 0;
    this.protocol = PROTOCOL.none;
  }
}
