/** A page for browsers that does what pages do with HTTP/1, and says what came of it; and the server of its parts. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { answer } from './http-application.ts';

/** Subresources of each kind. */
export const PARTS = 24;

/** Bytes that the page fetches and sends back. */
export const BODY_BYTES = 10_000_000;

/** Events the page waits for; it asks for each, so that one that is held back anywhere is missed. */
export const EVENTS = 20;

/** Lengths of WebSocket messages: each way to write one (RFC 6455 section 5.2), and one of many reads. */
export const MESSAGES = [0, 1, 125, 126, 65_535, 65_536, 3_000_000];

/** Of the handshake (RFC 6455 section 1.3). */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** Bits and opcodes of a frame (RFC 6455 section 5.2). */
const MASKED = 0x80;
const OPCODE_BITS = 0x0f;
const CLOSE = 8;

/** What the page says at the end. */
export interface PageResult {
  readonly styles: number;
  readonly scripts: number;
  readonly images: number;
  /** Reads the body of BODY_BYTES came in. */
  readonly reads: number;
  /** What the server says of it when it was sent back. */
  readonly upload: { readonly length: number; readonly digest: string };
  /** Lengths of the messages that came back as they were. */
  readonly messages: readonly number[];
  readonly events: number;
  /** What went wrong, instead of everything else. */
  readonly error?: string;
}

const numbers = Array.from({ length: PARTS }, (_, n) => n);

const PAGE = `<!doctype html><meta charset="utf-8"><title>Parts</title>
${numbers.map((n) => `<link rel="stylesheet" href="/part/${n}.css">`).join('\n')}
${numbers.map((n) => `<script src="/part/${n}.js"></script>`).join('\n')}
${numbers.map((n) => `<img src="/part/${n}.svg" alt="">`).join('\n')}
<script type="module" src="/main.js"></script>`;

/** Runs in the browser. */
const MAIN = `
async function bodies() {
  const reader = (await fetch('/body?n=${BODY_BYTES}&framing=chunked')).body.getReader();
  const parts = [];
  for (let read = await reader.read(); !read.done; read = await reader.read()) parts.push(read.value);
  const sent = await fetch('/digest', { method: 'POST', body: new Blob(parts) });
  const { length, digest } = await sent.json();
  return { reads: parts.length, upload: { length, digest } };
}
async function messages() {
  const socket = new WebSocket('ws://' + location.host + '/echo');
  socket.binaryType = 'arraybuffer';
  const next = (name) => new Promise((resolve, reject) => {
    socket.addEventListener(name, resolve, { once: true });
    socket.addEventListener('error', () => reject(new Error('WebSocket')), { once: true });
  });
  await next('open');
  const same = [];
  for (const length of ${JSON.stringify(MESSAGES)}) {
    const bytes = Uint8Array.from({ length }, (_, n) => n * 31 + (n >> 8));
    const echoed = next('message');
    socket.send(bytes);
    const got = new Uint8Array((await echoed).data);
    if (got.length === length && got.every((byte, n) => byte === bytes[n])) same.push(length);
  }
  const closed = next('close');
  socket.close();
  await closed;
  return same;
}
function events() {
  const source = new EventSource('/events');
  return new Promise((resolve, reject) => {
    let count = 0;
    source.onerror = () => reject(new Error('events end after ' + count));
    source.onmessage = ({ data }) => {
      count++;
      if (count < ${EVENTS}) return void fetch('/next-event?after=' + data);
      source.close();
      resolve(count);
    };
  });
}
async function everything() {
  if (document.readyState !== 'complete') await new Promise((resolve) => addEventListener('load', resolve));
  const styles = [...document.styleSheets].filter(({ cssRules }) => cssRules.length === 1).length;
  const images = [...document.images].filter(({ naturalWidth }) => naturalWidth === 3).length;
  const [body, echoed, count] = await Promise.all([bodies(), messages(), events()]);
  return { styles, scripts: globalThis.parts, images, ...body, messages: echoed, events: count };
}
const result = await everything().catch((error) => ({ error: String(error) }));
await fetch('/result', { method: 'POST', body: JSON.stringify(result) });
`;

const TYPES: Readonly<Record<string, string>> = {
  css: 'text/css',
  html: 'text/html',
  js: 'text/javascript',
  svg: 'image/svg+xml',
};

const PART_TEXTS: Readonly<Record<string, string>> = {
  css: 'p { margin: 0 }',
  js: 'globalThis.parts = (globalThis.parts ?? 0) + 1;',
  svg: '<svg xmlns="http://www.w3.org/2000/svg" width="3" height="3"/>',
};

/**
 * Answers what the page asks for, and what else `answer` knows.
 * @param found gets the page's result, JSON of a `PageResult`
 */
export function answerPage(
  found: (result: string) => void,
): (request: IncomingMessage, response: ServerResponse) => void {
  let events: ServerResponse | undefined;
  const text = (response: ServerResponse, type: string, body: string) => {
    response.writeHead(200, { 'content-type': TYPES[type], 'cache-control': 'no-store' }).end(body);
  };
  return (request, response) => {
    const { pathname, searchParams } = new URL(request.url!, 'http://x');
    const part = /^\/part\/\d+\.(css|js|svg)$/.exec(pathname)?.[1];
    if (part !== undefined) text(response, part, PART_TEXTS[part]);
    else if (pathname === '/page') text(response, 'html', PAGE);
    else if (pathname === '/main.js') text(response, 'js', MAIN);
    else if (pathname === '/events') {
      events = response.writeHead(200, { 'content-type': 'text/event-stream' });
      events.write('data: 0\n\n');
    } else if (pathname === '/next-event') {
      events?.write(`data: ${Number(searchParams.get('after')) + 1}\n\n`);
      response.end();
    } else if (pathname === '/result') {
      request
        .setEncoding('utf8')
        .toArray()
        .then((parts) => {
          response.end();
          found(parts.join(''));
        }, found);
    } else answer(request, response);
  };
}

/** Accepts a WebSocket and sends every frame back, until the client's close has been. */
export function echoFrames({ headers }: IncomingMessage, socket: Duplex, head: Buffer): void {
  const accept = createHash('sha1')
    .update(`${headers['sec-websocket-key']}${WEBSOCKET_GUID}`)
    .digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n');
  socket.write(`Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let bytes = head;
  socket.on('error', () => socket.destroy()).on('end', () => socket.end());
  socket.on('data', (more: Buffer) => {
    bytes = Buffer.concat([bytes, more]);
    for (let frame = takeFrame(bytes); frame !== undefined; frame = takeFrame(bytes)) {
      bytes = bytes.subarray(frame.length);
      socket.write(frame.echo);
      if ((frame.echo[0] & OPCODE_BITS) === CLOSE) socket.end();
    }
  });
}

/** The first frame of a client: how long it is, and the same without its mask. @returns undefined when it is not whole */
function takeFrame(bytes: Buffer): { readonly length: number; readonly echo: Buffer } | undefined {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & ~MASKED;
  const size = short === 126 ? 2 : short === 127 ? 8 : 0;
  const maskAt = 2 + size;
  if (bytes.length < maskAt + 4) return undefined;
  const payload = size === 0 ? short : size === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const from = maskAt + 4;
  if (bytes.length < from + payload) return undefined;
  const echo = Buffer.concat([bytes.subarray(0, maskAt), bytes.subarray(from, from + payload)]);
  echo[1] &= ~MASKED;
  for (let n = 0; n < payload; n++) echo[maskAt + n] ^= bytes[maskAt + (n & 3)];
  return { length: from + payload, echo };
}
