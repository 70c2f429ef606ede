/**
 * nginx as proxy of HTTP/2 that keeps its connections to the backend, one stream at a time on each: one worker. Not as a pair: one nginx
 * does not keep its connections to another one, whose frames come after the end of its answers.
 */

import { findProgram } from '../harness/machine.ts';
import type { Peer, Route } from '../harness/model.ts';
import { probeNginx } from './nginx.ts';

export const peer: Peer = {
  name: 'nginx-grpc',
  description: 'nginx, grpc_pass with kept connections, one worker',
  role: 'rival',
  probe: probeNginx,
  h2: (route) => ({
    command: findProgram('nginx') ?? 'nginx',
    args: ['-e', 'stderr', '-c', `${route.folder}/nginx.conf`, '-p', route.folder],
    files: { 'nginx.conf': configuration(route) },
  }),
};

/** No connection is closed for its age or its number of requests, and no stream for its length. */
function configuration(route: Route): string {
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
  client_max_body_size 0;
  client_body_timeout 1h;
  upstream backend {
    server 127.0.0.1:${route.backendPort};
    keepalive 2048;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen 127.0.0.1:${route.listenPort} backlog=4096 http2;
    location / {
      grpc_pass grpc://backend;
      grpc_buffer_size 32k;
      grpc_read_timeout 1h;
      grpc_send_timeout 1h;
    }
  }
}
`;
}
