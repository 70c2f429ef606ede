/**
 * nginx as proxy of HTTP/2 that keeps its connections to the backend, one stream at a time on each: one worker. Not as a pair: one nginx
 * does not keep its connections to another one, whose frames come after the end of its answers.
 */

import { findProgram } from '../harness/machine.ts';
import type { Peer, Route } from '../harness/model.ts';
import { httpConfiguration, probeNginx } from './nginx.ts';

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

/** No stream ends for its length. */
function configuration(route: Route): string {
  const settings = `
  client_max_body_size 0;
  client_body_timeout 1h;`;
  const server = `
    listen 127.0.0.1:${route.listenPort} backlog=4096 http2;
    location / {
      grpc_pass grpc://backend;
      grpc_buffer_size 32k;
      grpc_read_timeout 1h;
      grpc_send_timeout 1h;
    }`;
  return httpConfiguration(route, settings, server);
}
