/**
 * A worker thread with an engine: relays every connection of the listening descriptor it is given to an origin, and ends the
 * way it is told to. Speaks in messages: `ready` when it listens, `relaying` for every relay, then obeys an `Ending`.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { SLAB_SLOTS } from '../../proxy/metrics/slab.ts';
import { type ConnectionId, Engine, type EngineHandler } from '../../proxy/native/engine.ts';
import { at } from './engine.ts';

/** What the worker is started with. */
export interface EngineWorkerData {
  readonly descriptor: number;
  /** Address of the origin. */
  readonly origin: string;
}

/** How the worker ends: `stop` lets go of the loop, `handler` throws inside a handler of the engine. */
export type EngineWorkerEnding = 'throw' | 'handler' | 'exit' | 'stop';

/** Every other event needs no answer here. */
const quiet = (): void => {};

function run(data: EngineWorkerData): void {
  if (parentPort === null) throw new Error('not a worker');
  const port = parentPort;
  const origin = at(data.origin);
  const downOf = new Map<ConnectionId, ConnectionId>();
  let throws = false;
  const handler: EngineHandler = {
    accepted: (id) => {
      if (throws) throw new Error('thrown inside a handler');
      downOf.set(engine.connect(origin, false), id);
    },
    connected: (id) => {
      engine.relay(downOf.get(id) ?? 0, id);
      port.postMessage('relaying');
    },
    connectFailed: quiet,
    data: quiet,
    end: quiet,
    blocked: quiet,
    drained: quiet,
    passed: quiet,
    secured: quiet,
    tlsFailed: quiet,
    closed: quiet,
    deadline: quiet,
    acceptPaused: quiet,
    acceptResumed: quiet,
    deadOperation: quiet,
  };
  const engine = new Engine(handler, new Float64Array(new SharedArrayBuffer(SLAB_SLOTS * 8)));
  engine.listen(data.descriptor, { transparent: false });
  port.on('message', (ending: EngineWorkerEnding) => {
    if (ending === 'throw') throw new Error('thrown in the worker');
    if (ending === 'exit') process.exit(7);
    if (ending === 'handler') throws = true;
    if (ending === 'stop') {
      engine.stop();
      port.close();
    }
    if (ending === 'handler') port.postMessage('armed');
  });
  port.postMessage('ready');
}

run(workerData as EngineWorkerData);
