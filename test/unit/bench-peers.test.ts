/** What peers are started with is understood by the programs it is for. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { PEERS, SCENARIOS } from '../../bench/catalog.ts';
import { ask } from '../../bench/harness/machine.ts';
import type { Launch, Peer } from '../../bench/harness/model.ts';
import { loadConfig } from '../../proxy/config/load.ts';
import { compile } from '../../proxy/resources/compile.ts';
import { loadResources } from '../../proxy/resources/load.ts';
import { requirePeer } from '../support/peers.ts';

function launchIn(t: Test, peer: Peer): { readonly folder: string; readonly launch: Launch } {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-bench-peers-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const launch = peer.launch({ listenPort: 21_001, backendPort: 21_002, adminPort: 21_003, folder });
  if (launch === undefined) throw new Error(`${peer.name} is not a process`);
  for (const [name, text] of Object.entries(launch.files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return { folder, launch };
}

t.test('names are unique, and there is one subject and a control', async (t) => {
  for (const items of [PEERS, SCENARIOS]) {
    const names = items.map(({ name }) => name);
    t.equal(new Set(names).size, names.length);
  }
  t.same(
    PEERS.filter(({ role }) => role !== 'rival').map(({ name, role }) => [name, role]),
    [
      ['ferrule', 'subject'],
      ['direct', 'control'],
    ],
  );
});

t.test('ferrule: one listener, one service, one endpoint, one worker', async (t) => {
  const { folder, launch } = launchIn(t, PEERS.find(({ name }) => name === 'ferrule')!);
  const config = await loadConfig({ file: join(folder, 'ferrule.yaml'), env: {}, flags: {} });
  t.match(config, {
    workers: 1,
    inbound: { listen: { length: 0 } },
    outbound: { listen: { length: 0 }, listeners: [{ service: 'backend.bench:80' }] },
    discovery: [{ source: 'file', path: join(folder, 'mesh.d') }],
  });
  t.equal(String(config.outbound.listeners[0].listen), '127.0.0.1:21001');
  const loaded = await loadResources(launch.files['mesh.d/backend.yaml'], 'backend.yaml');
  t.same([...loaded.mistakes, ...loaded.warnings], []);
  t.doesNotThrow(() => compile(loaded.resources));
});

for (const peer of PEERS.filter(({ name }) => name.startsWith('haproxy'))) {
  t.test(peer.name, async (t) => {
    const haproxy = requirePeer(t, 'haproxy');
    if (haproxy === undefined) return;
    const { folder } = launchIn(t, peer);
    const { status, text } = ask(haproxy, ['-c', '-f', join(folder, 'haproxy.cfg')]);
    t.equal(status, 0, text);
    t.notMatch(text, /WARNING|ALERT/i);
  });
}

t.test('nginx-stream', async (t) => {
  const nginx = requirePeer(t, 'nginx');
  if (nginx === undefined) return;
  const peer = PEERS.find(({ name }) => name === 'nginx-stream')!;
  const probe = peer.probe();
  if (!probe.found) {
    t.pass(probe.reason, { skip: probe.reason });
    return;
  }
  const { launch } = launchIn(t, peer);
  const { status, text } = ask(nginx, ['-t', ...launch.args]);
  t.equal(status, 0, text);
});
