/** A Node program of the demo inside a pod: asks it, and (in the program) answers. */

import { get } from 'node:http';
import { UserError } from '../core/errors.ts';
import type { Answered, Answers, Asked, Question } from './messages.ts';
import type { Program } from './program.ts';

/** Longer than the clients' own deadlines: what they say is better than that they say nothing. */
const ANSWER_PATIENCE_MS = 15_000;

/** A scrape is local and takes milliseconds. */
const SCRAPE_TIMEOUT_MS = 5_000;

/** The demo's end of the channel. */
export class Agent {
  readonly program: Program;
  private readonly open = new Map<number, PromiseWithResolvers<unknown>>();
  private asked = 0;

  constructor(program: Program) {
    this.program = program;
    program.onMessage((message) => {
      const { id, answer, error } = message as Answered;
      const question = this.open.get(id);
      this.open.delete(id);
      if (error === undefined) question?.resolve(answer);
      else question?.reject(new UserError(`${program.name}: ${error}`));
    });
  }

  /** @throws UserError with what the program says when it cannot, or when it ends or does not answer */
  async ask<const Q extends Question>(question: Q): Promise<Answers[Q['ask']]> {
    const id = this.asked++;
    const waiting = Promise.withResolvers<unknown>();
    this.open.set(id, waiting);
    this.program.send({ id, question } satisfies Asked);
    return (await this.program.orEnd(waiting.promise, ANSWER_PATIENCE_MS)) as Answers[Q['ask']];
  }
}

/** The program's end: answers until the demo is gone, then ends. Scrapes are answered for every program. */
export function answerQuestions(answer: (question: Question) => Promise<unknown>): void {
  process.on('message', (message) => {
    const { id, question } = message as Asked;
    const answering = question.ask === 'scrape' ? scrape(question.url) : answer(question);
    answering.then(
      (result) => reply({ id, answer: result }),
      (error) => reply({ id, error: error instanceof Error ? error.message : String(error) }),
    );
  });
  process.once('disconnect', () => process.exit());
}

function reply(message: Answered): void {
  // Gone with the demo in the meantime: then nobody waits for it.
  if (process.connected) process.send?.(message);
}

function scrape(url: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const request = get(url, { agent: false, timeout: SCRAPE_TIMEOUT_MS }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('error', reject);
    response.on('end', () => {
      if (response.statusCode === 200) resolve(text);
      else reject(new Error(`${url} answered ${response.statusCode}`));
    });
  });
  request.on('timeout', () => request.destroy(new Error(`${url} did not answer`)));
  request.on('error', reject);
  return promise;
}
