/**
 * A process of its own with little memory: gives bytes back to one connection until there is no more room, and prints how
 * that connection ended and whether another one is still served.
 */
import { type Seen, TestEngine, until } from './engine.ts';

/** Beyond any limit that lets the process start. */
const GIVEN_BACK_BYTES = 4 * 2 ** 30;

async function run(): Promise<void> {
  const test = new TestEngine();
  const address = test.listen();
  const [victim, other] = [test.connect(address), test.connect(address)];
  await until(() => test.accepts.length === 2 && other.count('connected') === 1, 'connections');
  const megabyte = Buffer.alloc(1 << 20);
  for (let given = 0; given < GIVEN_BACK_BYTES && !victim.gone; given += megabyte.length) {
    test.engine.unread(victim.id, megabyte);
    test.engine.flush();
    // What was refused would be told by now.
    if (given % (64 << 20) === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => victim.gone, 'the end of the connection');
  console.log(`errno ${victim.endings[0].errno}`);
  for (const seen of test.accepts) answer(test, seen);
  test.engine.resume(other.id);
  await until(() => other.text === 'served', 'the other one is served');
  console.log('served');
  await test.stop();
}

function answer(test: TestEngine, seen: Seen): void {
  if (!seen.gone) test.engine.send(seen.id, Buffer.from('served'));
}

await run();
