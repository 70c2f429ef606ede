/** Rivals do in HTTP/2 what they are measured for: calls come through them, and through two of them with mutual TLS between. */

import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type H2Service, startCalls, startFiles } from '../../bench/backends/h2.ts';
import { type HttpBackend, startHttpBackend, verifyFile, verifyFileInH2 } from '../../bench/backends/http.ts';
import { PEERS } from '../../bench/catalog.ts';
import { verifyHop } from '../../bench/harness/hop.ts';
import { stopAllJobs } from '../../bench/harness/job.ts';
import type { Layout, Peer, Turn } from '../../bench/harness/model.ts';
import { turnRunner } from '../../bench/harness/rounds.ts';
import { RunFolder } from '../../bench/harness/workshop.ts';
import { haproxyHttpPair } from '../../bench/peers/haproxy-mode-http.ts';
import { benchCase, measured } from '../support/bench.ts';
import { missing, requirePeer } from '../support/peers.ts';

const run = new RunFolder();
t.teardown(async () => {
  await stopAllJobs();
  run.remove();
});

/** Runs a turn of a peer in which nothing is measured. @returns whether it came to its end */
async function turn(peer: Peer, layout: Layout, backendPort: number, use: (turn: Turn) => Promise<void>) {
  const folder = join(run.path, randomUUID());
  mkdirSync(folder, { mode: 0o755 });
  const scenario = {
    backendPort,
    async measure(_name: string, turn: Turn) {
      await use(turn);
      return measured(1);
    },
  };
  const identities = layout === 'h2' ? undefined : await run.identities();
  const setting = { scenario, seconds: 1, folder, tool: (name: string) => name, layout, identities };
  const { value } = await turnRunner(setting, benchCase(undefined))(peer);
  return value === 1;
}

function throughOne(peer: Peer, service: H2Service, layout: 'h2' | 'h2Pair') {
  return turn(peer, layout, service.port, async (turn) => {
    const proxy = await turn.startProxy();
    await verifyHop(proxy.hop, service.verify);
    await service.verify(proxy.port);
    proxy.check();
  });
}

function throughHttp(peer: Peer, { port, h2Port }: HttpBackend) {
  return turn(peer, 'httpOverH2', port, async (turn) => {
    const proxy = await turn.startProxy();
    const exchange = (through: number) => verifyFile(through, 10_000);
    const inside = { exchange: (through: number) => verifyFileInH2(through, 10_000), backendPort: h2Port };
    await verifyHop(proxy.hop, exchange, inside);
    await exchange(proxy.port);
    proxy.check();
  });
}

async function backends(t: Test) {
  for (const name of ['nghttpd', 'nginx', 'openssl'])
    if (requirePeer(t, name) === undefined) return undefined;
  const { folder } = run.workshop('backends', 0);
  const [calls, files] = [await startCalls(folder), await startFiles(folder)];
  return { calls, files, http: await startHttpBackend(folder) };
}

t.test('rivals', async (t) => {
  const started = await backends(t);
  if (started === undefined) return;
  for (const peer of PEERS.filter(({ role, h2 }) => role === 'rival' && h2 !== undefined)) {
    const probe = peer.probe();
    if (!probe.found) {
      missing(t, probe.reason);
      continue;
    }
    for (const service of [started.files, started.calls]) {
      t.ok(await throughOne(peer, service, 'h2'), `${peer.name}: ${service.load.path}`);
    }
    if (peer.h2Pair !== undefined)
      t.ok(await throughOne(peer, started.calls, 'h2Pair'), `two of ${peer.name}`);
    if (peer.httpOverH2 !== undefined) {
      t.ok(await throughHttp(peer, started.http), `two of ${peer.name} for HTTP/1`);
    }
  }
  const honest = PEERS.find(({ name }) => name === 'haproxy-h2')!;
  if (!honest.probe().found) return;
  const liar = { ...honest, httpOverH2: { ...haproxyHttpPair({}), alpn: 'h2' } } as const;
  await t.rejects(throughHttp(liar, started.http), 'two that speak HTTP/1 with each other are found out');
});
