/**
 * Removes what a killed demo left: a small shell waits for the demo's end of a pipe to close and becomes this program.
 * Argument: the id of the run.
 */

import { removeRun } from './leftovers.ts';

await removeRun(process.argv[2]);
