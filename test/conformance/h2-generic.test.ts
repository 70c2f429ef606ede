/** Conformance of HTTP/2 servers: what every server accepts; here of a session without a socket. */
import t from 'tap';
import { H2Tester } from '../support/h2.ts';
import { GENERIC } from '../support/h2-conformance-generic.ts';
import { connectSession } from '../support/h2-session.ts';

t.test('generic', async (t) => {
  for (const { section, name, run } of GENERIC) {
    await t.resolves(run(new H2Tester(connectSession())), `${section} ${name}`);
  }
});
