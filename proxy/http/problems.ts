/**
 * What can be wrong with a message, as numbers, since readers must not allocate. A reader returns a problem negated; the status
 * is what a client is answered, a response that has a problem makes the answer 502.
 */

/** Longest head in bytes from the start line to the blank line, and longest trailer section; both directions. */
export const MAX_HEAD_BYTES = 65_536;

/** Most fields of a head, and of a trailer section; both directions. */
export const MAX_FIELDS = 256;

/** Most fields that this proxy adds to a head, with those a start line becomes in HTTP/2. */
export const MAX_OWN_FIELDS = 16;

/** Most options in the Connection fields of a head: each is compared with every field, and honest ones name one to three. */
export const MAX_CONNECTION_OPTIONS = 64;

/** Longest chunk extension in bytes: they are dropped unread, so a longer one is only work (Node CVE-2024-22019). */
export const MAX_CHUNK_EXTENSION_BYTES = 1024;

/** Problem numbers; describeProblem has their words. */
export const PROBLEM = {
  headTooLarge: 1,
  tooManyFields: 2,
  startLine: 3,
  target: 4,
  version: 5,
  unsupportedVersion: 6,
  emptyName: 7,
  name: 8,
  blankBeforeColon: 9,
  folded: 10,
  value: 11,
  lineEnd: 12,
  hostMissing: 13,
  hostRepeated: 14,
  host: 15,
  hostMismatch: 16,
  contentLength: 17,
  contentLengthRepeated: 18,
  transferEncoding: 19,
  transferEncodingInHttp10: 20,
  lengthAndChunked: 21,
  framingAlias: 22,
  connection: 23,
  connectionNamesFraming: 24,
  tooManyConnectionOptions: 25,
  statusLine: 26,
  bodyOnInterim: 27,
  chunkSize: 28,
  chunkExtension: 29,
  chunkEnd: 30,
  trailersTooLarge: 31,
  pathEncodedSlash: 32,
  pathEncodedNul: 33,
  pathBackslash: 34,
  pathByte: 35,
  pathPercent: 36,
  pathAboveRoot: 37,
  pathDotParameter: 38,
  connectWithBody: 39,
} as const;

/** A problem for people and for the client's answer. */
export interface Problem {
  /** Of the answer to the request that has it. */
  readonly status: 400 | 431 | 505;
  /** What is wrong, as the end of a sentence. */
  readonly text: string;
}

/** Texts; `%` stands for the size that was seen. */
const TEXTS: Readonly<Record<number, string>> = {
  [PROBLEM.headTooLarge]: `the head is longer than ${MAX_HEAD_BYTES} bytes (% seen)`,
  [PROBLEM.tooManyFields]: `there are more than ${MAX_FIELDS} header fields`,
  [PROBLEM.startLine]: 'the request line is not a method, a target and a version with one space between them',
  [PROBLEM.target]: 'the request target is in none of the forms that its method allows',
  [PROBLEM.version]: 'the version is not HTTP/1.0 or HTTP/1.1',
  [PROBLEM.unsupportedVersion]: 'the version is not HTTP/1.0 or HTTP/1.1',
  [PROBLEM.emptyName]: 'a header field has no name',
  [PROBLEM.name]: 'a header field name has a byte that no token has',
  [PROBLEM.blankBeforeColon]: 'there is whitespace between a header field name and its colon',
  [PROBLEM.folded]: 'a header line begins with whitespace (obsolete line folding)',
  [PROBLEM.value]: 'a header field value has a control byte',
  [PROBLEM.lineEnd]: 'a line does not end in CR LF',
  [PROBLEM.hostMissing]: 'the Host field is missing',
  [PROBLEM.hostRepeated]: 'there is more than one Host field',
  [PROBLEM.host]: 'the host is no host name or address with an optional port',
  [PROBLEM.hostMismatch]: 'the Host field and the request target name different hosts',
  [PROBLEM.contentLength]: 'Content-Length is not one decimal number below 2^53',
  [PROBLEM.contentLengthRepeated]: 'there is more than one Content-Length field',
  [PROBLEM.transferEncoding]: 'Transfer-Encoding is not exactly "chunked"',
  [PROBLEM.transferEncodingInHttp10]: 'HTTP/1.0 has no Transfer-Encoding',
  [PROBLEM.lengthAndChunked]: 'there are both Content-Length and Transfer-Encoding',
  [PROBLEM.framingAlias]: 'a field is spelt nearly like Content-Length or Transfer-Encoding',
  [PROBLEM.connection]: 'Connection is not a list of tokens',
  [PROBLEM.connectionNamesFraming]: 'Connection names Host or Content-Length, which are for every recipient',
  [PROBLEM.tooManyConnectionOptions]: `Connection has more than ${MAX_CONNECTION_OPTIONS} options`,
  [PROBLEM.statusLine]: 'the status line is not a version, three digits and a reason',
  [PROBLEM.bodyOnInterim]: 'an interim response (1xx) announces a body',
  [PROBLEM.chunkSize]: 'a chunk size is not 1 to 13 hexadecimal digits',
  [PROBLEM.chunkExtension]: `a chunk extension has a control byte or more than ${MAX_CHUNK_EXTENSION_BYTES} bytes`,
  [PROBLEM.chunkEnd]: 'a chunk is not as long as its size says',
  [PROBLEM.trailersTooLarge]: `the trailer section is longer than ${MAX_HEAD_BYTES} bytes (% seen)`,
  [PROBLEM.pathEncodedSlash]: 'the path has an encoded slash or backslash (%2F, %5C)',
  [PROBLEM.pathEncodedNul]: 'the path has an encoded NUL (%00)',
  [PROBLEM.pathBackslash]: 'the path has a backslash',
  [PROBLEM.pathByte]: 'the path has a byte that must be percent-encoded',
  [PROBLEM.pathPercent]: 'the path has a percent sign without two hexadecimal digits',
  [PROBLEM.pathAboveRoot]: 'the path leads above its root',
  [PROBLEM.connectWithBody]:
    'CONNECT announces a body, which could be taken for the first bytes of the tunnel',
  [PROBLEM.pathDotParameter]: 'the path has a dot segment with parameters (..;)',
};

const TOO_LARGE: readonly number[] = [
  PROBLEM.headTooLarge,
  PROBLEM.tooManyFields,
  PROBLEM.tooManyConnectionOptions,
  PROBLEM.trailersTooLarge,
];

/**
 * A problem in words.
 * @param problem what a reader returned, negated: one of PROBLEM
 * @param seenBytes how long the head was when it was given up, for those whose size is the problem
 */
export function describeProblem(problem: number, seenBytes: number): Problem {
  const text = TEXTS[problem];
  if (text === undefined) throw new RangeError(`there is no problem ${problem}`);
  const status = problem === PROBLEM.unsupportedVersion ? 505 : TOO_LARGE.includes(problem) ? 431 : 400;
  return { status, text: text.replace('(% seen)', `(${seenBytes} seen)`) };
}
