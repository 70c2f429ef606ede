/**
 * The codec against random messages and against two independent readings: one from the grammar, and llhttp behind a socket. What
 * is forwarded must mean the same to everybody, above all where its body ends.
 */
import fc from 'fast-check';
import t from 'tap';
import { METHOD } from '../../proxy/http/names.ts';
import { NOISE, REQUESTS, RESPONSES, SPOILED } from '../support/http-arbitrary.ts';
import { type MessageReader, readMessages } from '../support/http-codec.ts';
import { forwardMessage } from '../support/http-forward.ts';
import { readStrictly } from '../support/http-strict.ts';
import { ServerWitness, seeResponse, type Witnessed } from '../support/http-witness.ts';

const SOAK = process.env.FERRULE_SOAK === '1';
const RUNS = { seed: 20_261_121, numRuns: SOAK ? 50_000 : 1500 };
/** Each takes a connection. */
const SOCKET_RUNS = { seed: 20_261_121, numRuns: SOAK ? 5000 : 250 };

const HOP_FIELDS = /^(connection|keep-alive|proxy-connection|te|transfer-encoding|content-length|l5d-.*)$/;

/** All that a reader found. */
function found(reader: MessageReader): unknown {
  return { messages: reader.messages, problem: reader.problem, part: reader.part, left: reader.left };
}

t.test('valid messages are accepted, and every split of them reads the same', async (t) => {
  const check = (text: string, method: number | undefined, cuts: readonly number[]) => {
    const whole = readMessages(text, method);
    if (whole.problem !== 0) throw new Error(`${whole.refusal?.text}: ${JSON.stringify(text)}`);
    for (const cut of Array.from({ length: text.length }, (_, i) => [i])) {
      if (JSON.stringify(found(readMessages(text, method, cut))) !== JSON.stringify(found(whole))) {
        throw new Error(`cut at ${cut}: ${JSON.stringify(text)}`);
      }
    }
    const pieces = readMessages(
      text,
      method,
      cuts.map((cut) => cut % text.length),
    );
    t.strictSame(found(pieces), found(whole));
  };
  const cuts = fc.array(fc.nat(500), { maxLength: 6 });
  const runs = { ...RUNS, numRuns: RUNS.numRuns / 10 };
  fc.assert(
    fc.property(fc.array(REQUESTS, { minLength: 1, maxLength: 3 }), cuts, (all, places) =>
      check(all.map(({ text }) => text).join(''), undefined, places),
    ),
    runs,
  );
  fc.assert(
    fc.property(RESPONSES, cuts, ({ text }, places) => check(text, METHOD.get, places)),
    runs,
  );
});

t.test('no bytes make a reader throw, hang or read differently when they are cut', async (t) => {
  const counts = { refused: 0, waiting: 0, accepted: 0 };
  const cuts = fc.array(fc.nat(200), { maxLength: 6 });
  fc.assert(
    fc.property(fc.oneof(NOISE, SPOILED), cuts, fc.boolean(), (text, places, isRequest) => {
      const method = isRequest ? undefined : METHOD.get;
      const whole = readMessages(text, method);
      const pieces = readMessages(
        text,
        method,
        places.map((cut) => cut % (text.length + 1)),
      );
      if (whole.problem !== pieces.problem || whole.messages.length !== pieces.messages.length) {
        throw new Error(`${whole.problem} and ${pieces.problem} for ${JSON.stringify(text)}`);
      }
      counts[whole.problem !== 0 ? 'refused' : whole.amidMessage ? 'waiting' : 'accepted']++;
    }),
    RUNS,
  );
  t.ok(counts.refused > 100 && counts.waiting > 10 && counts.accepted > 20, JSON.stringify(counts));
});

t.test('what is accepted of a spoiled request, the grammar reads alike: body and end', async (t) => {
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(SPOILED, (text) => {
      const [first] = readMessages(text).messages;
      const reader = readMessages(text);
      if (first === undefined || (reader.messages.length === 1 && reader.part === 'body')) {
        refused++;
        return;
      }
      const strict = readStrictly(text);
      if (strict === undefined) throw new Error(`only ours accepts ${JSON.stringify(text)}`);
      const same =
        strict.body === first.body && strict.method === first.method && strict.target === first.target;
      if (!same) throw new Error(`${JSON.stringify(strict)} and ${JSON.stringify(first)}`);
      const alone = readMessages(text.slice(0, strict.end));
      if (alone.messages.length !== 1 || alone.left !== 0)
        throw new Error(`another end: ${JSON.stringify(text)}`);
      accepted++;
    }),
    { ...RUNS, numRuns: RUNS.numRuns * 4 },
  );
  t.ok(accepted > 500 && refused > 500, `${accepted} accepted, ${refused} refused or not whole`);
});

/** Fields without those of the hop, which the codec may drop or write anew. */
function endToEnd(fields: readonly (readonly [string, string])[]): string[] {
  const named = fields
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.toLowerCase().split(/[ ,]+/));
  return fields
    .filter(([name]) => !HOP_FIELDS.test(name.toLowerCase()) && !named.includes(name.toLowerCase()))
    .map(([name, value]) => `${name}: ${value}`);
}

/** Compares what was forwarded, as somebody else read it, with what was made. */
function compare(seen: Witnessed, fields: readonly (readonly [string, string])[], body: string): void {
  const [arrived, made] = [endToEnd(seen.fields), endToEnd(fields)];
  if (JSON.stringify(arrived) !== JSON.stringify(made)) throw new Error(`${arrived} instead of ${made}`);
  if (seen.body !== body)
    throw new Error(`body ${JSON.stringify(seen.body)} instead of ${JSON.stringify(body)}`);
}

t.test('a forwarded request means the same to the codec and to llhttp', async (t) => {
  const witness = await ServerWitness.start();
  t.teardown(() => witness.stop());
  await fc.assert(
    fc.asyncProperty(REQUESTS, async ({ text, start, fields, body }) => {
      const forwarded = forwardMessage(text, 'request') ?? '';
      const [again] = readMessages(forwarded).messages;
      compare(
        { start, fields: again.fields.map(([name, value]) => [name, value]), body: again.body, trailers: [] },
        fields,
        body,
      );
      const { requests, refused } = await witness.see(forwarded);
      if (refused || requests.length !== 1)
        throw new Error(`${requests.length} requests of ${JSON.stringify(forwarded)}`);
      if (`${requests[0].start} HTTP/1.1` !== start) throw new Error(requests[0].start);
      compare(requests[0], fields, body);
      const wire = requests[0].fields.map(([name]) => name.toLowerCase());
      if (
        new Set(wire.filter((name) => HOP_FIELDS.test(name))).size !==
        wire.filter((name) => HOP_FIELDS.test(name)).length
      ) {
        throw new Error(`a field of the hop twice: ${wire}`);
      }
    }),
    SOCKET_RUNS,
  );
  t.ok(true, `${SOCKET_RUNS.numRuns} requests`);
});

t.test('a forwarded response means the same to the codec and to llhttp', async (t) => {
  await fc.assert(
    fc.asyncProperty(RESPONSES, async ({ text, start, fields, body }) => {
      const forwarded = forwardMessage(text, 'response') ?? '';
      const seen = await seeResponse(forwarded);
      if (`HTTP/1.1 ${seen.start}` !== start) throw new Error(`${seen.start} instead of ${start}`);
      compare(seen, fields, body);
    }),
    SOCKET_RUNS,
  );
  t.ok(true, `${SOCKET_RUNS.numRuns} responses`);
});

t.test(
  'a spoiled request that is forwarded is one request to llhttp, with the same body, and nothing behind it',
  async (t) => {
    const witness = await ServerWitness.start();
    t.teardown(() => witness.stop());
    const counts = { seen: 0, refused: 0, dropped: 0 };
    await fc.assert(
      fc.asyncProperty(SPOILED, async (text) => {
        const forwarded = forwardMessage(text, 'request');
        const [ours] = readMessages(text).messages;
        if (forwarded === undefined || ours.upgrade || ours.form === 'authority') {
          counts.dropped++;
          return;
        }
        const { requests, refused } = await witness.see(forwarded);
        if (refused && requests.length === 0) {
          counts.refused++;
          return;
        }
        counts.seen++;
        if (refused || requests.length !== 1 || requests[0].body !== ours.body) {
          throw new Error(`${JSON.stringify(forwarded)} was read as ${JSON.stringify(requests)}`);
        }
      }),
      { ...SOCKET_RUNS, numRuns: SOCKET_RUNS.numRuns * 4 },
    );
    t.ok(counts.seen > 50 && counts.dropped > 50, JSON.stringify(counts));
  },
);
