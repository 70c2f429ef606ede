/** Asks the workers what they have decided: for the admin page `/explain` and `ferrule explain`. */
import { EXIT, UserError } from '../core/errors.ts';
import { type Explanation, LATEST } from '../model/explanation.ts';
import type { ToWorker } from '../model/messages.ts';

/** A worker that has not answered by then is stuck, in ms: well before the commands, which wait for 5 s, give up on main. */
const ANSWER_MS = 2_000;

/** For messages about ids that are none. */
export const DECISION_ID_FORM = 'an id looks like 0-1234';

/** Which request of which worker. */
export interface DecisionId {
  /** As in `WorkerSettings`. */
  readonly worker: number;
  readonly sequence: number;
}

/** A worker, as far as it can be asked. */
export interface AskedWorker {
  readonly number: number;
  readonly thread: { postMessage(message: ToWorker): void };
}

type Answer = readonly Explanation[] | 'ended' | 'late';

interface Question {
  readonly worker: AskedWorker;
  readonly late: NodeJS.Timeout;
  readonly resolve: (answer: Answer) => void;
}

/** Parses `0-1234` as it stands in `l5d-proxy-decision`; undefined when it is no id. */
export function parseDecisionId(text: string): DecisionId | undefined {
  const parts = /^(0|[1-9]\d{0,8})-([1-9]\d{0,14})$/.exec(text);
  return parts === null ? undefined : { worker: Number(parts[1]), sequence: Number(parts[2]) };
}

/** The questions that are under way. */
export class Explanations {
  private readonly questions = new Map<number, Question>();
  private nextCall = 1;

  /**
   * The request of that id alone, or the latest ones of all `workers`, newest first.
   * @throws UserError: EXIT.usage when it is no id, EXIT.unavailable when a worker is stuck, else nothing is known of it
   */
  async explain(id: string | undefined, workers: Iterable<AskedWorker>): Promise<readonly Explanation[]> {
    return id === undefined ? this.latest([...workers]) : this.one(id, [...workers]);
  }

  /** A worker has answered. */
  answered(call: number, explanations: readonly Explanation[]): void {
    this.settle(call, explanations);
  }

  /** A worker has ended, and what it knew is lost. */
  ended(worker: AskedWorker): void {
    for (const [call, question] of this.questions) if (question.worker === worker) this.settle(call, 'ended');
  }

  private async one(id: string, workers: readonly AskedWorker[]): Promise<readonly Explanation[]> {
    const wanted = parseDecisionId(id);
    if (wanted === undefined) {
      throw new UserError(`${JSON.stringify(id.slice(0, 40))} is no id: ${DECISION_ID_FORM}`, EXIT.usage);
    }
    const worker = workers.find(({ number }) => number === wanted.worker);
    const answer = worker === undefined ? 'ended' : await this.ask(worker, wanted.sequence);
    if (answer === 'ended') {
      throw new UserError(
        `no worker ${wanted.worker} runs here: it was replaced, or the id is of another proxy`,
      );
    }
    if (answer === 'late') throw stuck(`worker ${wanted.worker} does`);
    if (answer.length > 0) return answer;
    throw new UserError(
      `nothing is known of ${id}: a worker keeps its latest 256 requests, and a thousand that failed or were tried again; without an id you get the latest`,
    );
  }

  /** Workers that are stuck or end meanwhile are left out: the others' requests are worth seeing then more than ever. */
  private async latest(workers: readonly AskedWorker[]): Promise<readonly Explanation[]> {
    const answers = await Promise.all(workers.map((worker) => this.ask(worker, undefined)));
    if (answers.length > 0 && answers.every((answer) => answer === 'late')) throw stuck('the workers do');
    return answers
      .flatMap((answer) => (typeof answer === 'string' ? [] : answer))
      .sort((a, b) => Date.parse(b.startedAt) - Date.parse(a.startedAt))
      .slice(0, LATEST);
  }

  private ask(worker: AskedWorker, sequence: number | undefined): Promise<Answer> {
    const call = this.nextCall++;
    return new Promise((resolve) => {
      const late = setTimeout(() => this.settle(call, 'late'), ANSWER_MS);
      this.questions.set(call, { worker, late, resolve });
      worker.thread.postMessage({ type: 'explain', call, sequence });
    });
  }

  private settle(call: number, answer: Answer): void {
    const question = this.questions.get(call);
    // Of one that was late there is nobody left who waits.
    if (question === undefined) return;
    this.questions.delete(call);
    clearTimeout(question.late);
    question.resolve(answer);
  }
}

function stuck(who: string): UserError {
  return new UserError(
    `${who} not answer within ${ANSWER_MS / 1_000} s: overloaded or stuck; try again`,
    EXIT.unavailable,
  );
}
