/** What the HAProxy variants share: one thread, no log, limits above every scenario. */

import { ask, findProgram } from '../harness/machine.ts';
import type { Launch, Probe, Route } from '../harness/model.ts';

/** HAProxy itself and the TLS library it runs with. */
export function probeHaproxy(): Probe {
  const program = findProgram('haproxy');
  if (program === undefined) return { found: false, reason: 'haproxy is not installed' };
  const { text } = ask(program, ['-vv']);
  const version = /HAProxy version (\S+)/.exec(text)?.[1] ?? 'unknown';
  const library = /Running on OpenSSL version : (OpenSSL \S+)/.exec(text)?.[1];
  return { found: true, versions: [`HAProxy ${version}${library === undefined ? '' : ` with ${library}`}`] };
}

/**
 * Starts HAProxy in mode tcp.
 * @param options lines of its `defaults` section
 * @param settings lines of its `global` section
 */
export function launchHaproxy(
  route: Route,
  options: readonly string[],
  settings: readonly string[] = [],
): Launch {
  return {
    command: findProgram('haproxy') ?? 'haproxy',
    args: ['-db', '-f', 'haproxy.cfg'],
    files: { 'haproxy.cfg': configuration(route, options, settings) },
  };
}

function configuration(route: Route, options: readonly string[], settings: readonly string[]): string {
  return `
global
  nbthread 1
  # Two descriptors per connection and two per pipe stay below a limit of 20,000.
  maxconn 8000
  maxpipes 1000
${settings.map((setting) => `  ${setting}\n`).join('')}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
${options.map((option) => `  ${option}\n`).join('')}
frontend bench
  bind 127.0.0.1:${route.listenPort} backlog 4096
  default_backend bench

backend bench
  server backend 127.0.0.1:${route.backendPort}
`;
}
