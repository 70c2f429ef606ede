/** nginx as TCP proxy: one worker. */

import { existsSync } from 'node:fs';
import { ask, findProgram } from '../harness/machine.ts';
import type { Peer, Route } from '../harness/model.ts';

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
  launch: (route) => ({
    command: findProgram('nginx') ?? 'nginx',
    args: ['-e', 'stderr', '-c', `${route.folder}/nginx.conf`, '-p', route.folder],
    files: { 'nginx.conf': configuration(route, existsSync(MODULE)) },
  }),
};

function configuration(route: Route, loadModule: boolean): string {
  return `
${loadModule ? `load_module ${MODULE};` : ''}
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
    listen 127.0.0.1:${route.listenPort} backlog=4096;
    proxy_pass 127.0.0.1:${route.backendPort};
  }
}
`;
}
