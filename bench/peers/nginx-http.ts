/** nginx as HTTP proxy that keeps its connections to the backend: one worker; with mutual TLS between two of them. */

import { findProgram } from '../harness/machine.ts';
import type { Launch, Peer, Route } from '../harness/model.ts';
import { ACCEPTED, DIALLED, httpConfiguration, identityFiles, probeNginx } from './nginx.ts';

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

/** Bodies never go to files. */
function configuration(route: Route, scheme: string, settings: string, parameters: string): string {
  const buffers = `
  proxy_max_temp_file_size 0;
  proxy_buffers 8 32k;`;
  const server = `
    listen 127.0.0.1:${route.listenPort} backlog=4096 ${parameters};${settings}
    location / {
      proxy_pass ${scheme}://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_read_timeout 1h;
    }`;
  return httpConfiguration(route, buffers, server);
}
