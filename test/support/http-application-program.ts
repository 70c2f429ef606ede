/** A program for tests: the application of `http-application.ts`, with the page of `browser-page.ts`, at IP and PORT; prints what the page found out. */

import { answerPage, echoFrames } from './browser-page.ts';
import { createApplication } from './http-application.ts';

if (import.meta.main) {
  const [host, port] = process.argv.slice(2);
  const { server } = createApplication(answerPage((result) => process.stdout.write(`${result}\n`)));
  server.on('upgrade', echoFrames);
  server.listen({ host, port: Number(port), backlog: 1024 });
}
