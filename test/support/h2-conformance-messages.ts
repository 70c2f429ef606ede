/** Section 8 of h2spec's http2 group, requests and what is malformed in them; and its hpack group, blocks that cannot be decoded. */
import { FRAME, H2_ERROR } from '../../proxy/http/h2/frames.ts';
import { block, changed, data, frame, GET, headers, join, type PlainField, POST } from './h2.ts';
import { type ConformanceCase, conformanceCase as of } from './h2-conformance.ts';

const { protocolError, compressionError } = H2_ERROR;

/** A request that is malformed. */
function malformed(section: string, name: string, ...parts: Uint8Array[]): ConformanceCase {
  return of(section, name, async (peer) => {
    peer.send(...parts);
    await peer.streamError(1, protocolError);
  });
}

function malformedHead(section: string, name: string, fields: readonly PlainField[]): ConformanceCase {
  return malformed(section, name, headers(1, fields));
}

const TRAILERS_PART = join(headers(1, [...POST, ['trailer', 'x-test']], false), data(1, 'test'));
const ONE_BYTE = headers(1, [...POST, ['content-length', '1']], false);

/** In the order of the sections. */
export const MESSAGES: readonly ConformanceCase[] = [
  malformed(
    '8.1',
    'a second HEADERS frame without END_STREAM',
    headers(1, POST, false),
    headers(1, [['x-test', 'ok']], false),
  ),
  malformedHead('8.1.2', 'an upper-case letter in a field name', [...GET, ['X-TEST', 'ok']]),
  malformedHead('8.1.2.1', 'an unknown pseudo-header field', [...GET, [':test', 'ok']]),
  malformedHead('8.1.2.1', 'a pseudo-header field of responses', [...GET, [':status', '200']]),
  malformed('8.1.2.1', 'a pseudo-header field in trailers', TRAILERS_PART, headers(1, [[':method', '200']])),
  malformedHead('8.1.2.1', 'a pseudo-header field behind a regular one', [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'web.test'],
    ['x-test', 'ok'],
    [':path', '/'],
  ]),
  malformedHead('8.1.2.2', 'a connection-specific field', [...GET, ['connection', 'keep-alive']]),
  malformedHead('8.1.2.2', 'TE with anything but "trailers"', [...GET, ['te', 'trailers, deflate']]),
  malformedHead('8.1.2.3', 'an empty path', changed(GET, ':path', '')),
  malformedHead('8.1.2.3', 'no method', changed(GET, ':method')),
  malformedHead('8.1.2.3', 'no scheme', changed(GET, ':scheme')),
  malformedHead('8.1.2.3', 'no path', changed(GET, ':path')),
  malformedHead('8.1.2.3', 'two methods', [[':method', 'GET'], ...GET]),
  malformedHead('8.1.2.3', 'two schemes', [[':scheme', 'http'], ...GET]),
  malformedHead('8.1.2.3', 'two paths', [[':path', '/'], ...GET]),
  malformed('8.1.2.6', 'content that is longer than Content-Length', ONE_BYTE, data(1, 'test', true)),
  malformed('8.1.2.6', 'the same in two frames', ONE_BYTE, data(1, 'test'), data(1, 'test', true)),
  of('8.2', 'a PUSH_PROMISE frame', async (peer) => {
    peer.send(
      headers(1, POST, false),
      frame(FRAME.pushPromise, 4, 1, join(Uint8Array.of(0, 0, 0, 2), block(GET))),
    );
    await peer.connectionError(protocolError);
  }),
];

/** A request whose block is that of GET with something wrong before or behind it. */
function undecodable(section: string, name: string, before: string, behind: string): ConformanceCase {
  const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));
  return of(section, name, async (peer) => {
    peer.send(headers(1, join(bytes(before), block(GET), bytes(behind))));
    await peer.connectionError(compressionError);
  });
}

/** In the order of the sections. */
export const HPACK: readonly ConformanceCase[] = [
  undecodable('2.3.3', 'an indexed field with an index that is too large', '', 'c6'),
  undecodable('2.3.3', 'a literal with an index that is too large', '', '7f0700'),
  undecodable('4.2', 'a table size update at the end', '', '21'),
  undecodable('5.2', 'Huffman padding of more than 7 bits', '', '0085f2b24a84ff8449509fff'),
  undecodable('5.2', 'Huffman padding of zeros', '', '0085f2b24a84ff83495090'),
  undecodable('5.2', 'a Huffman string with EOS', '', '0085f2b24a84ff874951fffffffa7f'),
  undecodable('6.1', 'index 0', '', '80'),
  undecodable('6.3', 'a table size update above SETTINGS_HEADER_TABLE_SIZE', '3fe21f', ''),
];
