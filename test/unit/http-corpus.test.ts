/** Messages that others have read in two ways: refused, whole or byte by byte, and their harmless neighbours pass. */
import t from 'tap';
import { METHOD } from '../../proxy/http/names.ts';
import { readMessages } from '../support/http-codec.ts';
import { type CorpusCase, REQUEST_CORPUS } from '../support/http-corpus.ts';
import { RESPONSE_CORPUS } from '../support/http-response-corpus.ts';

/** Cut between all bytes, or, for what is long, in about as many places. */
function everywhere({ bytes }: CorpusCase): number[] {
  const step = Math.ceil(bytes.length / 500);
  return Array.from({ length: Math.floor(bytes.length / step) }, (_, i) => (i + 1) * step);
}

t.test('requests', async (t) => {
  for (const one of REQUEST_CORPUS) {
    for (const cuts of [[], everywhere(one)]) {
      const { expected, name } = one;
      const reader = readMessages(one.bytes, undefined, cuts);
      const found =
        reader.refusal === undefined
          ? { bodies: reader.messages.map(({ body }) => body) }
          : { refused: reader.refusal.status, part: reader.part };
      t.strictSame(found, expected, `${name}, ${cuts.length} cuts`);
      if ('refused' in expected) {
        t.equal(reader.messages.length, expected.part === 'head' ? 0 : 1, `${name}: heads that passed`);
        t.match(reader.refusal?.text, /\w/, name);
      } else {
        t.notOk(reader.amidMessage, `${name}: nothing is left`);
      }
    }
  }
});

t.test('responses', async (t) => {
  const methods = { GET: METHOD.get, HEAD: METHOD.head, CONNECT: METHOD.connect };
  for (const one of RESPONSE_CORPUS) {
    for (const cuts of [[], everywhere(one)]) {
      const { expected, name, statuses = [200] } = one;
      const reader = readMessages(one.bytes, methods[one.method ?? 'GET'], cuts);
      if ('refused' in expected) {
        t.strictSame({ refused: reader.refusal?.status, part: reader.part }, expected, name);
        continue;
      }
      t.equal(reader.refusal, undefined, name);
      t.strictSame([reader.messages[reader.messages.length - 1].body], expected.bodies, name);
      if (one.statuses !== undefined)
        t.strictSame(
          reader.messages.map(({ status }) => status),
          statuses,
          name,
        );
      t.equal(reader.head.close, one.close, `${name}: whether the connection may be used again`);
      t.equal(reader.left, one.unsolicited, `${name}: bytes that nobody asked for`);
    }
  }
});

t.test('names in the corpus are unique', async (t) => {
  for (const corpus of [REQUEST_CORPUS, RESPONSE_CORPUS]) {
    const names = corpus.map(({ name }) => name);
    t.strictSame(names, [...new Set(names)]);
  }
});
