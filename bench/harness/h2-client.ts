/** One exchange in HTTP/2 without TLS and with prior knowledge, to see what an answer is and not what it costs. */

import {
  type ClientHttp2Session,
  connect,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';

/** An exchange that takes longer on loopback hangs. */
const TIMEOUT_MS = 5000;

/** A whole answer. */
export interface H2Answer {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly trailers: IncomingHttpHeaders;
}

/**
 * Makes one exchange over a connection of its own. @throws Error when no whole answer comes
 * @param headers pseudo header fields included
 * @param timeoutMs for answers that are large
 */
export async function askH2(
  port: number,
  headers: OutgoingHttpHeaders,
  body?: Buffer,
  timeoutMs = TIMEOUT_MS,
): Promise<H2Answer> {
  const session = connect(`http://127.0.0.1:${port}`);
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  session.on('error', reject);
  session.on('close', () => reject(new Error('the connection ended before the answer')));
  try {
    return await Promise.race([exchange(session, headers, body), late]);
  } finally {
    clearTimeout(timer);
    session.destroy();
  }
}

async function exchange(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body: Buffer | undefined,
): Promise<H2Answer> {
  const stream = session.request(headers, { endStream: body === undefined });
  let answered: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  stream.on('response', (received) => {
    answered = received;
  });
  stream.on('trailers', (received) => {
    trailers = received;
  });
  if (body !== undefined) stream.end(body);
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return { headers: answered, body: Buffer.concat(parts), trailers };
}
