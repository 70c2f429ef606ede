/** Preloaded into a proxy: its workers throw once the file named in the environment appears. */
import { existsSync, unlinkSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const order = process.env.FERRULE_TEST_THROW;
if (!isMainThread && order !== undefined) {
  setInterval(() => {
    if (!existsSync(order)) return;
    unlinkSync(order);
    throw new Error('thrown by order of the test');
  }, 20).unref();
}
