/** HTTP/2 clients and servers of others through every route. */
import t from 'tap';
import { run, startServer } from '../support/http-programs.ts';
import { startRoutes } from '../support/http-routes.ts';
import { HTTP2_CLIENTS, HTTP2_SERVERS, http2Checks } from '../support/http2-servers.ts';
import { requirePeer } from '../support/peers.ts';

for (const server of HTTP2_SERVERS) {
  t.test(server.name, async (t) => {
    const command = requirePeer(t, server.program);
    const clients = HTTP2_CLIENTS.map((name) => requirePeer(t, name));
    if (command === undefined || clients.includes(undefined)) return;
    const started = await startServer(t, command, server);
    const { routes, idle } = await startRoutes(t, started.address);
    for (const { name, address } of routes) {
      for (const { what, command, args, right } of http2Checks(server, address)) {
        const { stdout, stderr } = await run(command, [...args]);
        t.match(stdout, right, `${name}: ${what} ${stderr}`);
      }
    }
    // Not every server closes connections that nobody uses.
    await started.stop();
    await idle();
  });
}
