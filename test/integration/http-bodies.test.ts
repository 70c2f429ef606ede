/** Bodies of every framing and of sizes around every limit, through every route, byte for byte. */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Agent, request as ask, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { type Framing, pieces, startApplication, streamDigest } from '../support/http-application.ts';
import { type Route, startRoutes } from '../support/http-routes.ts';

const GIGABYTE = process.env.FERRULE_SOAK === '1' ? [1_000_000_000] : [];
const SIZES = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_000_000, 20_000_000, ...GIGABYTE];
const FRAMINGS: readonly Framing[] = ['length', 'chunked', 'close'];

/** What the proxy may hold of a body whose reader stands still, in bytes: kernels and the engine's limits, far below the body. */
const MAX_HELD_BYTES = 4_000_000;

async function digestOf(response: IncomingMessage): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of response) hash.update(bytes);
  return hash.digest('hex');
}

async function download(agent: Agent, { address }: Route, length: number, framing: Framing): Promise<string> {
  const path = `/body?n=${length}&framing=${framing}`;
  const request = ask({ host: address.ip, port: address.port, agent, path }).end();
  const [response] = await once(request, 'response');
  return digestOf(response);
}

async function upload(agent: Agent, { address }: Route, length: number, framing: Framing): Promise<string> {
  const headers = framing === 'length' ? { 'content-length': length } : { 'transfer-encoding': 'chunked' };
  const options = { host: address.ip, port: address.port, agent, method: 'PUT', headers };
  const request = ask({ ...options, path: '/echo' });
  const answered = once(request, 'response').then(([response]) => digestOf(response));
  for (const piece of pieces(length)) if (!request.write(piece)) await once(request, 'drain');
  request.end();
  return answered;
}

async function allSizes(t: Test, route: Route): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  for (const length of SIZES) {
    const right = streamDigest(length);
    for (const framing of FRAMINGS) {
      t.equal(await download(agent, route, length, framing), right, `${length} bytes down, ${framing}`);
    }
    for (const framing of FRAMINGS.slice(0, 2)) {
      t.equal(await upload(agent, route, length, framing), right, `${length} bytes both ways, ${framing}`);
    }
  }
}

t.test('every byte arrives', async (t) => {
  const application = await startApplication(t);
  const { routes, idle } = await startRoutes(t, application.address);
  for (const route of routes) await t.test(route.name, (t) => allSizes(t, route));
  await idle();
});

t.test('a reader that stands still', async (t) => {
  const application = await startApplication(t);
  const { routes, outgoing, incoming, idle } = await startRoutes(t, application.address);
  for (const { name, address } of routes) {
    // What waits for a stream is not in the engine's queues; flow control is tested with HTTP/2.
    if (name === 'multiplexed') continue;
    for (const framing of FRAMINGS) {
      const client = connect({ host: address.ip, port: address.port });
      client.write(`GET /body?n=500000000&framing=${framing} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await once(client, 'readable');
      const proxies = name === 'inbound' ? [incoming] : [outgoing];
      let queued = 0;
      for (const proxy of proxies) {
        queued = await proxy.until('ferrule_engine_queued_bytes', {}, (sum) => sum > 0);
        for (let look = 0; look < 5; look++)
          queued = Math.max(queued, await proxy.sum('ferrule_engine_queued_bytes'));
      }
      t.ok(queued < MAX_HELD_BYTES, `${name}, ${framing}: ${queued} bytes are held`);
      client.destroy();
    }
  }
  await idle();
});
