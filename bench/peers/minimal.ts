/** The least that can be between client and backend with mutual TLS: bench/load/tls-relay.cc, with one library or the other. */

import { existsSync } from 'node:fs';
import { ask, findProgram } from '../harness/machine.ts';
import type { Identity, Launch, PairLaunch, Probe, Route } from '../harness/model.ts';

/** Which OpenSSL it runs with: the system's, as other proxies do, or the one inside node, as ferrule does. */
export type Library = 'system' | 'node';

const PROGRAM = { system: 'tls-relay', node: 'tls-relay.node' } as const;

/** @returns the tools for `Peer.tools` */
export function minimalTools(library: Library): readonly string[] {
  return [PROGRAM[library]];
}

/** Whether it can be compiled. */
export function probeMinimal(library: Library): Probe {
  if (findProgram('g++') === undefined) return { found: false, reason: 'g++ is not installed' };
  if (library === 'node') return { found: true, versions: [] };
  if (!existsSync('/usr/include/openssl/ssl.h')) {
    return {
      found: false,
      reason: 'headers of OpenSSL are not installed (Debian: apt-get install libssl-dev)',
    };
  }
  const version = /OpenSSL \S+/.exec(ask(findProgram('openssl') ?? 'openssl', ['version']).text)?.[0];
  return { found: true, versions: [`the system's ${version ?? 'OpenSSL of unknown version'}`] };
}

/** Two of it. */
export function minimalPair(library: Library, group: PairLaunch['group']): PairLaunch {
  return {
    group,
    client: (route, own, server) => launch(route, own, library, ['client', group, server.dns]),
    server: (route, own) => launch(route, own, library, ['server', group]),
  };
}

function launch(route: Route, own: Identity, library: Library, [role, ...rest]: readonly string[]): Launch {
  const ports = [route.listenPort, route.backendPort].map(String);
  const args = [role, ...ports, 'own.crt', 'own.key', 'trust.crt', ...rest];
  const path = route.tool(PROGRAM[library]);
  const files = { 'own.crt': own.certificate, 'own.key': own.key, 'trust.crt': own.trustAnchors };
  if (library === 'system') return { command: path, args, files };
  const script = `require(${JSON.stringify(path)}).run(process.argv.slice(1))`;
  return { command: process.execPath, args: ['-e', script, ...args], files };
}
