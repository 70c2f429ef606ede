/** A connection of a client, whatever its protocol. */

/** One connection of one client. */
export interface Session {
  /** One exchange; rejects when it fails or the answer is wrong. `round` is different every time. */
  exchange(round: number): Promise<void>;
  close(): void;
}

/** Longest time a client waits for anything: a hundred times what a healthy exchange takes on a busy machine. */
export const PATIENCE_MS = 5_000;

/**
 * `promise`, unless `PATIENCE_MS` pass before: then `giveUp` is called.
 * @param what is waited for, to be named in the error
 */
export async function within<T>(what: string, promise: Promise<T>, giveUp: () => void): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new Error(`${what} took longer than ${PATIENCE_MS} ms`));
    giveUp();
  }, PATIENCE_MS);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What is wrong with an answer; the beginning of it is enough to see. */
export function wrongAnswer(answer: string): Error {
  return new Error(`a wrong answer: ${JSON.stringify(answer.slice(0, 80))}`);
}
