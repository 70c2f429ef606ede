/** Node programs as children of a test, run as a user would run them. */

import {
  type ChildProcessWithoutNullStreams,
  type SpawnOptionsWithoutStdio,
  spawn,
} from 'node:child_process';

/**
 * Starts this Node with `args`. tap puts its hooks into the NODE_OPTIONS of every child, at the moment of the spawn; in the
 * product they change start-up, memory and how modules load, so env(1) takes them away again. The pid is Node's.
 */
export function spawnNode(
  args: readonly string[],
  options?: SpawnOptionsWithoutStdio,
): ChildProcessWithoutNullStreams {
  return spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, ...args], options);
}
