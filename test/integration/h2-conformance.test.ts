/** The conformance cases of HTTP/2 servers, against the proxy: from the client's side of it, and through two with mutual TLS. */
import type { ServerHttp2Stream } from 'node:http2';
import t from 'tap';
import { H2Tester } from '../support/h2.ts';
import { startH2Application } from '../support/h2-application.ts';
import { FRAMES } from '../support/h2-conformance-frames.ts';
import { GENERIC } from '../support/h2-conformance-generic.ts';
import { HPACK, MESSAGES } from '../support/h2-conformance-messages.ts';
import { STREAMS } from '../support/h2-conformance-streams.ts';
import { connectSocket } from '../support/h2-socket.ts';
import { startRoutes } from '../support/http-routes.ts';

t.setTimeout(120_000);

/** Answers when all of a request has come, as the cases expect. */
function answer(stream: ServerHttp2Stream): void {
  stream.resume().on('end', () => {
    if (stream.closed) return;
    stream.respond({ ':status': 200 });
    stream.end('Here is some content.');
  });
}

t.test('of the proxy', async (t) => {
  const application = await startH2Application(t, answer);
  const { routes, idle } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    await t.test(name, async (t) => {
      for (const cases of [GENERIC, FRAMES, STREAMS, MESSAGES, HPACK]) {
        for (const { section, name, run } of cases) {
          const connection = connectSocket(address);
          await t.resolves(run(new H2Tester(connection)), `${section} ${name}`);
          connection.close();
        }
      }
    });
  }
  for (const session of application.sessions) session.close();
  await idle();
});
