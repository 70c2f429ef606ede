// A service with several replicas, each as slow as it is told to be.
//
//   node replicas.ts PORT=MILLISECONDS...

import { createServer } from 'node:http';

const BODY = 'hello world\n'; // bench/backends/http.ts

for (const [port, milliseconds] of process.argv.slice(2).map((text) => text.split('=').map(Number))) {
  const server = createServer((_request, response) => {
    setTimeout(() => response.end(BODY), milliseconds);
  });
  server.keepAliveTimeout = 0;
  server.listen(port, '127.0.0.1', 4096);
}
