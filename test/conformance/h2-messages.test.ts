/** Conformance of HTTP/2 servers: requests, and what is malformed in them; here of a session without a socket. */
import t from 'tap';
import { H2Tester } from '../support/h2.ts';
import { MESSAGES } from '../support/h2-conformance-messages.ts';
import { connectSession } from '../support/h2-session.ts';

t.test('messages', async (t) => {
  for (const { section, name, run } of MESSAGES) {
    await t.resolves(run(new H2Tester(connectSession())), `${section} ${name}`);
  }
});
