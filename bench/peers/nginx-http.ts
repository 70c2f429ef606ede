/** nginx as HTTP proxy that keeps its connections to the backend: one worker; with mutual TLS between two of them. */

import { findProgram } from '../harness/machine.ts';
import type { Launch, Peer, Route } from '../harness/model.ts';
import { ACCEPTED, DIALLED, identityFiles, probeNginx } from './nginx.ts';

export const peer: Peer = {
  name: 'nginx-http',
  description: 'nginx, proxy_pass with kept connections, one worker',
  role: 'rival',
  probe: probeNginx,
  http: (route) => launch(route, 'http', '', {}),
  httpPair: {
    group: 'X25519',
    client: (route, own, server) =>
      launch(route, 'https', `${DIALLED}\n    proxy_ssl_name ${server.dns};`, identityFiles(own)),
    server: (route, own) => launch(route, 'http', ACCEPTED, identityFiles(own), 'ssl'),
  },
};

/** @param settings lines of its `server` section @param parameters what follows the address of the listener */
function launch(
  route: Route,
  scheme: 'http' | 'https',
  settings: string,
  files: Launch['files'],
  parameters = '',
): Launch {
  return {
    command: findProgram('nginx') ?? 'nginx',
    args: ['-e', 'stderr', '-c', `${route.folder}/nginx.conf`, '-p', route.folder],
    files: { ...files, 'nginx.conf': configuration(route, scheme, settings, parameters) },
  };
}

/** Bodies never go to files, and no connection is closed for its age or its number of requests. */
function configuration(route: Route, scheme: string, settings: string, parameters: string): string {
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
  proxy_max_temp_file_size 0;
  proxy_buffers 8 32k;
  upstream backend {
    server 127.0.0.1:${route.backendPort};
    keepalive 2048;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen 127.0.0.1:${route.listenPort} backlog=4096 ${parameters};${settings}
    location / {
      proxy_pass ${scheme}://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_read_timeout 1h;
    }
  }
}
`;
}
