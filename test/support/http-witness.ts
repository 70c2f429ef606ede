/** Node's own parser (llhttp) behind a real socket, as a witness of what a server or a client understands. */
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';

/** What arrived. */
export interface Witnessed {
  /** Method and target, or the status; */
  readonly start: string;
  /** Names and values in order, as they were spelt. */
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
  readonly trailers: readonly (readonly [string, string])[];
}

function pairs(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i], raw[2 * i + 1]]);
}

/** A server that writes down what it is sent. */
export class ServerWitness {
  private readonly server: Server;
  private seen: Witnessed[] = [];
  private refused = false;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(): Promise<ServerWitness> {
    const server = createServer();
    const witness = new ServerWitness(server);
    server.on('request', (incoming, answer) => {
      const parts: Buffer[] = [];
      incoming.on('data', (part) => parts.push(part));
      incoming.on('end', () => {
        witness.seen.push({
          start: `${incoming.method} ${incoming.url}`,
          fields: pairs(incoming.rawHeaders),
          body: Buffer.concat(parts).toString('latin1'),
          trailers: pairs(incoming.rawTrailers),
        });
        answer.end();
      });
    });
    server.on('clientError', (_, socket) => {
      witness.refused = true;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return witness;
  }

  /** Sends bytes on a connection of their own and ends it. Returns the whole requests in it, and whether the rest was refused. */
  async see(text: string): Promise<{ readonly requests: readonly Witnessed[]; readonly refused: boolean }> {
    this.seen = [];
    this.refused = false;
    const { port } = this.server.address() as AddressInfo;
    await new Promise<void>((resolve) => {
      const socket = connect({ port, host: '127.0.0.1' }, () => socket.end(text, 'latin1'));
      socket.on('error', () => socket.destroy());
      socket.on('close', () => resolve());
      socket.resume();
    });
    return { requests: this.seen, refused: this.refused };
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}

/** What a client understands of the bytes of a response to a GET, which end with the connection. */
export async function seeResponse(text: string): Promise<Witnessed> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', () => socket.end(text, 'latin1'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as AddressInfo;
    return await new Promise((resolve, reject) => {
      const asked = request({ port, host: '127.0.0.1', agent: false }, (incoming) => {
        const parts: Buffer[] = [];
        incoming.on('data', (part) => parts.push(part));
        incoming.on('error', reject);
        incoming.on('end', () =>
          resolve({
            start: `${incoming.statusCode} ${incoming.statusMessage}`,
            fields: pairs(incoming.rawHeaders),
            body: Buffer.concat(parts).toString('latin1'),
            trailers: pairs(incoming.rawTrailers),
          }),
        );
      });
      asked.on('error', reject);
      asked.end();
    });
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}
