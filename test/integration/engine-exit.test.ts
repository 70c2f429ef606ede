/** The end of the whole process by its own hand, in the middle of relays. */

import { fileURLToPath } from 'node:url';
import t from 'tap';
import { at, until } from '../support/engine.ts';
import { dial, serve } from '../support/engine-peers.ts';
import { spawnNode } from '../support/node-child.ts';

const SCRIPT = fileURLToPath(new URL('../support/engine-process.ts', import.meta.url));

for (const [how, status] of [
  ['exit', 3],
  ['throw', 1],
] as const) {
  t.test(`${how} on the main thread: the peers of its workers see a reset`, async (t) => {
    const origin = await serve(t);
    // The child loads the same addon, and a sanitized one needs its library.
    const { FERRULE_SANITIZER = '' } = process.env;
    const child = spawnNode([SCRIPT, origin.address.toString()], {
      env: { ...process.env, LD_PRELOAD: FERRULE_SANITIZER },
    });
    t.teardown(() => child.kill('SIGKILL'));
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes) => {
        output += bytes;
      });
    }
    await until(() => /^port \d+$/m.test(output) || child.exitCode !== null, 'the child listens');
    const client = await dial(t, at(`127.0.0.1:${/^port (\d+)$/m.exec(output)?.[1] ?? 0}`));
    const upstream = await origin.peer();
    client.socket.write('half of a request');
    await until(() => upstream.receivedBytes === 17, 'the relay works');
    upstream.socket.write('half of an answer');
    await until(() => client.receivedBytes === 17, 'both ways');
    child.stdin.write(how);
    await until(() => child.exitCode !== null, 'the process ends');
    t.equal(child.exitCode, status, output);
    await until(() => client.closed && upstream.closed, 'the peers hear');
    t.strictSame([client.error, upstream.error], ['ECONNRESET', 'ECONNRESET']);
    t.notOk(client.ended || upstream.ended, 'no end that looks orderly');
  });
}
