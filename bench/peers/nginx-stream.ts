/** nginx as TCP proxy: one worker; with mutual TLS between two of them. */

import { existsSync } from 'node:fs';
import { ask, findProgram } from '../harness/machine.ts';
import { CIPHER, type Identity, type Launch, type Peer, type Route } from '../harness/model.ts';

/** Debian builds the module apart (libnginx-mod-stream). */
const MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';

export const peer: Peer = {
  name: 'nginx-stream',
  description: 'nginx, stream module, one worker',
  role: 'rival',
  probe() {
    const program = findProgram('nginx');
    if (program === undefined) return { found: false, reason: 'nginx is not installed' };
    const { text } = ask(program, ['-V']);
    if (/--with-stream(?!\S)/.test(text) === false && !existsSync(MODULE)) {
      return {
        found: false,
        reason: 'nginx has no stream module (Debian: apt-get install libnginx-mod-stream)',
      };
    }
    const version = /nginx version: nginx\/(\S+)/.exec(text)?.[1] ?? 'unknown';
    const library = /built with (OpenSSL \S+)/.exec(text)?.[1];
    return { found: true, versions: [`nginx ${version}${library === undefined ? '' : ` with ${library}`}`] };
  },
  one: (route) => launch(route, '', {}),
  pair: {
    group: 'X25519',
    client: (route, own, server) =>
      launch(route, `${DIALLED}\n    proxy_ssl_name ${server.dns};`, identityFiles(own)),
    server: (route, own) => launch(route, ACCEPTED, identityFiles(own), 'ssl'),
  },
};

/** TLS towards the backend. */
const DIALLED = `
    proxy_ssl on;
    proxy_ssl_certificate own.crt;
    proxy_ssl_certificate_key own.key;
    proxy_ssl_trusted_certificate trust.crt;
    proxy_ssl_verify on;
    proxy_ssl_server_name on;
    proxy_ssl_session_reuse off;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites ${CIPHER};`;

/** TLS from clients. */
const ACCEPTED = `
    ssl_certificate own.crt;
    ssl_certificate_key own.key;
    ssl_client_certificate trust.crt;
    ssl_verify_client on;
    ssl_session_cache off;
    ssl_session_tickets off;
    ssl_protocols TLSv1.3;
    ssl_ecdh_curve X25519;
    ssl_conf_command Ciphersuites ${CIPHER};`;

function identityFiles(own: Identity): Launch['files'] {
  return { 'own.crt': own.certificate, 'own.key': own.key, 'trust.crt': own.trustAnchors };
}

/** @param settings lines of its `server` section @param parameters what follows the address of the listener */
function launch(route: Route, settings: string, files: Launch['files'], parameters = ''): Launch {
  return {
    command: findProgram('nginx') ?? 'nginx',
    args: ['-e', 'stderr', '-c', `${route.folder}/nginx.conf`, '-p', route.folder],
    files: { ...files, 'nginx.conf': configuration(route, settings, parameters) },
  };
}

function configuration(route: Route, settings: string, parameters: string): string {
  return `
${existsSync(MODULE) ? `load_module ${MODULE};` : ''}
daemon off;
pid ${route.folder}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
stream {
  tcp_nodelay on;
  proxy_timeout 1h;
  proxy_connect_timeout 5s;
  server {
    listen 127.0.0.1:${route.listenPort} backlog=4096 ${parameters};
    proxy_pass 127.0.0.1:${route.backendPort};${settings}
  }
}
`;
}
