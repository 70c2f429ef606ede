/** nginx as TCP proxy: one worker; with mutual TLS between two of them. */

import { existsSync } from 'node:fs';
import { ask, findProgram } from '../harness/machine.ts';
import type { Launch, Peer, Route } from '../harness/model.ts';
import { ACCEPTED, DIALLED, identityFiles, nginxVersions } from './nginx.ts';

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
    return { found: true, versions: nginxVersions(text) };
  },
  one: (route) => launch(route, '', {}),
  pair: {
    group: 'X25519',
    client: (route, own, server) =>
      launch(route, `\n    proxy_ssl on;${DIALLED}\n    proxy_ssl_name ${server.dns};`, identityFiles(own)),
    server: (route, own) => launch(route, ACCEPTED, identityFiles(own), 'ssl'),
  },
};

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
