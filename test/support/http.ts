/** HTTP spoken by hand, for what clients refuse to send. */
import { connect, type Socket } from 'node:net';

/** One answer. */
export interface Answer {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Sends bytes as they are and returns everything that comes until the other side ends, or the reset that ended it. */
export function sendRaw(
  host: string,
  port: number,
  data: string | Buffer,
): Promise<{ text: string; error?: string }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket: Socket = connect({ host, port }, () => socket.write(data));
    socket.on('data', (chunk) => chunks.push(chunk));
    const finish = (error?: NodeJS.ErrnoException) => {
      const text = Buffer.concat(chunks).toString('latin1');
      resolve(error === undefined ? { text } : { text, error: error.code ?? error.message });
    };
    socket.once('error', finish);
    socket.once('close', () => finish());
  });
}

/** One request on a connection of its own; `headers` are sent as they are, Host included only when given. */
export async function request(
  host: string,
  port: number,
  line: string,
  headers: readonly string[] = [],
  body = '',
): Promise<Answer> {
  const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
  const head = [`${line} HTTP/1.1`, ...headers, ...length, 'Connection: close', '', ''].join('\r\n');
  return parseAnswer((await sendRaw(host, port, head + body)).text);
}

/** Reads one complete answer that the end of the connection delimits. */
export function parseAnswer(text: string): Answer {
  const end = text.indexOf('\r\n\r\n');
  const [statusLine, ...lines] = text.slice(0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1]);
  if (end < 0 || Number.isNaN(status))
    throw new Error(`not an HTTP answer: ${JSON.stringify(text.slice(0, 200))}`);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status, headers, body: Buffer.from(text.slice(end + 4), 'latin1') };
}
