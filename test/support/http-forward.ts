/** The smallest proxy that the codec makes: whole messages in, the bytes that are forwarded out. */
import { ChunkedReader } from '../../proxy/http/chunked.ts';
import { BODY, Head } from '../../proxy/http/head.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { readRequestHead } from '../../proxy/http/request.ts';
import { readResponseHead } from '../../proxy/http/response.ts';
import {
  headRoom,
  trailersRoom,
  WriteOptions,
  writeChunkHeader,
  writeLastChunk,
  writeRequestHead,
  writeResponseHead,
} from '../../proxy/http/write.ts';
import { bytesOf, textOf } from './http-codec.ts';

/**
 * The first message in `text`, forwarded; undefined when it is not whole or has a problem.
 * @param method METHOD number of the request, for responses
 */
export function forwardMessage(
  text: string,
  kind: 'request' | 'response',
  method: number = METHOD.get,
): string | undefined {
  const bytes = bytesOf(text);
  const head = new Head();
  const isRequest = kind === 'request';
  const end = isRequest
    ? readRequestHead(head, bytes, 0, bytes.length)
    : readResponseHead(head, bytes, 0, bytes.length, method);
  if (end <= 0) return undefined;
  const options = new WriteOptions();
  options.framing = head.framing;
  options.contentLength = head.contentLength;
  const into = new Uint8Array(headRoom(head, options));
  const to = (isRequest ? writeRequestHead : writeResponseHead)(head, options, into, 0);
  const body = forwardBody(head, bytes, end);
  return body === undefined ? undefined : textOf(into, 0, to) + body;
}

function forwardBody(head: Head, bytes: Uint8Array, from: number): string | undefined {
  if (head.body === BODY.untilClose) return textOf(bytes, from);
  if (head.body !== BODY.chunked) {
    const end = head.body === BODY.length ? from + head.contentLength : from;
    return end > bytes.length ? undefined : textOf(bytes, from, end);
  }
  const chunks = new ChunkedReader();
  const scratch = new Uint8Array(16);
  let out = '';
  for (let at = from; !chunks.done; ) {
    const next = chunks.next(bytes, at, bytes.length);
    if (next < 0 || next === at) return undefined;
    if (chunks.dataEnd > chunks.dataStart) {
      out += textOf(scratch, 0, writeChunkHeader(chunks.dataEnd - chunks.dataStart, scratch, 0));
      out += `${textOf(bytes, chunks.dataStart, chunks.dataEnd)}\r\n`;
    }
    at = next;
  }
  const last = new Uint8Array(trailersRoom(chunks.trailers));
  return out + textOf(last, 0, writeLastChunk(chunks.trailers, last, 0));
}
