/**
 * The admin server on uWebSockets.js. The library has deadlines of its own and ends a connection that makes no progress for about
 * half a minute, idle ones too. There is no cap per peer: the library cannot say whose connection ended.
 */
import { STATUS_CODES } from 'node:http';
import { createServer } from 'node:net';
import { isUnspecified, parseIp, type SocketAddress } from '../core/address.ts';
import {
  ADMIN_LIMITS,
  type AdminBackend,
  type AdminHandler,
  type AdminRequest,
  type AdminResponse,
  tooLarge,
} from './backend.ts';

/** What is used of uWebSockets.js; its documentation has the rest. */
export interface Uws {
  App(): UwsApp;
  us_listen_socket_close(socket: unknown): void;
  us_socket_local_port(socket: unknown): number;
  readonly LIBUS_LISTEN_EXCLUSIVE_PORT: number;
}

interface UwsApp {
  any(pattern: string, handler: (response: UwsResponse, request: UwsRequest) => void): UwsApp;
  filter(callback: (response: UwsResponse, change: number) => void): UwsApp;
  listen(host: string, port: number, options: number, callback: (socket: unknown) => void): UwsApp;
  close(): void;
}

interface UwsRequest {
  getCaseSensitiveMethod(): string;
  getUrl(): string;
  getQuery(): string | undefined;
  forEach(callback: (name: string, value: string) => void): void;
}

interface UwsResponse {
  onAborted(handler: () => void): void;
  onData(handler: (chunk: ArrayBuffer, last: boolean) => void): void;
  cork(callback: () => void): void;
  writeStatus(status: string): void;
  writeHeader(name: string, value: string): void;
  write(chunk: string | Uint8Array): boolean;
  end(body?: string | Uint8Array, closeConnection?: boolean): void;
  endWithoutBody(reportedLength?: number, closeConnection?: boolean): void;
  close(): void;
  getRemoteAddressAsText(): ArrayBuffer;
}

/** A request between its first byte and the end of its answer. */
interface Exchange {
  aborted: boolean;
  /** Called when it is aborted. */
  onAborted: () => void;
}

/** The back end where uWebSockets.js loads. Its listener on [::] takes IPv4 as well, which the library does not let us turn off. */
export class UwsBackend implements AdminBackend {
  readonly name = 'uWebSockets.js';
  private readonly uws: Uws;
  private readonly handler: AdminHandler;
  private readonly app: UwsApp;
  private readonly sockets: unknown[] = [];
  private readonly dualStackPorts = new Set<number>();
  private readonly held = new Set<UwsResponse>();
  private connections = 0;
  private answering = 0;
  private onQuiet: (() => void) | undefined;

  constructor(module: unknown, handler: AdminHandler) {
    this.uws = module as Uws;
    this.handler = handler;
    this.app = this.uws.App();
    this.app.filter((response, change) => this.admit(response, change));
    this.app.any('/*', (response, request) => this.serve(response, request));
  }

  async listen(address: SocketAddress): Promise<SocketAddress> {
    if (address.family === 4 && this.dualStackPorts.has(address.port)) return address;
    // Exclusive, because otherwise the library shares the port with a second instance in silence.
    const socket = await new Promise<unknown>((resolve) => {
      this.app.listen(address.ip, address.port, this.uws.LIBUS_LISTEN_EXCLUSIVE_PORT, resolve);
    });
    if (!socket) throw await refusal(address);
    this.sockets.push(socket);
    const bound = address.withPort(this.uws.us_socket_local_port(socket));
    if (address.family === 6 && isUnspecified(address)) this.dualStackPorts.add(bound.port);
    return bound;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets.splice(0)) this.uws.us_listen_socket_close(socket);
    for (const response of this.held) response.close();
    if (this.answering > 0) {
      await new Promise<void>((resolve) => {
        const cut = setTimeout(resolve, ADMIN_LIMITS.closeGraceMs);
        this.onQuiet = () => {
          clearTimeout(cut);
          resolve();
        };
      });
    }
    this.app.close();
  }

  private admit(response: UwsResponse, change: number): void {
    this.connections += change;
    if (change > 0 && this.connections > ADMIN_LIMITS.connections) response.close();
  }

  private serve(response: UwsResponse, request: UwsRequest): void {
    // The request is gone when this function returns, so everything is copied out of it first.
    const headers = new Map<string, string[]>();
    request.forEach((name, value) => {
      const values = headers.get(name);
      if (values === undefined) headers.set(name, [value]);
      else values.push(value);
    });
    const head = {
      method: request.getCaseSensitiveMethod(),
      path: request.getUrl(),
      query: request.getQuery() ?? '',
      headers,
      remote: parseIp(Buffer.from(response.getRemoteAddressAsText()).toString()),
    };
    const exchange: Exchange = { aborted: false, onAborted: () => this.answered() };
    this.answering++;
    const deadline = setTimeout(() => response.close(), ADMIN_LIMITS.requestMs);
    response.onAborted(() => {
      clearTimeout(deadline);
      exchange.aborted = true;
      exchange.onAborted();
    });
    collectBody(response, headers, (body) => {
      clearTimeout(deadline);
      void this.answer(response, exchange, { ...head, body });
    });
  }

  /** Answers once the body is there; `body` is undefined when it was too large. */
  private async answer(
    response: UwsResponse,
    exchange: Exchange,
    request: Omit<AdminRequest, 'body'> & { readonly body: Buffer | undefined },
  ): Promise<void> {
    const { body } = request;
    const answer = body === undefined ? tooLarge() : await this.handler({ ...request, body });
    // An aborted response must not be touched: the library has freed it.
    if (exchange.aborted) return answer.held?.();
    if (answer.held === undefined) response.cork(() => send(response, request.method, answer));
    else this.hold(response, exchange, answer, answer.held);
    this.answered();
  }

  private hold(response: UwsResponse, exchange: Exchange, answer: AdminResponse, ended: () => void): void {
    response.cork(() => {
      sendHead(response, answer);
      response.write(answer.body);
    });
    const heartbeat = setInterval(() => response.write('\n'), ADMIN_LIMITS.heartbeatMs);
    this.held.add(response);
    exchange.onAborted = () => {
      clearInterval(heartbeat);
      this.held.delete(response);
      ended();
    };
  }

  private answered(): void {
    this.answering--;
    if (this.answering === 0) this.onQuiet?.();
  }
}

/** Calls back once: with the body, or with undefined as soon as it is known to be larger than allowed. */
function collectBody(
  response: UwsResponse,
  headers: AdminRequest['headers'],
  done: (body: Buffer | undefined) => void,
): void {
  if (Number(headers.get('content-length')?.[0]) > ADMIN_LIMITS.bodyBytes) {
    done(undefined);
    return;
  }
  const chunks: Buffer[] = [];
  let size = 0;
  let called = false;
  response.onData((chunk, last) => {
    if (called) return;
    size += chunk.byteLength;
    called = last || size > ADMIN_LIMITS.bodyBytes;
    // Copied: the library takes the memory back after this call.
    chunks.push(Buffer.from(new Uint8Array(chunk)));
    if (called) done(size > ADMIN_LIMITS.bodyBytes ? undefined : Buffer.concat(chunks));
  });
}

function send(response: UwsResponse, method: string, answer: AdminResponse): void {
  const { headers, body } = answer;
  sendHead(response, answer);
  const last = headers.Connection === 'close';
  if (method === 'HEAD') response.endWithoutBody(Buffer.byteLength(body), last);
  else response.end(body, last);
}

function sendHead(response: UwsResponse, { status, headers }: AdminResponse): void {
  response.writeStatus(`${status} ${STATUS_CODES[status] ?? ''}`);
  for (const [name, value] of Object.entries(headers)) response.writeHeader(name, value);
}

/** Why the library could not listen, which it does not say: the kernel's reason comes from trying without it. */
function refusal(address: SocketAddress): Promise<Error> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host: address.ip, port: address.port }, () => {
      server.close();
      resolve(new Error('uWebSockets.js could not listen'));
    });
  });
}
