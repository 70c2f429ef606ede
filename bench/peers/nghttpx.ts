/** nghttpx with HTTP/2 on both sides, or between two of it. */

import { ask, findProgram } from '../harness/machine.ts';
import {
  CIPHER,
  type Identity,
  type Launch,
  type PairLaunch,
  type Peer,
  type Route,
} from '../harness/model.ts';

/** What clients and backends of a pair speak. */
type Protocol = 'h2' | 'http/1.1';

const WINDOW = 1_048_576;

export const peer: Peer = {
  name: 'nghttpx',
  description: 'nghttpx, HTTP/2 on both sides, one thread',
  role: 'rival',
  probe() {
    const program = findProgram('nghttpx');
    if (program === undefined) return { found: false, reason: 'nghttpx is not installed' };
    return { found: true, versions: [ask(program, ['--version']).text.trim()] };
  },
  h2: (route) => launch(route, 'no-tls', 'proto=h2', [], {}),
  h2Pair: pairOf('h2'),
  httpOverH2: pairOf('http/1.1'),
};

function pairOf(outside: Protocol): PairLaunch {
  return {
    group: 'X25519',
    alpn: 'h2',
    resumes: true,
    client: (route, own, server) =>
      launch(route, 'no-tls', `proto=h2;tls;sni=${server.dns}`, dialled(route), identityFiles(own)),
    server: (route, own) => launch(route, 'tls', `proto=${outside}`, accepted(route), identityFiles(own)),
  };
}

/** TLS towards the backend. */
function dialled({ folder }: Route): string[] {
  return [
    `cacert=${folder}/trust.crt`,
    `client-cert-file=${folder}/own.crt`,
    `client-private-key-file=${folder}/own.key`,
    `tls13-client-ciphers=${CIPHER}`,
  ];
}

/** TLS from clients. */
function accepted({ folder }: Route): string[] {
  return [
    `certificate-file=${folder}/own.crt`,
    `private-key-file=${folder}/own.key`,
    'verify-client=yes',
    `verify-client-cacert=${folder}/trust.crt`,
    `tls13-ciphers=${CIPHER}`,
    'ecdh-curves=X25519',
    'no-ocsp=yes',
  ];
}

function identityFiles(own: Identity): Launch['files'] {
  return { 'own.crt': own.certificate, 'own.key': own.key, 'trust.crt': own.trustAnchors };
}

/** Nothing is added to messages, as others do not by default, and nothing is closed for its age. */
function launch(
  { folder, listenPort, backendPort }: Route,
  frontend: 'tls' | 'no-tls',
  backend: string,
  settings: readonly string[],
  files: Launch['files'],
): Launch {
  const configuration = [
    `frontend=127.0.0.1,${listenPort}${frontend === 'tls' ? '' : ';no-tls'}`,
    `backend=127.0.0.1,${backendPort};;${backend}`,
    'workers=1',
    'single-thread=yes',
    'errorlog-file=/dev/stderr',
    'log-level=ERROR',
    // A server that was refused once is tried again at once (harness/hop.ts).
    'backend-max-backoff=0s',
    'backlog=4096',
    'tls-min-proto-version=TLSv1.3',
    'no-via=yes',
    'no-server-rewrite=yes',
    'no-location-rewrite=yes',
    ...[
      'frontend-http2-read',
      'frontend-read',
      'frontend-keep-alive',
      'backend-read',
      'backend-keep-alive',
    ].map((name) => `${name}-timeout=1h`),
    // Above what is on the way of one stream.
    ...['frontend-http2', 'frontend-http2-connection', 'backend-http2'].map(
      (name) => `${name}-window-size=${WINDOW}`,
    ),
    ...settings,
  ];
  return {
    command: findProgram('nghttpx') ?? 'nghttpx',
    args: [`--conf=${folder}/nghttpx.conf`],
    files: { ...files, 'nghttpx.conf': `${configuration.join('\n')}\n` },
  };
}
