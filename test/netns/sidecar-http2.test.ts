/** HTTP/2 clients and servers of others that know nothing of the two sidecars with mutual TLS between them. */
import { once } from 'node:events';
import t from 'tap';
import { at } from '../support/engine.ts';
import { prepareServer } from '../support/http-servers.ts';
import { HTTP2_CLIENTS, HTTP2_SERVERS, http2Checks } from '../support/http2-servers.ts';
import { createMesh, SERVER } from '../support/mesh.ts';
import { expectAllSecured, startSidecars } from '../support/mesh-security.ts';
import { exec } from '../support/netns.ts';
import { folderFor, programs, serve } from '../support/servers.ts';

const VIRTUAL = '10.96.0.10';
const PORT = 8080;

for (const server of HTTP2_SERVERS) {
  t.test(server.name, async (t) => {
    const paths = programs(t, server.program, ...HTTP2_CLIENTS);
    const mesh = paths && createMesh(t, 'nft');
    if (paths === undefined || mesh === undefined) return;
    const services = [{ name: 'web', ip: VIRTUAL, port: PORT, endpoint: SERVER.v4 }];
    const sidecars = await startSidecars(t, mesh, 'mtls', services);
    const folder = folderFor(t);
    const address = at(`${SERVER.v4}:${PORT}`);
    prepareServer(server, folder, address);
    const child = await serve(mesh.server, PORT, paths[0], server.args(folder, address));
    for (const { what, command, args, right } of http2Checks(server, `${VIRTUAL}:${PORT}`)) {
      const { stdout, stderr } = exec(mesh.client, command, args);
      t.match(stdout, right, `${what} ${stderr}`);
    }
    expectAllSecured(t, sidecars);
    // Not every server closes connections that nobody uses.
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  });
}
