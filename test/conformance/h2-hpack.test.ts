/** Conformance of HTTP/2 servers: header blocks that cannot be decoded; here of a session without a socket. */
import t from 'tap';
import { H2Tester } from '../support/h2.ts';
import { HPACK } from '../support/h2-conformance-messages.ts';
import { connectSession } from '../support/h2-session.ts';

t.test('hpack', async (t) => {
  for (const { section, name, run } of HPACK) {
    await t.resolves(run(new H2Tester(connectSession())), `${section} ${name}`);
  }
});
