/** Which protocol first bytes are: at every split, however little there is, and never opaque on the way to a request line. */
import fc from 'fast-check';
import t from 'tap';
import { type Opened, opensAsHttp2Server, readProtocol } from '../../proxy/detect/protocol.ts';

const RUNS = { seed: 20_261_121, numRuns: process.env.FERRULE_SOAK === '1' ? 50_000 : 2000 };

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/** As detection asks: with each piece everything so far, and how much of it it has seen. @returns all answers up to the last */
function readPieces(bytes: Buffer, cuts: readonly number[]): Opened[] {
  const answers: Opened[] = [];
  let seen = 0;
  for (const cut of [...cuts, bytes.length]) {
    if (cut <= seen) continue;
    answers.push(readProtocol(bytes.subarray(0, cut), seen));
    if (answers.at(-1) !== 'more') break;
    seen = cut;
  }
  return answers;
}

const FIRST_BYTES: readonly (readonly [Opened, string])[] = [
  ['http1', 'GET / HTTP/1.1\r\n'],
  ['http1', 'GET / HTTP/1.0\r\nHost: shop\r\n\r\n'],
  ['http1', 'GET / HTTP/1.1\n'],
  ['http1', 'VERSION-CONTROL /x HTTP/1.1\r\n'],
  ['http1', 'OPTIONS * HTTP/1.1\r\n'],
  ['http1', 'CONNECT shop:80 HTTP/1.1\r\n'],
  ['http1', 'P / HTTP/1.1\r\n'],
  ['http1', 'PR / HTTP/1.1\r\n'],
  ['http1', 'PRI / HTTP/1.1\r\n'],
  ['http1', 'PRI * HTTP/1.1\r\n'],
  ['http1', 'GET /gr\xfc\xdfe HTTP/1.1\r\n'],
  ['http1', 'GET HTTP/1.1\r\n'],
  ['http2', PREFACE],
  ['http2', `${PREFACE}\0\0\0\x04`],
  // For the codec to refuse: a lenient server might take them.
  ['http1', 'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'],
  ['http1', 'GET / HTTP/2.0\r\n'],
  ['http1', 'GET / HTTP/0.9\r\n'],
  ['http1', '\r\n\n\rGET / HTTP/1.1\r\n'],
  ['http1', 'GET\t/\tHTTP/1.1\t \r\n'],
  ['opaque', 'GET /\r\n'],
  ['opaque', ' HTTP/1.1\r\n'],
  ['opaque', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['opaque', 'EHLO client.example\r\n'],
  ['opaque', 'MAIL FROM:<a@example>\r\n'],
  ['opaque', 'PING\r\n'],
  ['opaque', '*1\r\n$4\r\nPING\r\n'],
  ['opaque', 'SET key value\r\n'],
  ['opaque', 'get key HTTP\r\n'],
  ['opaque', '{"jsonrpc":"2.0"}\n'],
  ['opaque', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'],
  ['opaque', '\0\0\0\x08\x04\xd2\x16\x2f'],
  ['opaque', '\x10\x1b\0\x04MQTT\x04\x02'],
  ['opaque', 'GET /\0 HTTP/1.1\r\n'],
  ['opaque', 'A'.repeat(33)],
  ['more', 'A'.repeat(32)],
  ['more', 'GET /'],
  ['more', 'GET / HTTP/1.1'],
  ['more', 'GET / HTTP/1.1\r'],
  ['more', PREFACE.slice(0, -1)],
];

t.test('at every split, the answer is that to the whole', async (t) => {
  for (const [expected, text] of FIRST_BYTES) {
    const bytes = Buffer.from(text, 'latin1');
    const name = JSON.stringify(text.slice(0, 40));
    const every = Array.from({ length: bytes.length }, (_, i) => i + 1);
    t.equal(readPieces(bytes, []).at(-1), expected, name);
    t.equal(readPieces(bytes, every).at(-1), expected, `${name}, byte by byte`);
    const wrong = every.filter((cut) => readPieces(bytes, [cut]).at(-1) !== expected);
    t.strictSame(wrong, [], `${name}, in two pieces`);
  }
});

t.test('a request line that is longer than any head is for the codec to refuse', async (t) => {
  const line = Buffer.from(`GET /${'a'.repeat(70_000)} HTTP/1.1\r\n`, 'latin1');
  t.equal(readPieces(line, []).at(-1), 'http1', 'in one piece');
  t.strictSame(readPieces(line, [65_535]), ['more', 'http1']);
  t.strictSame(readPieces(line, [65_536]), ['http1'], 'not opaque because nobody waits for the rest');
});

const METHODS = fc.oneof(
  fc.constantFrom('GET', 'POST', 'PUT', 'PRI', 'P', 'M-SEARCH', 'BASELINE-CONTROL', 'UPDATEREDIRECTREF'),
  fc.stringMatching(/^[A-Za-z_-]{1,32}$/),
);
const TARGETS = fc.oneof(fc.webPath(), fc.stringMatching(/^[!-~\xa0-\xff]{1,200}$/), fc.constant('*'));

t.test('no prefix of a request line is opaque, and nothing behind it matters', async (t) => {
  const cuts = fc.array(fc.nat(250), { maxLength: 6 });
  const { failed, counterexample } = fc.check(
    fc.property(METHODS, TARGETS, fc.constantFrom('0', '1'), cuts, (method, target, minor, places) => {
      const line = Buffer.from(`${method} /${target} HTTP/1.${minor}\r\n`, 'latin1');
      for (let length = 1; length < line.length; length++) {
        if (readProtocol(line.subarray(0, length), 0) !== 'more') return false;
      }
      const sorted = [...places].sort((a, b) => a - b);
      const whole = Buffer.concat([line, Buffer.from([0, 255, 10])]);
      return readPieces(whole, sorted).at(-1) === 'http1';
    }),
    RUNS,
  );
  t.notOk(failed, JSON.stringify(counterexample));
});

t.test('any bytes: an answer, the same at every split, and only one is for good', async (t) => {
  const noise = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 64 }),
    fc.stringMatching(/^[GETPRI* /HTTP0-2.\r\n]{1,40}$/).map((text) => Buffer.from(text, 'latin1')),
  );
  const { failed, counterexample } = fc.check(
    fc.property(noise, (bytes) => {
      const whole = Buffer.from(bytes);
      const every = Array.from({ length: whole.length }, (_, i) => i + 1);
      return readPieces(whole, every).at(-1) === readProtocol(whole, 0);
    }),
    RUNS,
  );
  t.notOk(failed, JSON.stringify(counterexample));
});

t.test('what an HTTP/2 server says first', async (t) => {
  const settings = (...bytes: number[]) => opensAsHttp2Server(Uint8Array.from(bytes));
  t.ok(settings(0, 0, 0, 4, 0, 0, 0, 0, 0), 'nothing set');
  t.ok(settings(0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100), 'one setting');
  t.notOk(settings(0, 0, 0, 4, 0, 0, 0, 0), 'cut short');
  t.notOk(settings(0, 0, 5, 4, 0, 0, 0, 0, 0), 'no settings have that length');
  t.notOk(settings(0, 0, 0, 4, 1, 0, 0, 0, 0), 'an acknowledgement is not first');
  t.notOk(settings(0, 0, 0, 4, 0, 0, 0, 0, 1), 'of a stream');
  t.notOk(opensAsHttp2Server(Buffer.from('220 welcome\r\n')), 'SMTP');
  t.notOk(settings(0x4a, 0, 0, 0, 0x0a, 0x38, 0x2e, 0x30, 0x2e), 'MySQL');
});
