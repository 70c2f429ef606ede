/** What V8's compiler may take, which works on threads of its own beside those that carry traffic. */
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { log } from '../core/log.ts';

/**
 * Bytecode in bytes that V8 may compile into one function in place of calls. A request of HTTP/2 is some two hundred calls of small
 * functions: the codec takes a third less time than with the default of 920, and no less with 8000. To compile what is hot takes 0.5 s of
 * CPU time instead of 0.3, once.
 */
const INLINED_BYTECODE_BYTES = 4000;

/**
 * Functions that are compiled at a time. V8 would take four, and for 100 ms every processor of a small machine, its applications' too:
 * a client's 99th percentile in the first seconds was twice as high.
 */
const COMPILED_AT_ONCE = 1;

/** A tenth of the share that those have who carry traffic: on a busy machine code gets fast later. */
const NICENESS = 10;

/** Where Linux lists the threads of a process, each of which has a priority of its own. */
const THREADS = '/proc/self/task';

/** The name of V8's helper threads, which compile and collect garbage. */
const HELPERS = 'V8Worker';

/** Sets all of it, for the process; before the first worker thread starts. */
export function restrainCompiler(): void {
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTECODE_BYTES}`);
  setFlagsFromString(`--concurrent-turbofan-max-threads=${COMPILED_AT_ONCE}`);
  // A young generation this small is collected in 0.2 ms. To wait for a helper that has begun to, and does not get a processor, took up to 27.
  setFlagsFromString('--no-parallel-scavenge');
  try {
    for (const thread of readdirSync(THREADS)) if (isHelper(thread)) lower(Number(thread));
  } catch (error) {
    // A thread that has just ended, or a sandbox: traffic goes on all the same.
    log.debug('V8 compiles at its usual priority', { error: String(error) });
  }
}

function isHelper(thread: string): boolean {
  return readFileSync(`${THREADS}/${thread}/comm`, 'utf8').trim() === HELPERS;
}

/** Never raises it: that takes a right. */
function lower(thread: number): void {
  if (getPriority(thread) < NICENESS) setPriority(thread, NICENESS);
}
