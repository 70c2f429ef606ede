/** The gRPC interoperability cases between the stacks the proxies are tested with, without a proxy: what fails later is ours. */
import t from 'tap';
import { ALL_RIGHT, grpcStacks, outcomesOf } from '../support/grpc-programs.ts';
import { run, startProgram } from '../support/http-programs.ts';

t.test('every client with every server', async (t) => {
  const stacks = grpcStacks(t);
  if (stacks === undefined) return;
  for (const server of stacks) {
    const { address } = await startProgram(t, 'env', ({ port }) => server.server('127.0.0.1', port));
    for (const client of stacks) {
      const ran = await run('env', client.client(String(address)));
      t.strictSame(outcomesOf(ran), ALL_RIGHT, `${client.name} with a server of ${server.name}`);
    }
  }
});
