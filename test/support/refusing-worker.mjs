/** Preloaded into a proxy: its workers take no identity while the file named in the environment exists. */
import { existsSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const order = process.env.FERRULE_TEST_REFUSE;
if (!isMainThread && order !== undefined) {
  const { Engine } = await import('../../proxy/native/engine.ts');
  const { makeContext } = Engine.prototype;
  Engine.prototype.makeContext = function (...pem) {
    if (existsSync(order)) throw new Error('refused by order of the test');
    return makeContext.apply(this, pem);
  };
}
