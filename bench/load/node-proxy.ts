// A proxy as one writes it in Node: http in front, a pool of undici behind, bodies piped.
//
//   node node-proxy.ts LISTEN_PORT BACKEND_PORT

import { createServer } from 'node:http';
import { Pool } from 'undici';

const [listenPort, backendPort] = process.argv.slice(2).map(Number);
const pool = new Pool(`http://127.0.0.1:${backendPort}`, { pipelining: 1 });

/** They concern one connection (RFC 9110 section 7.6.1); undici refuses some of them. */
const HOP_BY_HOP = ['connection', 'keep-alive', 'transfer-encoding', 'upgrade'];

const server = createServer((request, response) => {
  const headers = { ...request.headers };
  for (const name of HOP_BY_HOP) delete headers[name];
  const hasBody = request.method !== 'GET' && request.method !== 'HEAD';
  const method = request.method as 'GET';
  const wanted = { path: request.url!, method, headers, body: hasBody ? request : null, opaque: response };
  pool.stream(
    wanted,
    ({ statusCode, headers: answered }) => {
      for (const name of HOP_BY_HOP) delete answered[name];
      return response.writeHead(statusCode, answered);
    },
    (error) => {
      if (error === null) return;
      if (response.headersSent) response.destroy(error);
      else response.writeHead(502).end(error.message);
    },
  );
});
server.keepAliveTimeout = 0;
server.listen(listenPort, '127.0.0.1', 4096);
