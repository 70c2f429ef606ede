/**
 * What a server must do, case by case, in the order and by the sections of h2spec's list (github.com/summerwind/h2spec), in our own words:
 * the sections are those of RFC 7540, as there, and of h2spec's own for `generic`.
 */
import type { H2Tester } from './h2.ts';

/** A case: `run` throws when the server does something else. */
export interface ConformanceCase {
  readonly section: string;
  readonly name: string;
  /** @param peer speaks to a server that answers every request with a text; nothing has been sent */
  run(peer: H2Tester): Promise<void>;
}

/** A case whose connection has begun in order. */
export function conformanceCase(
  section: string,
  name: string,
  run: (peer: H2Tester) => void | Promise<void>,
): ConformanceCase {
  return {
    section,
    name,
    run: async (peer) => {
      await peer.handshake();
      await run(peer);
    },
  };
}
