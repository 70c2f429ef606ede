/** What gRPC says in fields: calls, deadlines, how they ended, and what the proxy says itself. */
import fc from 'fast-check';
import t from 'tap';
import { encodeAnswer } from '../../proxy/http/answer.ts';
import {
  answerFields,
  GRPC_OF_REASON,
  grpcAnswerFields,
  grpcTrailerFields,
} from '../../proxy/http/answer-fields.ts';
import {
  codeOfHttpStatus,
  codeOfReset,
  GRPC,
  GRPC_NAMES,
  grpcStatus,
  grpcTimeoutMs,
  isGrpc,
  percentEncoded,
  readTimeout,
  renewGrpcTimeout,
  timeoutText,
} from '../../proxy/http/grpc.ts';
import { FieldList } from '../../proxy/http/h2/field.ts';
import { H2Head, readResponse, readTrailers } from '../../proxy/http/h2/head.ts';
import { linesOf, listOf, pairsOf } from '../support/h2-fields.ts';
import { bytesOf, textOf } from '../support/http-codec.ts';

t.test('what is gRPC', async (t) => {
  for (const [type, expected] of [
    ['application/grpc', true],
    ['application/grpc+proto', true],
    ['application/grpc+json', true],
    ['application/grpc;charset=utf-8', true],
    ['application/grpc-web', false],
    ['application/grpc-web+proto', false],
    ['application/grpcx', false],
    ['application/grp', false],
    ['application/json', false],
    ['', false],
  ] as const) {
    t.equal(
      isGrpc(
        listOf([
          [':status', '200'],
          ['content-type', type],
        ]),
      ),
      expected,
      type,
    );
  }
  t.equal(isGrpc(listOf([[':method', 'POST']])), false, 'no content type');
});

t.test('deadlines are read', async (t) => {
  for (const [text, ms] of [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3000],
    ['100m', 100],
    ['250u', 0.25],
    ['1000000n', 1],
    ['0m', 0],
    ['99999999H', 359_999_996_400_000],
    ['00000001S', 1000],
  ] as const) {
    t.equal(grpcTimeoutMs(listOf([['grpc-timeout', text]])), ms, text);
  }
  for (const wrong of [
    '',
    '1',
    'm',
    '1s',
    '1h',
    '-1m',
    '+1m',
    '1.5S',
    ' 1S',
    '1 S',
    '100000000m',
    '1mm',
    '0x1S',
  ]) {
    t.equal(readTimeout(bytesOf(wrong)), -1, JSON.stringify(wrong));
  }
  t.equal(grpcTimeoutMs(listOf([['content-type', 'application/grpc']])), -1, 'none');
});

t.test('deadlines are written in the finest unit that has room, never shorter than they are', async (t) => {
  for (const [ms, text] of [
    [0, '1u'],
    [0.0001, '1u'],
    [1, '1000u'],
    [99_999.999, '99999999u'],
    [100_000, '100000m'],
    [99_999_999, '99999999m'],
    [100_000_000, '100000S'],
    [99_999_999_000, '99999999S'],
    [100_000_000_000, '1666667M'],
    [5_999_999_940_001, '1666667H'],
    [359_999_996_400_001, '99999999H'],
    [Number.POSITIVE_INFINITY, '99999999H'],
  ] as const) {
    t.equal(timeoutText(ms), text, String(ms));
  }
  let longest = 0;
  fc.assert(
    fc.property(fc.double({ min: 0, max: 3.5e14, noNaN: true }), (ms) => {
      const text = timeoutText(ms);
      const read = readTimeout(bytesOf(text));
      longest = Math.max(longest, text.length);
      const unit = ms < 99_999.999 ? 0.001 : ms < 99_999_999 ? 1 : ms < 99_999_999_000 ? 1000 : 3_600_000;
      if (read < ms || read > ms + 2 * unit) throw new Error(`${text} for ${ms}`);
    }),
    { seed: 20_261_121, numRuns: 2000 },
  );
  t.equal(longest, 9, 'eight digits and a unit');
});

t.test('a deadline that is nearer than it was is said again', async (t) => {
  const list = listOf([
    [':method', 'POST'],
    ['grpc-timeout', '10S'],
    ['te', 'trailers'],
  ]);
  renewGrpcTimeout(list, 9950.5);
  t.strictSame(linesOf(list), [':method: POST', 'grpc-timeout: 9950500u', 'te: trailers']);
  t.equal(list.size, listOf(pairsOf(list)).size);
  const none = listOf([[':method', 'POST']]);
  renewGrpcTimeout(none, 5);
  t.strictSame(linesOf(none), [':method: POST']);
});

t.test('how a call ended', async (t) => {
  for (const [value, code] of [
    ['0', 0],
    ['5', 5],
    ['16', 16],
    ['17', GRPC.unknown],
    ['99', GRPC.unknown],
    ['100', GRPC.unknown],
    ['', GRPC.unknown],
    ['-1', GRPC.unknown],
    ['OK', GRPC.unknown],
  ] as const) {
    t.equal(
      grpcStatus(
        listOf([
          ['grpc-message', 'x'],
          ['grpc-status', value],
        ]),
      ),
      code,
      value,
    );
  }
  t.equal(grpcStatus(listOf([[':status', '200']])), -1, 'nothing is said');
  t.equal(GRPC_NAMES.length, Object.keys(GRPC).length);
  for (const [name, code] of Object.entries(GRPC)) {
    t.equal(GRPC_NAMES[code].replaceAll('_', ''), name.toUpperCase());
  }
});

t.test('codes for what has no gRPC status', async (t) => {
  const table: readonly (readonly [number, string])[] = [
    [400, 'INTERNAL'],
    [401, 'UNAUTHENTICATED'],
    [403, 'PERMISSION_DENIED'],
    [404, 'UNIMPLEMENTED'],
    [429, 'UNAVAILABLE'],
    [431, 'INTERNAL'],
    [502, 'UNAVAILABLE'],
    [503, 'UNAVAILABLE'],
    [504, 'UNAVAILABLE'],
  ];
  for (const [status, name] of table) t.equal(GRPC_NAMES[codeOfHttpStatus(status)], name, String(status));
  for (const status of [200, 204, 301, 405, 415, 418, 500, 501, 505, 599]) {
    t.equal(codeOfHttpStatus(status), GRPC.unknown, String(status));
  }
  const resets = [13, 13, 13, 13, 13, 13, 13, 14, 1, 13, 13, 8, 7, 13];
  t.strictSame(
    resets.map((_, error) => codeOfReset(error)),
    resets,
  );
});

t.test('messages are percent-encoded UTF-8', async (t) => {
  for (const [text, encoded] of [
    ['plain text!', 'plain text!'],
    ['100%', '100%25'],
    ['a\tb\r\nc', 'a%09b%0D%0Ac'],
    ['ü', '%C3%BC'],
    ['\u{1f600}~\x7f', '%F0%9F%98%80~%7F'],
    ['', ''],
  ] as const) {
    t.equal(percentEncoded(text), encoded);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 30 }), (text) => {
      const encoded = percentEncoded(text);
      if (!/^[\x20-\x7e]*$/.test(encoded)) throw new Error(encoded);
      t.equal(decodeURIComponent(encoded), text);
    }),
    { seed: 20_261_121, numRuns: 300 },
  );
});

const ANSWER = { status: 503, message: 'no endpoint of “shop” 100 % up', decision: '0-17' };

t.test('answers the proxy makes itself', async (t) => {
  const list = new FieldList();
  grpcAnswerFields(ANSWER, GRPC_OF_REASON.failfast, list);
  t.strictSame(linesOf(list), [
    ':status: 200',
    'content-type: application/grpc',
    'grpc-status: 14',
    'grpc-message: no endpoint of %E2%80%9Cshop%E2%80%9D 100 %25 up (decision 0-17)',
    'l5d-proxy-error: no endpoint of ?shop? 100 % up',
    'l5d-proxy-decision: 0-17',
  ]);
  const head = Object.assign(new H2Head(), { keepMesh: true });
  for (const [name, value] of pairsOf(list)) head.fields.push(listOf([[name, value]]).items[0]);
  t.equal(readResponse(head), 0, 'a response that is right');

  grpcTrailerFields(ANSWER, GRPC.unavailable, list);
  t.strictSame(
    pairsOf(list).map(([name]) => name),
    ['grpc-status', 'grpc-message', 'l5d-proxy-error', 'l5d-proxy-decision'],
  );
  t.equal(readTrailers(new H2Head(list)), 0, 'trailers that are right');
});

t.test('answers that are not gRPC say what those of HTTP/1 say', async (t) => {
  const list = new FieldList();
  for (const json of [false, true]) {
    for (const isHead of [false, true]) {
      const body = textOf(answerFields(ANSWER, json, isHead, list));
      const [head, http1Body] = textOf(encodeAnswer(ANSWER, json, isHead, false)).split('\r\n\r\n');
      const [start, ...lines] = head.split('\r\n');
      t.equal(start, 'HTTP/1.1 503 Service Unavailable');
      t.strictSame(linesOf(list), [':status: 503', ...lines]);
      t.equal(body, http1Body);
    }
  }
  grpcAnswerFields({ ...ANSWER, message: ' odd\r\n ' }, 2, list);
  t.equal(
    list.items.slice(0, list.count).filter(({ problem }) => problem !== 0).length,
    0,
    'no field that is refused',
  );
});
