/** Responses the proxy makes itself, as fields of HTTP/2: those of answer.ts, and for gRPC a status of its own. */
import type { HttpErrorReason } from '../metrics/http-worker.ts';
import { answerBody, answerType, type LocalAnswer, printable } from './answer.ts';
import { GRPC, percentEncoded } from './grpc.ts';
import type { FieldList } from './h2/field.ts';
import { statusField } from './h2/from-http1.ts';
import { fieldOf } from './h2/interning.ts';

/**
 * The gRPC code for what went wrong. UNAVAILABLE where trying again may help, which clients and libraries do by themselves; INTERNAL
 * where one side does not speak the protocol, as clients say when they meet that themselves.
 */
export const GRPC_OF_REASON: Readonly<Record<HttpErrorReason, number>> = {
  failfast: GRPC.unavailable,
  loadshed: GRPC.unavailable,
  'identity required': GRPC.unavailable,
  'i/o': GRPC.unavailable,
  'response timeout': GRPC.deadlineExceeded,
  unexpected: GRPC.internal,
  bad_request: GRPC.internal,
  bad_response: GRPC.internal,
  connect: GRPC.unavailable,
  head_timeout: GRPC.unavailable,
};

const GRPC_TYPE = fieldOf('content-type', 'application/grpc');

/**
 * A response to a request that is not gRPC, in place of what `into` had.
 * @param json the client prefers JSON to text
 * @param head leave the body out, as for HEAD
 * @returns the body, which may be empty
 */
export function answerFields(answer: LocalAnswer, json: boolean, head: boolean, into: FieldList): Uint8Array {
  const body = Buffer.from(answerBody(answer, json), 'utf8');
  into.clear();
  into.push(statusField(answer.status));
  into.push(fieldOf('content-type', answerType(json)));
  into.push(fieldOf('content-length', String(body.length)));
  pushOwn(answer, into);
  return head ? body.subarray(0, 0) : body;
}

/**
 * A response to a gRPC call that is only trailers: one head with which the stream ends. In place of what `into` had.
 * @param code one of GRPC
 */
export function grpcAnswerFields(answer: LocalAnswer, code: number, into: FieldList): void {
  into.clear();
  into.push(statusField(200));
  into.push(GRPC_TYPE);
  pushStatus(answer, code, into);
}

/** The trailers of a gRPC call whose response has begun and cannot go on. In place of what `into` had. */
export function grpcTrailerFields(answer: LocalAnswer, code: number, into: FieldList): void {
  into.clear();
  pushStatus(answer, code, into);
}

/** Clients show the message and nothing else. */
function pushStatus(answer: LocalAnswer, code: number, into: FieldList): void {
  into.push(fieldOf('grpc-status', String(code)));
  into.push(
    fieldOf('grpc-message', percentEncoded(`${answer.message.trim()} (decision ${answer.decision})`)),
  );
  pushOwn(answer, into);
}

function pushOwn({ message, decision }: LocalAnswer, into: FieldList): void {
  into.push(fieldOf('l5d-proxy-error', printable(message)));
  into.push(fieldOf('l5d-proxy-decision', decision));
}
