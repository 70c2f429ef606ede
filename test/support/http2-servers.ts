/** HTTP/2 servers nobody of Ferrule wrote, without TLS and with prior knowledge, and clients that ask them for everything they have. */
import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { streamDigest } from './http-application.ts';
import { FILE_BYTES, type HttpServerProgram } from './http-servers.ts';

/** Programs that the clients need. */
export const HTTP2_CLIENTS = ['curl', 'h2load', 'nghttp'] as const;

/** They answer as `HttpServerProgram` says. Where they close idle connections at all, they do after 2 s. */
export const HTTP2_SERVERS: readonly HttpServerProgram[] = [
  {
    name: 'nghttpd',
    program: 'nghttpd',
    args: (folder, { ip, port }) => ['--no-tls', '-a', String(ip), '-d', folder, String(port)],
    configure: () => '',
    statusOfPost: 200,
  },
  {
    name: 'nginx',
    program: 'nginx',
    args: (folder) => ['-p', folder, '-c', `${folder}/server.conf`],
    configure: (folder, address) =>
      `user root; daemon off; pid ${folder}/pid; error_log stderr; events { worker_connections 4096; }
http { access_log off; keepalive_timeout 2s 2s; server { listen ${address} http2; root ${folder}; } }`,
    statusOfPost: 405,
  },
  {
    name: 'Apache',
    program: 'apache2',
    args: (folder) => ['-f', `${folder}/server.conf`, '-D', 'FOREGROUND'],
    configure: (folder, address) => {
      const modules = ['mpm_event', 'authz_core', 'http2'].map(
        (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
      );
      return `${modules.join('\n')}
Protocols h2c
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
];

/** Requests with a body of 1 MB. */
const POSTS = 40;

/** One run of a client. */
export interface Http2Check {
  readonly what: string;
  readonly command: string;
  readonly args: readonly string[];
  /** What it prints when everything was right. */
  readonly right: RegExp;
}

/** @param address where `server` is reached, through whatever is between */
export function http2Checks(
  { statusOfPost }: HttpServerProgram,
  address: SocketAddress | string,
): Http2Check[] {
  const url = `http://${address}`;
  // A process for each: with prior knowledge curl 7.88 cannot use a connection twice.
  const curl = 'curl -sS -m 20 --http2-prior-knowledge';
  const told = `${curl} -o /dev/null -w '%{http_version} %{http_code} '`;
  const shell = (what: string, script: string, right: RegExp) => ({
    what,
    command: 'sh',
    // Its $0 is a file of its own.
    args: ['-c', script, join(tmpdir(), `ferrule-http2-${randomUUID()}`)],
    right,
  });
  const load = (what: string, requests: number, ...args: string[]) => ({
    what: `h2load: ${what}`,
    command: 'h2load',
    args: ['-n', String(requests), ...args],
    right: new RegExp(`${requests} succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: ${requests} 2xx`),
  });
  const posted = Number(statusOfPost === 200) * POSTS;
  const uploads = ` ${POSTS} done, ${posted} succeeded, ${POSTS - posted} failed, 0 errored, 0 timeout\n`;
  return [
    shell('curl: a file', `${curl} ${url}/file | sha256sum`, new RegExp(`^${streamDigest(FILE_BYTES)} `)),
    shell('curl: HEAD', `${told} -I ${url}/file`, /^2 200 $/),
    shell('curl: what is not there', `${told} ${url}/none`, /^2 404 $/),
    shell('nghttp: 20 at once', `nghttp -n -m 20 -s ${url}/file | grep -c ' 200 .* /file$'`, /^20\n$/),
    load('many streams', 2_000, '-c4', '-m50', `${url}/small`),
    load('a stream at a time', 500, '-c10', '-m1', `${url}/small`),
    load('large answers', 40, '-c2', '-m10', `${url}/file`),
    // Some take it all; some answer early and say that they want no more of it.
    shell(
      'h2load: bodies that nobody wants',
      `head -c ${FILE_BYTES} /dev/zero >$0; h2load -n ${POSTS} -c2 -m5 -d $0 ${url}/file; rm $0`,
      new RegExp(`${uploads}status codes: ${posted} 2xx, 0 3xx, ${POSTS - posted} 4xx`),
    ),
    load('many connections', 200, '-c100', '-m2', `${url}/small`),
  ];
}
