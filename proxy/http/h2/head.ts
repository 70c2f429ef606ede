/** What a field list says as the head of a request or response, or as trailers: HTTP's rules for it (RFC 9113 section 8). */
import { METHOD } from '../names.ts';
import { type Field, FieldList } from './field.ts';

/** One head. Reused: each judgement begins anew, and what it found holds until the next. */
export class H2Head {
  /** Set by the owner: `l5d-*` fields come from a peer that may send them, and stay. */
  keepMesh = false;
  /** All fields that are forwarded, pseudo-header fields first. */
  readonly fields: FieldList = new FieldList();
  /** How many of them are pseudo-header fields. */
  pseudoCount = 0;
  /** METHOD number of a request. */
  method: number = METHOD.other;
  /** Pseudo-header fields of a request that are there. `authority` is Host when `:authority` is not there. */
  methodField: Field | undefined;
  scheme: Field | undefined;
  authority: Field | undefined;
  path: Field | undefined;
  /** `:protocol` of an extended CONNECT (RFC 8441). */
  protocol: Field | undefined;
  /** The canonical form of the path, when the path is not canonical as it is. */
  canonicalPath: Uint8Array | undefined;
  /** Of a response: 100 to 999. */
  status = 0;
  /** Bytes announced by Content-Length, -1: none were. */
  contentLength = -1;
  /** `te: trailers` is there. */
  teTrailers = false;
  /** `expect: 100-continue` is there. */
  expectContinue = false;
}
