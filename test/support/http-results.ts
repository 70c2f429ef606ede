/** Requests that know whether they arrived, how often, and what became of them, and servers that count them. */
import { once } from 'node:events';
import { type Agent, request as ask, createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { at } from './engine.ts';

/** What became of a request; status 0 when the connection broke. */
export interface Result {
  readonly id: string;
  readonly method: string;
  readonly status: number;
  readonly why: string;
}

/** One request, with a body when it is a POST. */
export function send(
  agent: Agent,
  address: SocketAddress,
  method: string,
  id: string,
  chunked = false,
): Promise<Result> {
  return new Promise((resolve) => {
    const request = ask({ host: address.ip, port: address.port, agent, method, path: `/${id}` });
    request.on('error', (error) => resolve({ id, method, status: 0, why: error.message }));
    request.on('response', (response: IncomingMessage) => {
      let why = '';
      response.on('error', (error) => resolve({ id, method, status: 0, why: error.message }));
      response.setEncoding('utf8').on('data', (text) => {
        why += text;
      });
      response.on('end', () => resolve({ id, method, status: response.statusCode ?? 0, why }));
    });
    if (method === 'POST') {
      if (!chunked) request.setHeader('content-length', 4);
      request.write('body');
    }
    request.end();
  });
}

/** What clients got and what servers saw, together. */
export function judge(t: Test, results: readonly Result[], seen: ReadonlyMap<string, number>): void {
  const gets = results.filter(({ method }) => method === 'GET');
  t.strictSame(
    gets.filter(({ status }) => status !== 200),
    [],
    `${gets.length} GETs, none of which fails`,
  );
  const posts = results.filter(({ method }) => method === 'POST');
  t.strictSame(
    posts.filter(({ id }) => (seen.get(id) ?? 0) > 1),
    [],
    `${posts.length} POSTs, none of them twice`,
  );
  const lost = posts.filter(({ status }) => status !== 200);
  t.comment(`${lost.length} POSTs were lost`);
  t.strictSame(
    lost.filter(({ status, why }) => status !== 502 || why === ''),
    [],
    'what is lost is told',
  );
}

/** A server that answers after some milliseconds. */
export interface Backend {
  readonly server: Server;
  readonly address: SocketAddress;
}

/**
 * Starts one on a free port; the caller closes it.
 * @param seen counts requests by id
 * @param keepAliveTimeout how long it keeps idle connections, in ms
 */
export async function startBackend(seen: Map<string, number>, keepAliveTimeout = 5_000): Promise<Backend> {
  const server = createServer({ keepAliveTimeout }, (request, response) => {
    const id = request.url!.slice(1);
    seen.set(id, (seen.get(id) ?? 0) + 1);
    request.resume().on('end', () => setTimeout(() => response.end('ok'), 5));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, address: at(`127.0.0.1:${(server.address() as AddressInfo).port}`) };
}
