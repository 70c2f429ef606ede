/** What nginx as a proxy of TCP and of HTTP have in common. */

import { ask, findProgram } from '../harness/machine.ts';
import { CIPHER, type Identity, type Launch, type Probe, type Route } from '../harness/model.ts';

/** nginx as it is: what is in it, and no module beside it. */
export function probeNginx(): Probe {
  const program = findProgram('nginx');
  if (program === undefined) return { found: false, reason: 'nginx is not installed' };
  return { found: true, versions: nginxVersions(ask(program, ['-V']).text) };
}

/** @param text what `nginx -V` prints */
export function nginxVersions(text: string): string[] {
  const version = /nginx version: nginx\/(\S+)/.exec(text)?.[1] ?? 'unknown';
  const library = /built with (OpenSSL \S+)/.exec(text)?.[1];
  return [`nginx ${version}${library === undefined ? '' : ` with ${library}`}`];
}

/**
 * A configuration for HTTP: no connection is closed for its age or its number of requests.
 * @param settings of the http block
 * @param server the inside of the server block, which names the upstream `backend`
 */
export function httpConfiguration(route: Route, settings: string, server: string): string {
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
pid ${route.folder}/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
${folders.map((name) => `  ${name}_temp_path ${route.folder}/${name};\n`).join('')}
${settings}
  upstream backend {
    server 127.0.0.1:${route.backendPort};
    keepalive 2048;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
${server}
  }
}
`;
}

/** TLS towards the backend. */
export const DIALLED = `
    proxy_ssl_certificate own.crt;
    proxy_ssl_certificate_key own.key;
    proxy_ssl_trusted_certificate trust.crt;
    proxy_ssl_verify on;
    proxy_ssl_server_name on;
    proxy_ssl_session_reuse off;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites ${CIPHER};`;

/** TLS from clients. */
export const ACCEPTED = `
    ssl_certificate own.crt;
    ssl_certificate_key own.key;
    ssl_client_certificate trust.crt;
    ssl_verify_client on;
    ssl_session_cache off;
    ssl_session_tickets off;
    ssl_protocols TLSv1.3;
    ssl_ecdh_curve X25519;
    ssl_conf_command Ciphersuites ${CIPHER};`;

/** The files those name. */
export function identityFiles(own: Identity): Launch['files'] {
  return { 'own.crt': own.certificate, 'own.key': own.key, 'trust.crt': own.trustAnchors };
}
