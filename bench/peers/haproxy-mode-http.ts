/** What the HAProxy variants in mode http share: one thread, no log, upstream connections kept and given to whoever needs one. */

import { findProgram } from '../harness/machine.ts';
import type { Identity, Launch, PairLaunch, Route } from '../harness/model.ts';
import { acceptedTls, dialledTls } from './haproxy-tls.ts';

/** What differs from HAProxy's defaults. */
export interface HaproxyHttpOptions {
  /** What HAProxy reads at a time; 16 KiB by default. */
  readonly bufferBytes?: number;
  /** Lines of its `defaults` section. */
  readonly options?: readonly string[];
  /** Lines of its `global` section. */
  readonly settings?: readonly string[];
}

interface Ends {
  /** What follows the address of the listener. */
  readonly bind?: string;
  /** What follows the address of each server. */
  readonly server?: string;
  readonly files?: Launch['files'];
}

/** Starts HAProxy in mode http. */
export function launchHaproxyHttp(route: Route, settings: HaproxyHttpOptions = {}, ends: Ends = {}): Launch {
  return {
    command: findProgram('haproxy') ?? 'haproxy',
    args: ['-db', '-f', 'haproxy.cfg'],
    files: { ...ends.files, 'haproxy.cfg': configuration(route, settings, ends) },
  };
}

/** Two of it with mutual TLS between them, over connections that are kept; in mode http, HTTP/1 everywhere. */
export function haproxyHttpPair(settings: HaproxyHttpOptions): PairLaunch {
  return pairOf(settings, '', '');
}

/** As `haproxyHttpPair`, with HTTP/2 between them. @param outside what follows the addresses of clients and backends */
export function haproxyH2Pair(settings: HaproxyHttpOptions, outside: string): PairLaunch {
  return { ...pairOf(settings, outside, ' alpn h2'), alpn: 'h2' };
}

function pairOf(settings: HaproxyHttpOptions, outside: string, inside: string): PairLaunch {
  return {
    group: 'X25519',
    client: (route, own, server) => {
      const ends = { bind: outside, server: dialledTls(server) + inside };
      return launchHaproxyHttp(route, settings, { ...ends, files: identityFiles(own) });
    },
    server: (route, own) => {
      const ends = { bind: acceptedTls() + inside, server: outside };
      return launchHaproxyHttp(route, settings, { ...ends, files: identityFiles(own) });
    },
  };
}

function identityFiles(own: Identity): Launch['files'] {
  return { 'trust.pem': own.trustAnchors, 'own.pem': own.certificate + own.key };
}

function configuration(
  route: Route,
  { bufferBytes, options = [], settings = [] }: HaproxyHttpOptions,
  { bind = '', server = '' }: Ends,
): string {
  const servers = route.backendPorts.map(
    (port, index) => `  server backend${index} 127.0.0.1:${port} ${server}\n`,
  );
  return `
global
  nbthread 1
  # Two descriptors per connection and two per pipe stay below a limit of 20,000.
  maxconn 8000
  maxpipes 1000
${bufferBytes === undefined ? '' : `  tune.bufsize ${bufferBytes}\n`}
${settings.map((setting) => `  ${setting}\n`).join('')}
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
${options.map((option) => `  ${option}\n`).join('')}
frontend bench
  bind 127.0.0.1:${route.listenPort} backlog 4096 ${bind}
  default_backend bench

backend bench
${servers.join('')}`;
}
