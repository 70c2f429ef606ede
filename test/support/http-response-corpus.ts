/**
 * Responses that clients have read in different ways, so that one could be taken for the answer to somebody else's request
 * (Node http.Agent CVE-2026-48931, undici CVE-2026-6733), and harmless neighbours. What is refused becomes a 502.
 */
import type { CorpusCase, Expected } from './http-corpus.ts';

/** Bytes from a server on a connection of their own. */
export interface ResponseCase extends CorpusCase {
  /** Of the request; GET when absent. */
  readonly method?: 'HEAD' | 'CONNECT';
  /** Status codes of all responses in the bytes, in order, when they are accepted. */
  readonly statuses?: readonly number[];
  /** Bytes that are left because nobody asked for them: the connection must be destroyed. */
  readonly unsolicited?: number;
  /** The connection must not be used again. */
  readonly close?: boolean;
}

const IN_HEAD: Expected = { refused: 400, part: 'head' };

function response(line: string, lines: readonly string[] = [], body = ''): string {
  return [line, ...lines, '', ''].join('\r\n') + body;
}

function ok(lines: readonly string[], body = ''): string {
  return response('HTTP/1.1 200 OK', lines, body);
}

function refused(name: string, bytes: string, more: Partial<ResponseCase> = {}): ResponseCase {
  return { name, bytes, expected: IN_HEAD, ...more };
}

function accepted(name: string, bytes: string, body: string, more: Partial<ResponseCase> = {}): ResponseCase {
  return { name, bytes, expected: { bodies: [body] }, close: false, unsolicited: 0, ...more };
}

const POISON = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';

const REFUSED: readonly ResponseCase[] = [
  refused(
    'Content-Length and Transfer-Encoding',
    ok(['Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n'),
  ),
  refused('both, to HEAD', ok(['Content-Length: 5', 'Transfer-Encoding: chunked']), { method: 'HEAD' }),
  refused('two Content-Length', ok(['Content-Length: 5', 'Content-Length: 5'], 'hello')),
  refused('a list of Content-Length', ok(['Content-Length: 5, 5'], 'hello')),
  refused('an empty Content-Length', ok(['Content-Length:'], 'hello')),
  refused('Content-Length with a sign', ok(['Content-Length: +5'], 'hello')),
  refused('gzip, chunked', ok(['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n')),
  refused('identity', ok(['Transfer-Encoding: identity'], 'hello')),
  refused(
    'Transfer-Encoding in HTTP/1.0',
    response('HTTP/1.0 200 OK', ['Transfer-Encoding: chunked'], '0\r\n\r\n'),
  ),
  refused('blank before the colon', ok(['Content-Length : 5'], 'hello')),
  refused('obsolete folding', ok(['X-A: b', ' c'])),
  refused('an empty name', ok([': b'])),
  refused('bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n'),
  refused('bare CR in a value', ok(['X-A: b\rContent-Length: 5'])),
  refused('NUL in a value', ok(['X-A: \0'])),
  refused('NUL in the reason', response('HTTP/1.1 200 O\0K')),
  refused('two spaces before the status', response('HTTP/1.1  200 OK')),
  refused('two digits', response('HTTP/1.1 20 OK')),
  refused('four digits', response('HTTP/1.1 2000 OK')),
  refused('a status below 100', response('HTTP/1.1 099 OK')),
  refused('a sign', response('HTTP/1.1 +20 OK')),
  refused('another protocol', response('ICY 200 OK')),
  refused('no HTTP at all', '-ERR unknown command\r\n'),
  refused('an empty line before', `\r\n${ok([])}`),
  refused('HTTP/2.0', response('HTTP/2.0 200 OK'), { expected: { refused: 505, part: 'head' } }),
  refused(
    'an interim response with chunks',
    response('HTTP/1.1 103 Early Hints', ['Transfer-Encoding: chunked'], '0\r\n\r\n'),
  ),
  refused(
    'an interim response with a length',
    response('HTTP/1.1 100 Continue', ['Content-Length: 5'], 'hello'),
  ),
  refused('257 fields', ok(Array.from({ length: 257 }, (_, i) => `X-${i}: a`)), {
    expected: { refused: 431, part: 'head' },
  }),
  refused('a bad chunk', ok(['Transfer-Encoding: chunked'], '5 \r\nhello\r\n0\r\n\r\n'), {
    expected: { refused: 400, part: 'body' },
  }),
];

const ACCEPTED: readonly ResponseCase[] = [
  accepted('a length', ok(['Content-Length: 5'], 'hello'), 'hello'),
  accepted('chunks', ok(['Transfer-Encoding: chunked'], '5\r\nhello\r\n0\r\n\r\n'), 'hello'),
  accepted('until the end', ok([], 'hello'), 'hello', { close: true }),
  accepted('HTTP/1.0', response('HTTP/1.0 200 OK', ['Content-Length: 5'], 'hello'), 'hello', { close: true }),
  accepted(
    'HTTP/1.0 with keep-alive',
    response('HTTP/1.0 200 OK', ['Content-Length: 5', 'Connection: Keep-Alive'], 'hello'),
    'hello',
  ),
  accepted('Connection: close', ok(['Content-Length: 5', 'Connection: X, Close'], 'hello'), 'hello', {
    close: true,
  }),
  accepted('close and keep-alive: close', ok(['Content-Length: 0', 'Connection: keep-alive, close']), '', {
    close: true,
  }),
  accepted('no reason', response('HTTP/1.1 200 ', ['Content-Length: 0']), ''),
  accepted('no reason and no space', response('HTTP/1.1 200', ['Content-Length: 0']), ''),
  accepted('a reason in Latin-1', response('HTTP/1.1 200 \xc4h', ['Content-Length: 0']), ''),
  accepted('a status of 999', response('HTTP/1.1 999 Odd', ['Content-Length: 0']), '', { statuses: [999] }),
  accepted('to HEAD, with a length', ok(['Content-Length: 500']), '', { method: 'HEAD' }),
  accepted('to HEAD, with chunks', ok(['Transfer-Encoding: chunked']), '', { method: 'HEAD' }),
  accepted('to HEAD, with nothing', ok([]), '', { method: 'HEAD' }),
  accepted('304 with a length', response('HTTP/1.1 304 Not Modified', ['Content-Length: 500']), ''),
  accepted('204', response('HTTP/1.1 204 No Content'), ''),
  accepted('204 with length 0', response('HTTP/1.1 204 No Content', ['Content-Length: 0']), ''),
  accepted('205 with length 0', response('HTTP/1.1 205 Reset Content', ['Content-Length: 0']), ''),
  accepted(
    'interim responses before the final one',
    response('HTTP/1.1 100 Continue') +
      response('HTTP/1.1 103 Early Hints', ['Link: </a>']) +
      ok(['Content-Length: 5'], 'hello'),
    'hello',
    { statuses: [100, 103, 200] },
  ),
  accepted(
    '101 with length 0, as some servers send',
    response('HTTP/1.1 101 Switching Protocols', [
      'Connection: upgrade',
      'Upgrade: websocket',
      'Content-Length: 0',
    ]),
    '',
    { statuses: [101] },
  ),
  accepted('2xx to CONNECT: framing means nothing', ok(['Content-Length: 5', 'X-A: b']), '', {
    method: 'CONNECT',
  }),
  accepted(
    '4xx to CONNECT has a body',
    response('HTTP/1.1 407 No', ['Content-Length: 5'], 'hello'),
    'hello',
    { method: 'CONNECT', statuses: [407] },
  ),
  accepted(
    '204 with a length that is meant',
    response('HTTP/1.1 204 No Content', ['Content-Length: 5'], 'hello'),
    '',
    { close: true, unsolicited: 5 },
  ),
  accepted(
    '204 with chunks',
    response('HTTP/1.1 204 No Content', ['Transfer-Encoding: chunked'], '0\r\n\r\n'),
    '',
    { close: true, unsolicited: 5 },
  ),
  accepted('a body to HEAD', ok(['Content-Length: 5'], 'hello'), '', { method: 'HEAD', unsolicited: 5 }),
  accepted('a body behind 304', response('HTTP/1.1 304 Not Modified', ['Content-Length: 5'], 'hello'), '', {
    unsolicited: 5,
  }),
  accepted('a second response', ok(['Content-Length: 5'], `hello${POISON}`), 'hello', {
    unsolicited: POISON.length,
  }),
  accepted('a second response behind chunks', ok(['Transfer-Encoding: chunked'], `0\r\n\r\n${POISON}`), '', {
    unsolicited: POISON.length,
  }),
];

/** Responses. */
export const RESPONSE_CORPUS: readonly ResponseCase[] = [...REFUSED, ...ACCEPTED];
