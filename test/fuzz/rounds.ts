/** Rounds of the fuzzer, one seed after the other. */

import { TestPki } from '../support/pki.ts';
import { Fuzzer } from './engine.fuzz.ts';
import type { FuzzSummary } from './model.ts';

/**
 * Runs `rounds` rounds, the first with `seed`, the next with `seed + 1`, …
 * @throws at the first broken promise, naming the round's seed
 */
export async function fuzz(seed: number, rounds: number): Promise<FuzzSummary> {
  const summary: FuzzSummary = {
    connections: 0,
    bytes: 0,
    relays: 0,
    unrelays: 0,
    refusedRelays: 0,
    orderlyEnds: 0,
    failures: 0,
    deadOperations: 0,
    splicedBytes: 0,
    secured: 0,
    handshakesFailed: 0,
    unreadBytes: 0,
    passes: 0,
    cutPasses: 0,
    passedBytes: 0,
    spoiled: 0,
  };
  const pki = await TestPki.create();
  const identity = { credential: await pki.issue('server'), anchors: pki.anchors };
  for (let round = 0; round < rounds; round++) {
    const fuzzer = new Fuzzer(seed + round, summary, identity);
    try {
      await fuzzer.run();
    } catch (error) {
      throw new Error(`round with seed ${seed + round}: ${error instanceof Error ? error.message : error}`, {
        cause: error,
      });
    } finally {
      await fuzzer.dispose();
    }
  }
  return summary;
}
