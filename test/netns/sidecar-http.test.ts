/** HTTP/1 clients and servers of others that know nothing of the two sidecars with mutual TLS between them. */
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { at } from '../support/engine.ts';
import { streamDigest } from '../support/http-application.ts';
import type { Outcome } from '../support/http-exercises.ts';
import { FILE_BYTES, HTTP_SERVERS, LOADS, prepareServer } from '../support/http-servers.ts';
import { createMesh, type Mesh, SERVER } from '../support/mesh.ts';
import { expectAllSecured, startSidecars } from '../support/mesh-security.ts';
import { exec } from '../support/netns.ts';
import { folderFor, programs, serve, serveApplication, WITHOUT_HOOKS } from '../support/servers.ts';

const VIRTUAL = '10.96.0.10';
const PORT = 8080;

/** Both pods, and a service whose one endpoint is the server pod. */
async function meshFor(t: Test) {
  const mesh = createMesh(t, 'nft');
  if (mesh === undefined) return undefined;
  const services = [{ name: 'web', ip: VIRTUAL, port: PORT, endpoint: SERVER.v4 }];
  return { mesh, sidecars: await startSidecars(t, mesh, 'mtls', services) };
}

function expectLoads(t: Test, { client }: Mesh, path: string): void {
  for (const { program, args, right } of LOADS) {
    const { stdout, stderr } = exec(client, program, [...args, `http://${VIRTUAL}:${PORT}${path}`]);
    t.match(stdout, right, `${program} ${args.join(' ')} ${stderr}`);
  }
}

const LOADING = [...new Set(LOADS.map(({ program }) => program))];

for (const server of HTTP_SERVERS) {
  t.test(server.name, async (t) => {
    const paths = programs(t, server.program, 'curl', ...LOADING);
    const made = paths && (await meshFor(t));
    if (paths === undefined || made === undefined) return;
    const { mesh, sidecars } = made;
    const folder = folderFor(t);
    const address = at(`${SERVER.v4}:${PORT}`);
    prepareServer(server, folder, address);
    await serve(mesh.server, PORT, paths[0], server.args(folder, address));
    const file = `http://${VIRTUAL}:${PORT}/file`;
    for (const version of ['--http1.1', '--http1.0']) {
      const got = exec(mesh.client, 'sh', ['-c', `curl -sS -m 20 ${version} ${file} | sha256sum`]);
      t.equal(got.stdout.split(' ')[0], streamDigest(FILE_BYTES), `${version} ${got.stderr}`);
    }
    expectLoads(t, mesh, '/small');
    const requests = sidecars.outgoing.sum('request_total');
    t.ok(requests > 1_600, `${requests} requests`);
    // wrk leaves its last requests on their way.
    const lost = requests - sidecars.incoming.sum('request_total');
    t.ok(lost >= 0 && lost <= 8, `all but ${lost} arrived`);
    expectAllSecured(t, sidecars);
  });
}

t.test('Node, with its http client and undici', async (t) => {
  const made = programs(t, ...LOADING) && (await meshFor(t));
  if (made === undefined) return;
  const { mesh, sidecars } = made;
  await serveApplication(mesh.server, SERVER.v4, PORT);
  const program = fileURLToPath(new URL('../support/http-exercises.ts', import.meta.url));
  const args = [...WITHOUT_HOOKS, process.execPath, program, `${VIRTUAL}:${PORT}`];
  const { stdout, stderr } = exec(mesh.client, 'env', args);
  if (stdout === '') throw new Error(stderr);
  const outcomes: Outcome[] = JSON.parse(stdout);
  let asked = 0;
  for (const outcome of outcomes) {
    t.strictSame(outcome.wrong, [], outcome.name);
    asked += outcome.asked;
  }
  t.ok(asked > 1_000);
  t.strictSame(
    [sidecars.outgoing.sum('request_total'), sidecars.incoming.sum('request_total')],
    [asked, asked],
  );
  expectLoads(t, mesh, '/body?n=1000&framing=length');
  expectAllSecured(t, sidecars);
});
