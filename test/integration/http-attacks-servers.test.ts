/** The corpus of requests through the whole proxy to real servers: what they say they were asked is what the clients asked. */
import t, { type Test } from 'tap';
import { REQUEST_CORPUS } from '../support/http-corpus.ts';
import { OPENING, opensAsHttp, startBoth, talk } from '../support/http-corpus-rig.ts';
import {
  type CountingServer,
  startHaproxy,
  startNginx,
  startNode,
  startPython,
} from '../support/http-corpus-servers.ts';
import { eventually } from '../support/proxy.ts';

/** `METHOD length` of all that is asked in accepted bytes. nginx logs no length of a body that came in chunks. */
function asksOf(server: CountingServer, text: string, bodies: readonly string[]): string[] {
  const methods = [...text.matchAll(/^([A-Z]+) [^ ]+ HTTP\/1\.[01]\r$/gim)].map(([, method]) => method);
  return bodies.map((body, i) => `${methods[i]} ${server.name === 'nginx' ? 200 : body.length}`);
}

/** A server may be stricter than the proxy, or know no such method: then it answers itself, and counts nothing or an error. */
async function accepted(t: Test, server: CountingServer): Promise<void> {
  const { outbound, inbound } = await startBoth(t, server.address);
  let exact = 0;
  let cases = 0;
  for (const { name, bytes, expected } of REQUEST_CORPUS) {
    if (!('bodies' in expected)) continue;
    for (const address of [outbound, inbound]) {
      for (const opening of [undefined, OPENING]) {
        if (opening === undefined && !opensAsHttp(bytes)) continue;
        cases++;
        const before = server.asked().length;
        const { statuses, closed } = await talk(address, bytes, { opening, end: true });
        const label = `${server.name}: ${name}${opening === undefined ? '' : ', 2nd'}`;
        const wanted = asksOf(server, bytes, expected.bodies);
        if (opening !== undefined) wanted.unshift(asksOf(server, OPENING, [''])[0]);
        if (!closed || statuses.length > wanted.length) t.fail(`${label}: ${statuses} ${closed}`);
        if (statuses.length === wanted.length && statuses.every((status) => status === 200)) {
          exact++;
          await eventually(label, () => (server.asked().length >= before + wanted.length ? true : undefined));
          t.strictSame(server.asked().slice(before), wanted, label);
        } else {
          t.ok(server.asked().length - before <= wanted.length, `${label}: no more than was asked`);
          t.comment(`${label}: ${statuses}`);
        }
      }
    }
  }
  t.ok(exact > cases * 0.8, `${exact} of ${cases} were taken by the server`);
}

async function refused(t: Test, server: CountingServer): Promise<void> {
  const { outbound, inbound } = await startBoth(t, server.address);
  const before = server.asked().length;
  let openings = 0;
  for (const { name, bytes, expected } of REQUEST_CORPUS) {
    if (!('refused' in expected)) continue;
    // Half-read bodies are an error that nginx and others log as a request of their own.
    if (expected.part === 'body' && server.name === 'nginx') continue;
    const address = openings++ % 2 === 0 ? outbound : inbound;
    const { statuses } = await talk(address, bytes, { opening: OPENING });
    t.strictSame(statuses, [200, expected.refused], `${server.name}: ${name}`);
  }
  const wanted = Array.from({ length: openings }, () => asksOf(server, OPENING, [''])[0]);
  t.strictSame(server.asked().slice(before), wanted, `${server.name} has seen the openings and nothing else`);
}

for (const start of [startNode, startNginx, startHaproxy, startPython]) {
  t.test(start.name, async (t) => {
    const server = await start(t);
    if (server === undefined) return;
    await accepted(t, server);
    await refused(t, server);
  });
}
