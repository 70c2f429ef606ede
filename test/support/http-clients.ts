/** Node's HTTP clients, its own with an agent and undici, behind one way to ask. */
import { once } from 'node:events';
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { Pool } from 'undici';
import type { SocketAddress } from '../../proxy/core/address.ts';

/** A request. */
export interface Asked {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream without `content-length` among the headers is sent in chunks. */
  readonly body?: Buffer | Readable;
  readonly signal?: AbortSignal;
  /** Hears of interim responses. */
  readonly onInformation?: (status: number) => void;
}

/** The head of a response, and its body as it comes. */
export interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readable;
  /** Complete once the body has ended. */
  trailers(): Readonly<Record<string, string | undefined>>;
}

/** A client with connections of its own. */
export interface HttpClient {
  readonly name: 'http.Agent' | 'undici';
  /** Resolves with the head of the response, the request's body may go on. Rejects when there is none. */
  ask(asked: Asked): Promise<Answered>;
  close(): Promise<void>;
}

/** Node's own client with an agent that keeps up to `connections` alive. */
function agentClient({ ip, port }: SocketAddress, connections: number): HttpClient {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  return {
    name: 'http.Agent',
    async ask({ method, path, headers = {}, body, signal, onInformation }) {
      const length = body instanceof Buffer ? { 'content-length': String(body.length) } : {};
      const cut = signal === undefined ? {} : { signal };
      const all = { ...length, ...headers };
      const asking = request({ host: ip, port, agent, method, path, headers: all, ...cut });
      asking.on('information', ({ statusCode }) => onInformation?.(statusCode));
      const answer = once(asking, 'response');
      if (body instanceof Readable) body.pipe(asking);
      else asking.end(body);
      const [incoming]: IncomingMessage[] = await answer;
      // What breaks from now on breaks the response.
      asking.on('error', (error) => incoming.destroy(error));
      return {
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        body: incoming,
        trailers: () => incoming.trailers,
      };
    },
    async close() {
      agent.destroy();
    },
  };
}

/** A pool of undici. */
function undiciClient(address: SocketAddress, connections: number): HttpClient {
  const pool = new Pool(`http://${address}`, { connections });
  return {
    name: 'undici',
    async ask({ method, path, headers = {}, body, signal, onInformation }) {
      const answer = await pool.request({
        method,
        path,
        headers,
        body: body ?? null,
        signal: signal ?? null,
        onInfo: ({ statusCode }) => onInformation?.(statusCode),
      });
      return {
        status: answer.statusCode,
        headers: answer.headers,
        body: answer.body,
        trailers: () => answer.trailers,
      };
    },
    close: () => pool.destroy(),
  };
}

/** How each client is made: for an address, with that many connections at most. */
export const HTTP_CLIENTS: readonly ((address: SocketAddress, connections: number) => HttpClient)[] = [
  agentClient,
  undiciClient,
];
