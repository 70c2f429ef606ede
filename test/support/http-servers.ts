/** HTTP servers nobody of Ferrule wrote, each with two files of stream 0 and nothing else, and clients that load them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { pieces } from './http-application.ts';

/** Of the file. */
export const FILE_BYTES = 1_000_000;

/** Of the other file, which is for load. */
const SMALL_BYTES = 1_000;

/** A server that answers `GET /file` and `GET /small` with a file and other paths with 404. */
export interface HttpServerProgram {
  readonly name: 'nginx' | 'Apache' | 'haproxy' | 'nghttpd';
  /** The program, as `requirePeer` finds it. */
  readonly program: string;
  /** Its arguments, for the folder with the configuration in `server.conf`. */
  readonly args: (folder: string, address: SocketAddress) => readonly string[];
  /** Text of the configuration. */
  readonly configure: (folder: string, address: SocketAddress) => string;
  /** Its status for a POST of 1 MB to the file, of which it needs nothing. */
  readonly statusOfPost: number;
}

/** They wait no longer than 2 s for the next request: tests wait for the end of the proxy's connections. */
export const HTTP_SERVERS: readonly HttpServerProgram[] = [
  {
    name: 'nginx',
    program: 'nginx',
    args: (folder) => ['-p', folder, '-c', `${folder}/server.conf`],
    configure: (
      folder,
      address,
    ) => `user root; daemon off; pid ${folder}/pid; error_log stderr; events { worker_connections 4096; }
http { access_log off; keepalive_timeout 2s 2s; server { listen ${address}; root ${folder}; } }`,
    statusOfPost: 405,
  },
  {
    name: 'Apache',
    program: 'apache2',
    args: (folder) => ['-f', `${folder}/server.conf`, '-D', 'FOREGROUND'],
    configure: (folder, address) => {
      const modules = ['mpm_event', 'authz_core'].map(
        (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
      );
      return `${modules.join('\n')}
Listen ${address}
ServerName app
PidFile ${folder}/pid
ErrorLog ${folder}/error
DocumentRoot ${folder}
KeepAliveTimeout 2
`;
    },
    statusOfPost: 200,
  },
  {
    name: 'haproxy',
    program: 'haproxy',
    args: (folder) => ['-f', `${folder}/server.conf`],
    configure: (folder, address) => `defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  timeout http-keep-alive 2s
global
  tune.bufsize 1100000
frontend f
  bind ${address}
  http-request deny deny_status 405 if METH_POST
  http-request return status 200 content-type application/octet-stream file ${folder}/file if { path /file }
  http-request return status 200 content-type application/octet-stream file ${folder}/small if { path /small }
  http-request return status 404
`,
    statusOfPost: 405,
  },
];

/** Writes the files and the configuration of a server into its folder. */
export function prepareServer(server: HttpServerProgram, folder: string, address: SocketAddress): void {
  writeFileSync(join(folder, 'file'), Buffer.concat([...pieces(FILE_BYTES)]));
  writeFileSync(join(folder, 'small'), Buffer.concat([...pieces(SMALL_BYTES)]));
  writeFileSync(join(folder, 'server.conf'), server.configure(folder, address));
}

/** A client that makes load. */
export interface Load {
  readonly program: string;
  readonly args: readonly string[];
  /** What it says when nothing failed. */
  readonly right: RegExp;
}

/** ab speaks HTTP/1.0, with and without keep-alive. */
export const LOADS: readonly Load[] = [
  {
    program: 'ab',
    args: ['-q', '-n', '300', '-c', '4'],
    right: /Complete requests: +300\nFailed requests: +0\n/,
  },
  {
    program: 'ab',
    args: ['-q', '-k', '-n', '300', '-c', '4'],
    right: /Failed requests: +0\nKeep-Alive requests: +300\n/,
  },
  {
    program: 'wrk',
    args: ['-d', '1', '-c', '8', '-t', '1'],
    right: /^(?![\s\S]*(Socket errors|Non-2xx))[\s\S]*requests in/,
  },
  {
    program: 'h2load',
    args: ['--h1', '-n', '1000', '-c', '8'],
    right: / 1000 succeeded, 0 failed, 0 errored, 0 timeout/,
  },
];
