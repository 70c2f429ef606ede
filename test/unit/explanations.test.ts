/** Asking workers for what they decided. */
import t from 'tap';
import { type AskedWorker, Explanations, parseDecisionId } from '../../proxy/control/explanations.ts';
import { EXIT, UserError } from '../../proxy/core/errors.ts';
import type { Explanation } from '../../proxy/model/explanation.ts';
import type { ToWorker } from '../../proxy/model/messages.ts';
import { explanationOf } from '../support/explanations.ts';

type Asked = Extract<ToWorker, { type: 'explain' }>;

/** Workers that answer as the test says; `answer` undefined: not at all. */
function createWorkers(
  answers: Readonly<Record<number, (asked: Asked) => readonly Explanation[] | undefined>>,
) {
  const explanations = new Explanations();
  const asked: (readonly [number, number | undefined])[] = [];
  const workers = Object.entries(answers).map(([number, answer]): AskedWorker => {
    const postMessage = (message: ToWorker): void => {
      const question = message as Asked;
      asked.push([Number(number), question.sequence]);
      const told = answer(question);
      if (told !== undefined) setImmediate(() => explanations.answered(question.call, told));
    };
    return { number: Number(number), thread: { postMessage } };
  });
  return { explanations, workers, asked };
}

/** The error of a promise that must fail. */
async function errorOf(promise: Promise<unknown>): Promise<UserError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof UserError) return error;
  throw new Error(`no UserError but ${error}`);
}

const startedAt = (second: number) => `2026-11-21T14:00:${String(second).padStart(2, '0')}.000Z`;

t.test('ids are a worker and a sequence, in decimal', async (t) => {
  t.strictSame(parseDecisionId('0-1234'), { worker: 0, sequence: 1234 });
  t.strictSame(parseDecisionId('12-1'), { worker: 12, sequence: 1 });
  for (const text of [
    '',
    '0',
    '1234',
    '0-0',
    '0-01',
    '00-1',
    '-1-2',
    '0-1-2',
    ' 0-1',
    '0-1\n',
    '0-1e3',
    '0_1',
  ])
    t.equal(parseDecisionId(text), undefined, JSON.stringify(text));
});

t.test('one request is asked of its worker alone', async (t) => {
  const known = explanationOf({ id: '3-17' });
  const { explanations, workers, asked } = createWorkers({
    1: () => [explanationOf({ id: '1-17' })],
    3: ({ sequence }) => (sequence === 17 ? [known] : []),
  });
  t.strictSame(await explanations.explain('3-17', workers), [known]);
  t.strictSame(asked, [[3, 17]]);
  const unknown = await errorOf(explanations.explain('3-18', workers));
  t.match(unknown, { message: /^nothing is known of 3-18: .*latest/, exitCode: EXIT.failure });
  const absent = await errorOf(explanations.explain('2-17', workers));
  t.equal(absent.message, 'no worker 2 runs here: it was replaced, or the id is of another proxy');
  const malformed = await errorOf(explanations.explain('17', workers));
  t.match(malformed, { message: '"17" is no id: an id looks like 0-1234', exitCode: EXIT.usage });
});

t.test('without an id: the latest of all, newest first, fifty at most', async (t) => {
  const { explanations, workers, asked } = createWorkers({
    0: () => [6, 4, 2].map((second) => explanationOf({ id: `0-${second}`, startedAt: startedAt(second) })),
    1: () => [5, 3].map((second) => explanationOf({ id: `1-${second}`, startedAt: startedAt(second) })),
    2: () => [],
  });
  const found = await explanations.explain(undefined, workers);
  t.strictSame(
    found.map(({ id }) => id),
    ['0-6', '1-5', '0-4', '1-3', '0-2'],
  );
  t.strictSame(asked, [
    [0, undefined],
    [1, undefined],
    [2, undefined],
  ]);
  const many = (worker: number) => () =>
    Array.from({ length: 40 }, (_, index) => explanationOf({ id: `${worker}-${40 - index}` }));
  const busy = createWorkers({ 0: many(0), 1: many(1) });
  const latest = await busy.explanations.explain(undefined, busy.workers);
  t.equal(latest.length, 50);
  t.equal(latest[0].id, '0-40', 'what began at the same time stays in order');
  t.strictSame(await new Explanations().explain(undefined, []), [], 'no worker, no request');
});

t.test('a worker that ends meanwhile answers nothing', async (t) => {
  const { explanations, workers } = createWorkers({
    0: () => undefined,
    1: () => [explanationOf({ id: '1-1' })],
  });
  const one = errorOf(explanations.explain('0-1', workers));
  const all = explanations.explain(undefined, workers);
  explanations.ended(workers[0]);
  t.match((await one).message, 'no worker 0 runs here');
  t.strictSame(
    (await all).map(({ id }) => id),
    ['1-1'],
  );
});

t.test('a worker that is stuck is not waited for', async (t) => {
  const calls: number[] = [];
  const { explanations, workers } = createWorkers({
    0: ({ call }) => {
      calls.push(call);
      return undefined;
    },
    1: () => [explanationOf({ id: '1-1' })],
  });
  const [one, all, alone] = await Promise.all([
    errorOf(explanations.explain('0-1', workers)),
    explanations.explain(undefined, workers),
    errorOf(explanations.explain(undefined, [workers[0]])),
  ]);
  t.match(one, { message: /^worker 0 does not answer within 2 s/, exitCode: EXIT.unavailable });
  t.strictSame(
    all.map(({ id }) => id),
    ['1-1'],
  );
  t.match(alone, { message: /^the workers do not answer/, exitCode: EXIT.unavailable });
  t.doesNotThrow(() => {
    for (const call of calls) explanations.answered(call, [explanationOf()]);
  }, 'an answer that comes too late is dropped');
});
