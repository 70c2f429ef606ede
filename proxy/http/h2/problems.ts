/**
 * What can be wrong with a message in HTTP/2 (RFC 9113 section 8), as numbers in one space with FIELD_PROBLEM and, behind
 * PATH_PROBLEMS, with the problems of paths in http/problems.ts. All of them are errors of the stream.
 */
import { describeProblem } from '../problems.ts';
import { describeFieldProblem, MAX_LIST_BYTES, MAX_LIST_FIELDS } from './field.ts';
import { HPACK_PROBLEM } from './hpack-decoder.ts';

/** Problem numbers; describeH2Problem has their words. Below 32 is FIELD_PROBLEM. */
export const H2_PROBLEM = {
  fieldsTooLarge: 32,
  tooManyFields: 33,
  pseudoOrder: 34,
  pseudoRepeated: 35,
  pseudoMissing: 36,
  pseudoForeign: 37,
  pseudoInTrailers: 38,
  method: 39,
  scheme: 40,
  authority: 41,
  hostRepeated: 42,
  hostMismatch: 43,
  path: 44,
  connect: 45,
  protocol: 46,
  status: 47,
  contentLength: 48,
  contentLengthRepeated: 49,
  contentLengthMismatch: 50,
  interimEnd: 52,
  trailersEnd: 53,
  headMissing: 54,
  connectWithContent: 55,
  afterEnd: 56,
  windowOverrun: 57,
  windowOverflow: 58,
  windowIncrement: 59,
  interimFlood: 60,
  selfDependency: 61,
  priorityLength: 62,
  stalled: 63,
} as const;

/** Added to the PROBLEM numbers of paths. */
const PATH_PROBLEMS = 100;

const TEXTS: Readonly<Record<number, string>> = {
  [H2_PROBLEM.fieldsTooLarge]: `the header fields are longer than ${MAX_LIST_BYTES} bytes, 32 for each included`,
  [H2_PROBLEM.tooManyFields]: `there are more than ${MAX_LIST_FIELDS} header fields`,
  [H2_PROBLEM.pseudoOrder]: 'a pseudo-header field is behind a regular one (RFC 9113 section 8.3)',
  [H2_PROBLEM.pseudoRepeated]: 'a pseudo-header field is there twice (RFC 9113 section 8.3)',
  [H2_PROBLEM.pseudoMissing]: 'a pseudo-header field is missing (RFC 9113 section 8.3)',
  [H2_PROBLEM.pseudoForeign]:
    'a pseudo-header field belongs to another kind of message (RFC 9113 section 8.3)',
  [H2_PROBLEM.pseudoInTrailers]: 'the trailers have a pseudo-header field (RFC 9113 section 8.3)',
  [H2_PROBLEM.method]: 'the method is no token (RFC 9113 section 8.3.1)',
  [H2_PROBLEM.scheme]: 'the scheme is neither http nor https (RFC 9113 section 8.3.1)',
  [H2_PROBLEM.authority]:
    'the authority is no host name or address with an optional port (RFC 9113 section 8.3.1)',
  [H2_PROBLEM.hostRepeated]: 'there is more than one Host field (RFC 9113 section 8.3.1)',
  [H2_PROBLEM.hostMismatch]: 'the Host field and the authority name different hosts (RFC 9113 section 8.3.1)',
  [H2_PROBLEM.path]:
    'the path does not begin with a slash, or has a byte that no path has (RFC 9113 section 8.3.1)',
  [H2_PROBLEM.connect]: 'CONNECT has a scheme or a path, or no authority with a port (RFC 9113 section 8.5)',
  [H2_PROBLEM.protocol]: 'the protocol field is not allowed, or is no token (RFC 8441 section 4)',
  [H2_PROBLEM.status]: 'the status is not three digits that a response may have (RFC 9113 section 8.3.2)',
  [H2_PROBLEM.contentLength]: 'Content-Length is not one decimal number below 2^53 (RFC 9113 section 8.1.1)',
  [H2_PROBLEM.contentLengthRepeated]: 'there is more than one Content-Length field (RFC 9113 section 8.1.1)',
  [H2_PROBLEM.contentLengthMismatch]:
    'the content is not as long as Content-Length says, or as the kind of response has it (RFC 9113 section 8.1.1)',
  [H2_PROBLEM.interimEnd]: 'an interim response (1xx) ends the stream (RFC 9113 section 8.1)',
  [H2_PROBLEM.trailersEnd]: 'the trailers do not end the stream (RFC 9113 section 8.1)',
  [H2_PROBLEM.headMissing]: 'there is content before the head (RFC 9113 section 8.1)',
  [H2_PROBLEM.connectWithContent]: 'CONNECT announces content (RFC 9113 section 8.5)',
  [H2_PROBLEM.afterEnd]: 'there is a frame behind the end of the stream (RFC 9113 section 5.1)',
  [H2_PROBLEM.windowOverrun]:
    'there is more content than the window of the stream allows (RFC 9113 section 6.9.1)',
  [H2_PROBLEM.windowOverflow]:
    'the window of the stream was opened beyond 2^31-1 bytes (RFC 9113 section 6.9.1)',
  [H2_PROBLEM.windowIncrement]: 'the window of the stream was opened by nothing (RFC 9113 section 6.9)',
  [H2_PROBLEM.interimFlood]: 'there are too many interim responses (1xx)',
  [H2_PROBLEM.selfDependency]: 'the stream depends on itself',
  [H2_PROBLEM.priorityLength]: 'a PRIORITY frame is not 5 bytes long (RFC 9113 section 6.3)',
  [H2_PROBLEM.stalled]: 'the windows of the stream or its connection stayed closed for too long',
};

/** A problem for people and for a client's answer: the end of a sentence, and the status of the answer. */
export function describeH2Problem(problem: number): { readonly status: 400 | 431; readonly text: string } {
  if (problem >= PATH_PROBLEMS)
    return { status: 400, text: describeProblem(problem - PATH_PROBLEMS, 0).text };
  const text = TEXTS[problem] ?? describeFieldProblem(problem);
  return { status: isTooLarge(problem) ? 431 : 400, text };
}

/** The head is over a limit, which is no violation of the protocol. */
export function isTooLarge(problem: number): boolean {
  return problem === H2_PROBLEM.fieldsTooLarge || problem === H2_PROBLEM.tooManyFields;
}

/** The number of what canonicalPath says: a negated PROBLEM. */
export function pathProblem(negated: number): number {
  return PATH_PROBLEMS - negated;
}

/** The H2_PROBLEM number of a list that is over a limit, 0: it is not. */
export function limitProblem(problem: number): number {
  if (problem === HPACK_PROBLEM.none) return 0;
  return problem === HPACK_PROBLEM.tooManyFields ? H2_PROBLEM.tooManyFields : H2_PROBLEM.fieldsTooLarge;
}
