/** The built-in servers, as a program that runs in the server pod. */

import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server as NetServer } from 'node:net';
import { answerQuestions } from './agent.ts';
import type { Server } from './messages.ts';

answerQuestions(async (question) => {
  if (question.ask !== 'serve') throw new Error(`servers do not ${question.ask}`);
  return Promise.all(question.servers.map(serve));
});

function serve({ protocol, name, listen }: Server): Promise<number> {
  const server = protocol === 'http' ? webServer(name) : echoServer();
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

function webServer(name: string): NetServer {
  // Connections of the clients pause while they think; only the clients end them.
  return createHttpServer({ keepAliveTimeout: 0 }, (request, response) => {
    response.setHeader('content-type', 'text/plain');
    response.end(`${request.method} ${request.url} served by ${name}\n`);
  });
}
