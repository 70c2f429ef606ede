/** What peers are started with is understood by the programs it is for. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { PEERS, SCENARIOS } from '../../bench/catalog.ts';
import { makeIdentities } from '../../bench/harness/identities.ts';
import { ask } from '../../bench/harness/machine.ts';
import type { Identities, Launch, Peer, Route } from '../../bench/harness/model.ts';
import { loadConfig } from '../../proxy/config/load.ts';
import { compile } from '../../proxy/resources/compile.ts';
import { loadResources } from '../../proxy/resources/load.ts';
import { requirePeer } from '../support/peers.ts';

interface Launched {
  /** `one`, `http`, `balance` or `h2`, or which of a pair. */
  readonly as: string;
  readonly folder: string;
  readonly launch: Launch;
}

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'ferrule-bench-peers-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

function prepare(t: Test, as: string, makeLaunch: (route: Route) => Launch): Launched {
  const folder = folderOf(t);
  const ports = {
    listenPort: 21_001,
    backendPort: 21_002,
    backendPorts: [21_002, 21_004],
    adminPort: 21_003,
  };
  const launch = makeLaunch({ ...ports, folder, tool: (name) => name });
  for (const [name, text] of Object.entries(launch.files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return { as, folder, launch };
}

/** Everything a peer is started as, with its files where it looks for them. */
function launchesOf(t: Test, peer: Peer, { client, server }: Identities): Launched[] {
  const alone = { one: peer.one, http: peer.http, balance: peer.balance, h2: peer.h2 };
  const pairs = {
    '': peer.pair,
    'http ': peer.httpPair,
    'h2 ': peer.h2Pair,
    'http over h2 ': peer.httpOverH2,
  };
  return [
    ...Object.entries(alone).flatMap(([as, launch]) =>
      launch === undefined ? [] : [prepare(t, as, launch)],
    ),
    ...Object.entries(pairs).flatMap(([as, pair]) =>
      pair === undefined
        ? []
        : [
            prepare(t, `${as}client`, (route) => pair.client(route, client, server)),
            prepare(t, `${as}server`, (route) => pair.server(route, server, client)),
          ],
    ),
  ];
}

function peerNamed(name: string): Peer {
  return PEERS.find((peer) => peer.name === name)!;
}

t.test('names are unique, and there is one subject and controls', async (t) => {
  for (const items of [PEERS, SCENARIOS]) {
    const names = items.map(({ name }) => name);
    t.equal(new Set(names).size, names.length);
  }
  t.same(
    PEERS.filter(({ role }) => role !== 'rival').map(({ name, role }) => [name, role]),
    [
      ['ferrule', 'subject'],
      ['minimal-system', 'control'],
      ['minimal-node', 'control'],
      ['minimal-node-mlkem', 'control'],
      ['direct', 'control'],
    ],
  );
});

t.test('ferrule alone: one listener, one service, one endpoint, one worker', async (t) => {
  const { folder, launch } = prepare(t, 'one', peerNamed('ferrule').one!);
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

t.test('programs', async (t) => {
  if (requirePeer(t, 'openssl') === undefined) return;
  const identities = await makeIdentities(join(folderOf(t), 'identities'));

  await t.test(
    'two ferrules: each with its identity, one expects the other, which asks for one',
    async (t) => {
      const launched = launchesOf(t, peerNamed('ferrule'), identities);
      const [client, server] = ['client', 'server'].map((end) => launched.find(({ as }) => as === end)!);
      const configOf = ({ folder }: Launched) =>
        loadConfig({ file: join(folder, 'ferrule.yaml'), env: {}, flags: {} });
      const source = { source: 'files' };
      t.match(await configOf(client), {
        workers: 1,
        identity: source,
        outbound: { listeners: { length: 1 } },
      });
      t.match(await configOf(server), {
        workers: 1,
        identity: source,
        outbound: { listen: { length: 0 }, listeners: { length: 0 } },
        inbound: { ports: [{ port: 21_002, policy: 'all-authenticated' }] },
      });
      const loaded = await loadResources(client.launch.files['mesh.d/backend.yaml'], 'backend.yaml');
      t.same([...loaded.mistakes, ...loaded.warnings], []);
      t.doesNotThrow(() => compile(loaded.resources));
      t.match(client.launch.files['mesh.d/backend.yaml'], identities.server.spiffe);
    },
  );

  for (const peer of PEERS.filter(({ name }) => name.startsWith('haproxy'))) {
    await t.test(peer.name, async (t) => {
      const haproxy = requirePeer(t, 'haproxy');
      if (haproxy === undefined) return;
      for (const { as, folder } of launchesOf(t, peer, identities)) {
        // Names of files count from where it is started.
        const { status, text } = ask(haproxy, ['-C', folder, '-c', '-f', 'haproxy.cfg']);
        t.equal(status, 0, `${as}: ${text}`);
        t.notMatch(text, /WARNING|ALERT/i, as);
      }
    });
  }

  for (const peer of PEERS.filter(({ name }) => name.startsWith('nginx'))) {
    await t.test(peer.name, async (t) => {
      const nginx = requirePeer(t, 'nginx');
      if (nginx === undefined) return;
      const probe = peer.probe();
      if (!probe.found) {
        t.pass(probe.reason, { skip: probe.reason });
        return;
      }
      for (const { as, launch } of launchesOf(t, peer, identities)) {
        const { status, text } = ask(nginx, ['-t', ...launch.args]);
        t.equal(status, 0, `${as}: ${text}`);
      }
    });
  }
});
