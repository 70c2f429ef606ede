/** The admin server on node:http: one server per address, all with the same handler and one count of connections. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { parseIp, type SocketAddress } from '../core/address.ts';
import { log } from '../core/log.ts';
import {
  ADMIN_LIMITS,
  type AdminBackend,
  type AdminHandler,
  type AdminRequest,
  type AdminResponse,
  tooLarge,
} from './backend.ts';

/** Longest wait beyond a deadline before it is noticed. Two seconds: the check is a timer in an otherwise idle thread. */
const DEADLINE_CHECK_MS = 2_000;

/** The back end that is always there. */
export class NodeBackend implements AdminBackend {
  readonly name = 'node:http';
  private readonly handler: AdminHandler;
  private readonly servers: Server[] = [];
  private readonly perPeer = new Map<string, number>();
  private readonly held = new Set<ServerResponse>();
  private connections = 0;

  constructor(handler: AdminHandler) {
    this.handler = handler;
  }

  async listen(address: SocketAddress): Promise<SocketAddress> {
    const server = createServer({
      headersTimeout: ADMIN_LIMITS.headersMs,
      requestTimeout: ADMIN_LIMITS.requestMs,
      keepAliveTimeout: ADMIN_LIMITS.keepAliveMs,
      connectionsCheckingInterval: DEADLINE_CHECK_MS,
    });
    server.on('request', (request, response) => void this.serve(request, response));
    server.on('connection', (socket) => this.admit(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address.ip, port: address.port, ipv6Only: true }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', (error) => log.warn('the admin server cannot accept', { error: error.message }));
    this.servers.push(server);
    return address.withPort((server.address() as AddressInfo).port);
  }

  async close(): Promise<void> {
    const closed = this.servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    for (const server of this.servers) server.closeIdleConnections();
    for (const response of this.held) response.end();
    const cut = setTimeout(() => {
      for (const server of this.servers) server.closeAllConnections();
    }, ADMIN_LIMITS.closeGraceMs);
    await Promise.all(closed);
    clearTimeout(cut);
  }

  /** Counts a connection, or ends it where there are too many; idle ones then make room for the next. */
  private admit(socket: Socket): void {
    const peer = socket.remoteAddress ?? '';
    const ofPeer = this.perPeer.get(peer) ?? 0;
    if (this.connections >= ADMIN_LIMITS.connections) {
      for (const server of this.servers) server.closeIdleConnections();
    }
    if (this.connections >= ADMIN_LIMITS.connections || ofPeer >= ADMIN_LIMITS.connectionsPerPeer) {
      socket.destroy();
      return;
    }
    this.connections++;
    this.perPeer.set(peer, ofPeer + 1);
    socket.once('close', () => {
      this.connections--;
      const left = this.perPeer.get(peer)! - 1;
      if (left > 0) this.perPeer.set(peer, left);
      else this.perPeer.delete(peer);
    });
  }

  private async serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(message);
    // Gone half-way: node:http has closed the connection and nobody waits for an answer.
    if (body === 'aborted') return;
    const answer = body === 'too large' ? tooLarge() : await this.handler(toRequest(message, body));
    if (answer.held === undefined) send(response, answer);
    else this.hold(response, answer, answer.held);
  }

  private hold(response: ServerResponse, answer: AdminResponse, ended: () => void): void {
    // Gone while the answer was made: there is no event to come.
    if (response.closed) return ended();
    response.writeHead(answer.status, { ...answer.headers, Connection: 'close' });
    response.write(answer.body);
    const heartbeat = setInterval(() => response.write('\n'), ADMIN_LIMITS.heartbeatMs);
    this.held.add(response);
    response.once('close', () => {
      clearInterval(heartbeat);
      this.held.delete(response);
      ended();
    });
  }
}

function send(response: ServerResponse, { status, headers, body }: AdminResponse): void {
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

function toRequest(message: IncomingMessage, body: Buffer): AdminRequest {
  const target = message.url ?? '/';
  const mark = target.indexOf('?');
  const headers = new Map<string, string[]>();
  // Not message.headers: it hides that a header was sent twice.
  for (const [name, values] of Object.entries(message.headersDistinct)) headers.set(name, values ?? []);
  return {
    method: message.method ?? '',
    path: mark < 0 ? target : target.slice(0, mark),
    query: mark < 0 ? '' : target.slice(mark + 1),
    headers,
    remote: parseIp(message.socket.remoteAddress ?? ''),
    body,
  };
}

function readBody(message: IncomingMessage): Promise<Buffer | 'too large' | 'aborted'> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    if (Number(message.headers['content-length']) > ADMIN_LIMITS.bodyBytes) {
      resolve('too large');
      return;
    }
    message.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > ADMIN_LIMITS.bodyBytes) resolve('too large');
      else chunks.push(chunk);
    });
    message.once('end', () => resolve(Buffer.concat(chunks)));
    message.once('error', () => resolve('aborted'));
    message.once('close', () => resolve('aborted'));
  });
}
