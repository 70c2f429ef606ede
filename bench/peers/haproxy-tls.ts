/** HAProxy on both ends of a mutual TLS connection, in mode tcp: TLS 1.3 with X25519, no resumption. */

import { findProgram } from '../harness/machine.ts';
import { CIPHER, type Identity, type Launch, type PairLaunch, type Route } from '../harness/model.ts';

/** @param bufferBytes what HAProxy reads at a time */
export function haproxyPair(bufferBytes: number): PairLaunch {
  return {
    group: 'X25519',
    client: (route, own, server) => launch(route, own, bufferBytes, '', dialledTls(server)),
    server: (route, own) => launch(route, own, bufferBytes, acceptedTls(), ''),
  };
}

/** What follows the address of a server that is dialled with mutual TLS; its files are `own.pem` and `trust.pem`. */
export function dialledTls(server: Identity): string {
  // No curves are set: this side offers OpenSSL's own list, whose first entry and only key share is X25519.
  return (
    `ssl verify required ca-file trust.pem crt own.pem sni str(${server.dns}) verifyhost ${server.dns} ` +
    `ssl-min-ver TLSv1.3 ciphersuites ${CIPHER} no-ssl-reuse no-tls-tickets`
  );
}

/** What follows the address of a listener that takes mutual TLS; its files are the same. */
export function acceptedTls(): string {
  return (
    `ssl crt own.pem ca-file trust.pem verify required ssl-min-ver TLSv1.3 ciphersuites ${CIPHER} ` +
    'curves X25519 no-tls-tickets'
  );
}

/** @param bind what follows the address of the listener @param server what follows the address of the server */
function launch(route: Route, own: Identity, bufferBytes: number, bind: string, server: string): Launch {
  return {
    command: findProgram('haproxy') ?? 'haproxy',
    args: ['-db', '-f', 'haproxy.cfg'],
    files: {
      'trust.pem': own.trustAnchors,
      'own.pem': own.certificate + own.key,
      'haproxy.cfg': `
global
  nbthread 1
  # Two descriptors per connection stay below a limit of 20,000.
  maxconn 9000
  tune.bufsize ${bufferBytes}
  # Sessions that are never resumed need no cache.
  tune.ssl.cachesize 0

defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h

frontend bench
  bind 127.0.0.1:${route.listenPort} backlog 4096 ${bind}
  default_backend bench

backend bench
  server backend 127.0.0.1:${route.backendPort} ${server}
`,
    },
  };
}
