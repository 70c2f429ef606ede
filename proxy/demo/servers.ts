/** The built-in servers, as a program that runs in the server pod. */

import { createServer as createHttpServer } from 'node:http';
import {
  createServer as createHttp2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, createServer, type Server as NetServer } from 'node:net';
import { answerQuestions } from './agent.ts';
import { encodeText, METHODS, STATUS, TextReader } from './grpc.ts';
import type { Server } from './messages.ts';
import type { BuiltIn } from './services.ts';

answerQuestions(async (question) => {
  if (question.ask !== 'serve') throw new Error(`servers do not ${question.ask}`);
  return Promise.all(question.servers.map(serve));
});

const MAKERS: Readonly<Record<BuiltIn, (name: string) => NetServer>> = {
  echo: echoServer,
  // Connections of the clients pause while they think; only the clients end them.
  http: (name) => createHttpServer({ keepAliveTimeout: 0 }, page(name)),
  http2: (name) => createHttp2Server(page(name)),
  grpc: grpcServer,
};

function serve({ protocol, name, listen }: Server): Promise<number> {
  const server = MAKERS[protocol](name);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port, listen.ip, () => resolve((server.address() as AddressInfo).port));
  });
}

function echoServer(): NetServer {
  return createServer({ noDelay: true }, (socket) => {
    // A reset is the client's right; what it missed it counts itself.
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
}

interface PageRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
}

interface PageResponse {
  setHeader(name: string, value: string): unknown;
  end(text: string): unknown;
}

/** The same page in every version of HTTP. */
function page(name: string) {
  return ({ method, url }: PageRequest, response: PageResponse) => {
    response.setHeader('content-type', 'text/plain');
    response.end(`${method} ${url} served by ${name}\n`);
  };
}

function grpcServer(name: string): NetServer {
  return createHttp2Server().on('stream', (stream, headers) => answerCall(stream, headers, name));
}

/** Every message is answered as it comes: a unary call is a conversation of one. */
function answerCall(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, name: string): void {
  stream.on('error', () => stream.destroy());
  const head = { 'content-type': 'application/grpc' };
  if (!Object.values(METHODS).some((path) => path === headers[':path'])) {
    stream.respond({ ...head, 'grpc-status': STATUS.unimplemented }, { endStream: true });
    return;
  }
  let status: number = STATUS.ok;
  stream.respond(head, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
  const reader = new TextReader();
  stream.on('data', (chunk: Buffer) => {
    try {
      for (const text of reader.read(chunk)) stream.write(encodeText(`${text} answered by ${name}`));
    } catch (_notOurs) {
      status = STATUS.invalidArgument;
      stream.end();
    }
  });
  stream.on('end', () => stream.end());
}
