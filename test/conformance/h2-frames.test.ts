/** Conformance of HTTP/2 servers: the preface and single frames; here of a session without a socket. */
import t from 'tap';
import { H2Tester } from '../support/h2.ts';
import { FRAMES } from '../support/h2-conformance-frames.ts';
import { connectSession } from '../support/h2-session.ts';

t.test('frames', async (t) => {
  for (const { section, name, run } of FRAMES) {
    await t.resolves(run(new H2Tester(connectSession())), `${section} ${name}`);
  }
});
