/** Two stacks of gRPC that know nothing of each other, as programs: grpc-js, and Python's grpcio on gRPC's C core. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { GrpcOutcome } from './grpc-client.ts';
import { findPeer, missing } from './peers.ts';
import { WITHOUT_HOOKS } from './servers.ts';

/** Commands for env(1). */
export interface GrpcStack {
  readonly name: 'grpc-js' | 'grpcio';
  /** Serves the interoperability tests until it is killed. */
  server(host: string, port: number): readonly string[];
  /** Runs all cases against `IP:PORT` and prints what came of them. */
  client(address: string): readonly string[];
}

/** What comes of both clients when everything is right. */
export const ALL_RIGHT: readonly GrpcOutcome[] = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'custom_metadata',
  'status_code_and_message',
  'special_status_message',
  'unimplemented_method',
  'unimplemented_service',
  'cancel_after_begin',
  'cancel_after_first_response',
  'timeout_on_sleeping_server',
  'timeout_in_the_middle',
  'deadline_told',
  'mixed_calls',
].map((name) => ({ name, wrong: '' }));

const pathOf = (name: string) => fileURLToPath(new URL(`./${name}`, import.meta.url));

/** The one that needs nothing but Node. */
export const GRPC_JS: GrpcStack = {
  name: 'grpc-js',
  server: (host, port) => [...WITHOUT_HOOKS, process.execPath, pathOf('grpc-server.ts'), host, String(port)],
  client: (address) => [...WITHOUT_HOOKS, process.execPath, pathOf('grpc-client.ts'), address],
};

/** Both stacks; undefined when Python's is missing, which was told then. */
export function grpcStacks(t: Test): readonly GrpcStack[] | undefined {
  // Debian's own Python has Debian's packages; the first in PATH may be another one.
  const python = [findPeer('python3'), '/usr/bin/python3'].find(
    (path) => path !== undefined && spawnSync(path, ['-c', 'import grpc']).status === 0,
  );
  if (python === undefined) {
    missing(t, 'no python3 has grpcio (Debian: python3-grpcio)');
    return undefined;
  }
  const script = pathOf('grpc-peer.py');
  const grpcio: GrpcStack = {
    name: 'grpcio',
    server: (host, port) => [python, script, 'server', host, String(port)],
    client: (address) => [python, script, 'client', address],
  };
  return [GRPC_JS, grpcio];
}

/** What a client printed. @throws with what it said instead */
export function outcomesOf({
  stdout,
  stderr,
}: {
  readonly stdout: string;
  readonly stderr: string;
}): unknown {
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout);
}
