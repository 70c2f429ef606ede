/** gRPC clients and servers of others that know nothing of the two sidecars between them. */
import t from 'tap';
import { ALL_RIGHT, grpcStacks, outcomesOf } from '../support/grpc-programs.ts';
import { createMesh, SERVER } from '../support/mesh.ts';
import { SECURITIES, startSidecars } from '../support/mesh-security.ts';
import { exec } from '../support/netns.ts';
import { serve } from '../support/servers.ts';

const VIRTUAL = '10.96.0.10';
/** Of grpc-js, and of grpcio. */
const PORTS = [50_051, 50_052] as const;

/** Calls of a client that end with a status, as its cases are: UNKNOWN with a message, and UNIMPLEMENTED. */
const ENDED: readonly (readonly [status: number, calls: number])[] = [
  [2, 4],
  [12, 2],
];

for (const security of SECURITIES) {
  t.test(security, async (t) => {
    const stacks = grpcStacks(t);
    const mesh = stacks && createMesh(t, 'nft');
    if (stacks === undefined || mesh === undefined) return;
    const services = stacks.map(({ name }, index) => {
      return { name, ip: VIRTUAL, port: PORTS[index], endpoint: SERVER.v4 };
    });
    const sidecars = await startSidecars(t, mesh, security, services);
    let runs = 0;
    for (const [index, server] of stacks.entries()) {
      await serve(mesh.server, PORTS[index], 'env', server.server(SERVER.v4, PORTS[index]));
      // How the sidecars find each other is no matter of who asks whom: one way with each server is enough.
      const clients = security === 'mtls' ? stacks : stacks.filter((stack) => stack !== server);
      for (const client of clients) {
        const ran = exec(mesh.client, 'env', client.client(`${VIRTUAL}:${PORTS[index]}`));
        t.strictSame(outcomesOf(ran), ALL_RIGHT, `${client.name} with a server of ${server.name}`);
        runs++;
      }
    }
    for (const sidecar of [sidecars.outgoing, sidecars.incoming]) {
      const ended = (status: number) => sidecar.sum('response_total', `grpc_status="${status}"`);
      for (const [status, count] of ENDED) t.equal(ended(status), runs * count, `status ${status}`);
      t.ok(ended(0) > 300 * runs, 'the mixed calls and more');
    }
    sidecars.expectSecurity(t, stacks.length);
  });
}
