/**
 * A process whose worker relays, as the proxy's does: prints the port it listens on, then ends the way standard input says,
 * `exit` or `throw`, from its main thread.
 */

import { Worker } from 'node:worker_threads';
import { listenerPort, openListener } from '../../proxy/native/listener.ts';
import { at } from './engine.ts';
import type { EngineWorkerData } from './engine-worker.ts';

const descriptor = openListener(at('127.0.0.1:0'));
const workerData: EngineWorkerData = { descriptor, origin: process.argv[2] };
const worker = new Worker(new URL('./engine-worker.ts', import.meta.url), { workerData });
worker.on('message', (message) => {
  if (message === 'ready') console.log(`port ${listenerPort(descriptor)}`);
});
process.stdin.on('data', (bytes) => {
  const how = bytes.toString();
  if (how === 'exit') process.exit(3);
  throw new Error(`told to ${how}`);
});
