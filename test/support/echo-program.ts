/** A program for tests: an echo server on a free port of loopback, which it prints. It can be stopped and killed. */

import { type AddressInfo, createServer } from 'node:net';

if (import.meta.main) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Clients of tests reset their connections.
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
    process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  });
}
