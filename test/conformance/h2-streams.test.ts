/** Conformance of HTTP/2 servers: states of streams, identifiers, dependencies, errors; here of a session without a socket. */
import t from 'tap';
import { H2Tester } from '../support/h2.ts';
import { STREAMS } from '../support/h2-conformance-streams.ts';
import { connectSession } from '../support/h2-session.ts';

t.test('streams', async (t) => {
  for (const { section, name, run } of STREAMS) {
    await t.resolves(run(new H2Tester(connectSession())), `${section} ${name}`);
  }
});
