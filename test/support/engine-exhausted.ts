/**
 * A process of its own with few descriptors: accepts until none is left, looks whether waiting costs anything, then serves
 * everybody. Prints `port N` at first and `paused`, `at rest`, `resumed`, `served` as it gets there.
 */

import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Seen, TestEngine, until } from './engine.ts';

/** Longer than a tick of the engine, in which it tries again: some turns are its right. */
const STRETCH = 50;

async function run(clients: number): Promise<void> {
  const test = new TestEngine();
  console.log(`port ${test.listen().port}`);
  await until(() => test.acceptPauses.length > 0, 'out of descriptors');
  if (test.acceptPauses[0] !== constants.errno.EMFILE) throw new Error(`errno ${test.acceptPauses[0]}`);
  if (test.figure('accept_paused') !== 1) throw new Error('the figure does not say so');
  console.log('paused');
  let turns: number;
  do {
    turns = test.figure('loop_turns_total');
    for (let i = 0; i < STRETCH; i++) await sleep(2);
  } while (test.figure('loop_turns_total') - turns > 3 * STRETCH);
  console.log('at rest');
  const answer = (seen: Seen) => {
    test.engine.send(seen.id, Buffer.from('served'));
    test.engine.close(seen.id);
  };
  test.onAccepted = answer;
  for (const seen of [...test.accepts]) answer(seen);
  await until(() => test.acceptResumes > 0, 'accepting goes on');
  console.log('resumed');
  await until(() => test.accepts.length === clients && test.accepts.every((seen) => seen.gone), 'all served');
  if (test.figure('accept_paused') !== 0) throw new Error('the figure still says paused');
  console.log('served');
  await test.stop();
}

await run(Number(process.argv[2]));
