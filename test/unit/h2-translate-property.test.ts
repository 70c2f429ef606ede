/**
 * Whatever the codec accepts of HTTP/2 and writes as HTTP/1 is one message there, with the same fields: to our own reader and to
 * llhttp. And what goes through HTTP/2 between two HTTP/1 hops is what would have gone without it.
 */
import fc from 'fast-check';
import t from 'tap';
import { H2Head, readRequest, readResponse, readTrailers } from '../../proxy/http/h2/head.ts';
import {
  fieldTrailersRoom,
  requestFraming,
  responseFraming,
  writeFieldTrailers,
} from '../../proxy/http/h2/to-http1.ts';
import { FRAMING } from '../../proxy/http/head.ts';
import { METHOD } from '../../proxy/http/names.ts';
import { canonicalPath } from '../../proxy/http/path.ts';
import { CONNECTION, writeChunkHeader } from '../../proxy/http/write.ts';
import { CONTENT, REQUEST_LISTS, RESPONSE_LISTS, TRAILER_LISTS } from '../support/h2-arbitrary.ts';
import { fieldsOfHead, headOf, listOf, type Pair, pairsOf } from '../support/h2-fields.ts';
import { REQUESTS, RESPONSES } from '../support/http-arbitrary.ts';
import { bytesOf, type PlainMessage, readMessages, textOf } from '../support/http-codec.ts';
import { REQUEST_CORPUS } from '../support/http-corpus.ts';
import { forwardMessage } from '../support/http-forward.ts';
import { RESPONSE_CORPUS } from '../support/http-response-corpus.ts';
import { ServerWitness } from '../support/http-witness.ts';

const SOAK = process.env.FERRULE_SOAK === '1';
const RUNS = { seed: 20_261_121, numRuns: SOAK ? 100_000 : 3000 };
/** Each takes a connection. */
const SOCKET_RUNS = { seed: 20_261_121, numRuns: SOAK ? 5000 : 250 };

const NEXT = 'GET /next HTTP/1.1\r\nHost: next\r\n\r\n';
const NEXT_ANSWER = 'HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n';
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** Fields that HTTP/1 has instead of others, or for itself. */
const OWN = /^(host|te|connection|upgrade|content-length|transfer-encoding|sec-websocket-.*)$/;

/** What must arrive of a judged list: in order, and cookies in one where the first was. */
function expectedFields(pairs: readonly Pair[], isRequest: boolean): Pair[] {
  const cookies = pairs
    .filter(([name, value]) => name === 'cookie' && value !== '')
    .map(([, value]) => value);
  const found: Pair[] = [];
  for (const [name, value] of pairs) {
    if (name.startsWith(':') || (isRequest && name.startsWith('l5d-'))) continue;
    if (name === 'l5d-orig-proto' || (OWN.test(name) && (isRequest || name !== 'host'))) continue;
    if (!isRequest || name !== 'cookie') found.push([name, value]);
    else if (!found.some(([other]) => other === 'cookie')) found.push(['cookie', cookies.join('; ')]);
  }
  return found;
}

/** What did arrive, but for what the hop needed. */
function arrivedFields({ fields }: PlainMessage, isRequest: boolean): Pair[] {
  return fields
    .map(([name, value]): Pair => [name, value])
    .filter(([name]) => !OWN.test(name.toLowerCase()) || (!isRequest && name === 'host'));
}

/** Content as HTTP/1 frames it; the length must be the one that was announced. */
function framed(framing: number, content: string, trailers: string): string {
  if (framing === FRAMING.none) return '';
  if (framing === FRAMING.length) return content;
  const scratch = new Uint8Array(16);
  const chunk = (piece: string) =>
    piece === '' ? '' : `${textOf(scratch, 0, writeChunkHeader(piece.length, scratch, 0))}${piece}\r\n`;
  return chunk(content.slice(0, 3)) + chunk(content.slice(3)) + trailers;
}

function writtenTrailers(pairs: readonly Pair[]): { readonly text: string; readonly kept: readonly Pair[] } {
  const list = listOf(pairs);
  if (readTrailers(new H2Head(list)) !== 0) return { text: '0\r\n\r\n', kept: [] };
  const into = new Uint8Array(fieldTrailersRoom(list));
  return { text: textOf(into, 0, writeFieldTrailers(list, into, 0)), kept: pairsOf(list) };
}

/** A judged request as HTTP/1, with content of the length it announced; undefined when it is refused. */
function writeJudged(pairs: readonly Pair[], content: string, end: boolean, trailers: readonly Pair[]) {
  const head = Object.assign(new H2Head(), { keepMesh: true, extendedConnect: true });
  for (const pair of pairs) head.fields.push(listOf([pair]).items[0]);
  if (readRequest(head) !== 0) return undefined;
  const length = head.contentLength;
  const framing = requestFraming(head.method, length, end);
  const webSocket = head.protocol !== undefined;
  const text = headOf(head.fields, {
    framing,
    contentLength: Math.max(0, length),
    host: bytesOf('given:1'),
    connection: webSocket ? CONNECTION.upgrade : CONNECTION.none,
    webSocketKey: webSocket ? bytesOf(KEY) : null,
  });
  const behind = writtenTrailers(trailers);
  const sent = framing === FRAMING.length ? 'x'.repeat(length) : framing === FRAMING.chunked ? content : '';
  return {
    head,
    framing,
    text,
    sent,
    trailers: behind.kept,
    wire: text + framed(framing, sent, behind.text),
  };
}

function same(found: unknown, wanted: unknown, what: string): void {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what}: ${one} instead of ${other}`);
}

t.test('an accepted request is exactly one request of HTTP/1, with the same fields', async (t) => {
  const counts = { refused: 0, plain: 0, chunked: 0, tunnels: 0, webSockets: 0, trailers: 0 };
  fc.assert(
    fc.property(REQUEST_LISTS, CONTENT, fc.boolean(), TRAILER_LISTS, (pairs, content, end, trailers) => {
      const written = writeJudged(pairs, content, end, trailers);
      if (written === undefined) {
        counts.refused++;
        return;
      }
      const { head, framing, sent } = written;
      const reader = readMessages(written.wire + NEXT);
      const [message, next] = reader.messages;
      if (reader.problem !== 0) throw new Error(`${reader.refusal?.text}: ${JSON.stringify(written.wire)}`);
      const tunnel = head.method === METHOD.connect && head.protocol === undefined;
      const judged = new Map(pairsOf(head.fields));
      const authority = judged.get(':authority') ?? 'given:1';
      same(message.method, head.protocol === undefined ? judged.get(':method') : 'GET', 'method');
      same(message.target, tunnel ? authority : judged.get(':path'), 'target');
      same(message.authority, authority, 'authority');
      same(arrivedFields(message, true), expectedFields(pairsOf(head.fields), true), 'fields');
      same(message.fields.filter(([name]) => name === 'TE').length, head.teTrailers ? 1 : 0, 'TE');
      same([message.framing, message.body], [framing, sent], 'body');
      same(message.upgrade, head.protocol !== undefined, 'upgrade');
      if (tunnel) same(reader.left, NEXT.length, 'nothing read behind a tunnel');
      else same([reader.messages.length, next?.target, reader.left], [2, '/next', 0], 'what comes next');
      if (framing === FRAMING.chunked) {
        same(
          message.trailers.map(([name, value]) => [name, value]),
          written.trailers,
          'trailers',
        );
        if (written.trailers.length > 0) counts.trailers++;
      }
      if (tunnel) counts.tunnels++;
      else if (head.protocol !== undefined) counts.webSockets++;
      else if (framing === FRAMING.chunked) counts.chunked++;
      else counts.plain++;
    }),
    RUNS,
  );
  for (const [kind, count] of Object.entries(counts)) t.ok(count > 20, `${count} ${kind}`);
});

t.test('and as fields again it is the same list', async (t) => {
  let count = 0;
  fc.assert(
    fc.property(REQUEST_LISTS, fc.boolean(), (pairs, end) => {
      const written = writeJudged(pairs, '', end, []);
      if (written === undefined) return;
      const { head, framing, text } = written;
      const webSocket = head.protocol !== undefined;
      const wanted = expectedFields(pairsOf(head.fields), true).map((pair) => pair.join(': '));
      for (const [name, value] of pairsOf(head.fields)) {
        // What goes to an application is http, and its length is the one that is meant.
        if (name === ':scheme') wanted.push(':scheme: http');
        else if (name.startsWith(':')) wanted.push(`${name}: ${value}`);
      }
      if (head.authority === undefined) wanted.push(':authority: given:1');
      if (head.teTrailers) wanted.push('te: trailers');
      if (framing === FRAMING.length) wanted.push(`content-length: ${head.contentLength}`);
      const found = pairsOf(fieldsOfHead(text, { webSocket })).map((pair) => pair.join(': '));
      same(found.sort(), wanted.sort(), JSON.stringify(text));
      count++;
    }),
    RUNS,
  );
  t.ok(count > RUNS.numRuns / 3, `${count} lists`);
});

t.test('to llhttp too', async (t) => {
  const witness = await ServerWitness.start();
  t.teardown(() => witness.stop());
  const counts = { seen: 0, refused: 0, skipped: 0 };
  await fc.assert(
    fc.asyncProperty(REQUEST_LISTS, CONTENT, fc.boolean(), async (pairs, content, end) => {
      const written = writeJudged(pairs, content, end, []);
      // What is no HTTP any more behind its head is not for a server to read on, nor methods that it does not know.
      if (written === undefined || written.head.method === METHOD.connect) {
        counts.skipped++;
        return;
      }
      const { requests, refused } = await witness.see(written.wire);
      // It knows some methods only, and is strict about targets.
      const odd = written.head.method === METHOD.other || /[^\x21-\x7e]/.test(written.text.split(' ')[1]);
      if (requests.length === 0 && refused && odd) {
        counts.refused++;
        return;
      }
      if (refused || requests.length !== 1)
        throw new Error(`${requests.length} of ${JSON.stringify(written.wire)}`);
      same(requests[0].body, written.sent, 'body');
      const fields = requests[0].fields.filter(([name]) => !OWN.test(name.toLowerCase()));
      same(fields, expectedFields(pairsOf(written.head.fields), true), 'fields');
      counts.seen++;
    }),
    SOCKET_RUNS,
  );
  t.ok(counts.seen > 50 && counts.skipped > 10, JSON.stringify(counts));
});

t.test('an accepted response is exactly one response of HTTP/1, with the same fields', async (t) => {
  const counts = { refused: 0, none: 0, length: 0, chunked: 0, untilClose: 0 };
  const methods = fc.constantFrom(METHOD.get, METHOD.head, METHOD.connect);
  const minors = fc.constantFrom<0 | 1>(0, 1);
  fc.assert(
    fc.property(
      RESPONSE_LISTS,
      CONTENT,
      fc.boolean(),
      methods,
      minors,
      (pairs, content, end, method, minor) => {
        const head = Object.assign(new H2Head(), { keepMesh: true });
        for (const pair of pairs) head.fields.push(listOf([pair]).items[0]);
        if (readResponse(head) !== 0) {
          counts.refused++;
          return;
        }
        const { status } = head;
        const framing = responseFraming(method, status, head.contentLength, end, minor);
        const length = Math.max(0, head.contentLength);
        const text = headOf(head.fields, { framing, contentLength: length }, true);
        const bodiless = status < 200 || status === 204 || status === 304 || method === METHOD.head;
        const silent = bodiless || (method === METHOD.connect && status < 300);
        const open = framing === FRAMING.none && !silent;
        const body = silent ? '' : framing === FRAMING.length ? 'x'.repeat(length) : content;
        const wire = text + (silent ? '' : open ? body : framed(framing, body, '0\r\n\r\n'));
        const reader = readMessages(open || status < 200 ? wire : wire + NEXT_ANSWER, method);
        if (reader.problem !== 0) throw new Error(`${reader.refusal?.text}: ${JSON.stringify(wire)}`);
        const [message] = reader.messages;
        same([message.status, message.body], [status, body], 'status and body');
        same(arrivedFields(message, false), expectedFields(pairsOf(head.fields), false), 'fields');
        same(reader.left, open || status < 200 ? 0 : NEXT_ANSWER.length, 'what comes next');
        if (open) counts.untilClose++;
        else counts[framing === FRAMING.none ? 'none' : framing === FRAMING.length ? 'length' : 'chunked']++;
      },
    ),
    RUNS,
  );
  for (const [kind, count] of Object.entries(counts)) t.ok(count > 20, `${count} ${kind}`);
});

/**
 * A message of HTTP/1 but for what HTTP/2 does not carry: case and order of names, the reason, several Cookie fields, chunks of
 * nothing; and with the path that a proxy makes of it.
 */
function essence({ method, target, status, fields, framing, contentLength, body, trailers }: PlainMessage) {
  const named = fields.map(([name, value]): Pair => [name.toLowerCase(), value]);
  const cookies = named
    .filter(([name, value]) => name === 'cookie' && value !== '')
    .map(([, value]) => value);
  // CONNECT has no content, whatever it announces; not even that it has none is said again.
  const connect = method === 'CONNECT';
  const others = named.filter(([name]) => name !== 'cookie' && !(connect && name === 'content-length'));
  const path = target.startsWith('/') ? canonicalPath(bytesOf(target), 0, target.length) : 0;
  return {
    method,
    target: typeof path === 'number' ? target : textOf(path),
    status,
    fields: [...others.map((pair) => pair.join(': ')), `cookie: ${cookies.join('; ')}`].sort(),
    framing: connect ? FRAMING.none : framing,
    contentLength: connect ? -1 : contentLength,
    body,
    trailers: keptPairs(trailers),
  };
}

function keptPairs(fields: PlainMessage['fields']): Pair[] {
  return fields.filter(([, , dropped]) => !dropped).map(([name, value]) => [name.toLowerCase(), value]);
}

/** The first message in `text`, which is right, through HTTP/2; undefined when that refuses it. */
function throughH2(text: string, method: number | undefined): string | undefined {
  const [message] = readMessages(text, method).messages;
  const start = text.startsWith('\r\n') ? 2 : 0;
  const list = fieldsOfHead(
    text.slice(start, text.indexOf('\r\n\r\n', start) + 4),
    { original: true },
    method,
  );
  const head = Object.assign(new H2Head(), { keepMesh: true, extendedConnect: true });
  for (const field of list.items.slice(0, list.count)) head.fields.push(field);
  if ((method === undefined ? readRequest(head) : readResponse(head)) !== 0) return undefined;
  const { status, contentLength } = head;
  const chunked = message.framing === FRAMING.chunked;
  const framing =
    method === undefined
      ? requestFraming(head.method, contentLength, !chunked)
      : responseFraming(method, status, contentLength, false, chunked ? 1 : 0);
  const options = { framing, contentLength: Math.max(0, contentLength) };
  const content = framed(framing, message.body, writtenTrailers(keptPairs(message.trailers)).text);
  return (
    headOf(head.fields, options, method !== undefined) + (framing === FRAMING.none ? message.body : content)
  );
}

/** Compares both ways for the first message in `text`; false: HTTP/2 refuses it. */
function compareWays(text: string, method: number | undefined): boolean {
  const direct = forwardMessage(text, method === undefined ? 'request' : 'response', method);
  if (direct === undefined) throw new Error(`refused: ${JSON.stringify(text)}`);
  const through = throughH2(text, method);
  if (through === undefined) return false;
  // That a HEAD response would have chunks is not said: nothing depends on it.
  const said = method === METHOD.head ? direct.replace('Transfer-Encoding: chunked\r\n', '') : direct;
  const [one, other] = [said, through].map((wire) => readMessages(wire, method).messages.map(essence));
  same(other, one, JSON.stringify(text));
  return one.length === 1;
}

t.test('HTTP/1 through HTTP/2 is what HTTP/1 through HTTP/1 is', async (t) => {
  const counts = { compared: 0, refused: 0 };
  const check = (text: string, method: number | undefined) => {
    if (compareWays(text, method)) counts.compared++;
    else counts.refused++;
  };
  fc.assert(
    fc.property(REQUESTS, ({ text }) => check(text, undefined)),
    RUNS,
  );
  // Of paths only: both ways refuse the same ones.
  t.ok(counts.compared > 0.8 * RUNS.numRuns, JSON.stringify(counts));
  const refused = counts.refused;
  fc.assert(
    fc.property(RESPONSES, ({ text }) => check(text, METHOD.get)),
    RUNS,
  );
  t.equal(counts.refused, refused, 'every response passes');
});

t.test('what the corpora have that is right passes through HTTP/2 unchanged', async (t) => {
  const skipped: string[] = [];
  const check = (name: string, text: string, method?: number) => {
    if (compareWays(text, method)) t.ok(true, name);
    else skipped.push(name);
    const interim = /^HTTP\/1.1 1\d\d [\s\S]*?\r\n\r\n(?=HTTP)/.exec(text);
    if (interim !== null) check(`${name}, behind it`, text.slice(interim[0].length), method);
  };
  const methods = { GET: METHOD.get, HEAD: METHOD.head, CONNECT: METHOD.connect };
  for (const { name, bytes, expected } of REQUEST_CORPUS) if ('bodies' in expected) check(name, bytes);
  for (const { name, bytes, expected, method = 'GET' } of RESPONSE_CORPUS) {
    if ('bodies' in expected) check(name, bytes, methods[method]);
  }
  t.strictSame(skipped, ['101 with length 0, as some servers send'], 'HTTP/2 has no 101');
});
