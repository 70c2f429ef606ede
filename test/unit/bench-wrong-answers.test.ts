/** A proxy that loses, changes or adds a byte must become a failed row, whatever it saves in CPU by that. */

import t, { type Test } from 'tap';
import { startBulkBackend, transfer } from '../../bench/backends/bulk.ts';
import { startHttpBackend, verifyHttp } from '../../bench/backends/http.ts';
import { runClient } from '../../bench/harness/client.ts';
import { stopAllJobs } from '../../bench/harness/job.ts';
import { ask, proxyUser } from '../../bench/harness/machine.ts';
import type { Case, OpenScenario, Peer, Workshop } from '../../bench/harness/model.ts';
import { type RunTurn, runRounds, turnRunner } from '../../bench/harness/rounds.ts';
import { RunFolder } from '../../bench/harness/workshop.ts';
import { checkSummary, runWrk } from '../../bench/harness/wrk.ts';
import { scenario as tcpBulk } from '../../bench/scenarios/tcp-bulk.ts';
import { scenario as tcpIdle } from '../../bench/scenarios/tcp-idle.ts';
import { closeEarly, flipByte, HONEST, loseByte, type Spoil, startLiar } from '../support/bench-liar.ts';
import { requirePeer } from '../support/peers.ts';

/** One for the file, so that each generator is compiled once. */
const run = new RunFolder();
t.teardown(() => run.remove());

/** Turns through one proxy each. */
function turnsOf(scenario: OpenScenario, one: Case, folder: string): RunTurn {
  const setting = { scenario, seconds: 1, folder, tool: (name: string) => run.toolPath(name) };
  return turnRunner({ ...setting, layout: 'one', identities: undefined }, one);
}

function workshop(t: Test, name: string): Workshop {
  t.teardown(stopAllJobs);
  return run.workshop(name, 20);
}

t.test('bulk transfers', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const tool = await workshop(t, 'bulk').tool('bulk');
  const backend = await startBulkBackend(tool);
  const move = async (way: 'download' | 'upload', check: boolean, toClient: Spoil, toBackend = HONEST) =>
    transfer(tool, await startLiar(t, backend, toClient, toBackend), way, 4e6, check);

  t.match(await move('download', true, HONEST), { bytes: 4e6 }, 'an honest proxy passes');
  t.match(await move('upload', true, HONEST), { bytes: 4e6 });
  await t.rejects(move('download', true, flipByte(3_000_001)), {
    message: /wrong or lost bytes after 3000001|wrong or lost bytes after 2\d+/,
  });
  await t.rejects(move('upload', true, HONEST, flipByte(3_000_017)), {
    message: /wrong or lost bytes after/,
  });
  await t.rejects(move('download', false, loseByte(7)), {
    message: /3999999 bytes arrived instead of 4000000/,
  });
  const addByte: Spoil = (piece, seen) => (seen === 0 ? Buffer.concat([piece, Buffer.of(1)]) : piece);
  await t.rejects(move('download', false, addByte), { message: /4000001 bytes arrived/ });
  await t.rejects(move('download', false, closeEarly), { message: /bytes arrived instead of|wrong or lost/ });
});

t.test('short exchanges', async (t) => {
  if (requirePeer(t, 'g++') === undefined || requirePeer(t, 'nginx') === undefined) return;
  const { folder, tool } = workshop(t, 'http');
  const client = await tool('client');
  const backend = await startHttpBackend(folder);
  const hello = (replacement: string): Spoil => {
    return (piece) => Buffer.from(piece.toString('latin1').replace('hello', replacement), 'latin1');
  };
  const honest = await startLiar(t, backend.port, HONEST);
  await verifyHttp(honest);
  for (const mode of ['connect', 'rate'] as const) {
    const numbers = (port: number) => (mode === 'rate' ? [port, 4, 500] : [port, 4]);
    const good = await runClient(client, mode, numbers(honest), 0.2);
    t.ok(good.units >= (mode === 'rate' ? 100 : 1), `${mode}: ${good.units} exchanges`);
    for (const [spoil, message] of [
      [hello('jello'), /wrong answer/],
      [closeEarly, /closed before the answer|recv|send/],
    ] as const) {
      const port = await startLiar(t, backend.port, spoil);
      await t.rejects(runClient(client, mode, numbers(port), 0.2), { message }, mode);
    }
  }
  await t.rejects(verifyHttp(await startLiar(t, backend.port, hello('jello'))), {
    message: /wrong answer: "jello world/,
  });
});

t.test('every connection of the client is one of the backend', async (t) => {
  if (requirePeer(t, 'g++') === undefined || requirePeer(t, 'nginx') === undefined) return;
  const { folder, tool } = workshop(t, 'counted');
  const backend = await startHttpBackend(folder);
  const before = await backend.accepted();
  const { units } = await runClient(await tool('client'), 'connect', [backend.port, 4], 0.2);
  t.equal((await backend.accepted()) - before, units);
});

t.test('wrk', async (t) => {
  const summary = { requests: 10_000, bytes: 1_600_000, seconds: 1, errors: 0, p50: 1, p99: 1, p999: 1 };
  t.doesNotThrow(() => checkSummary(summary, 2));
  t.doesNotThrow(
    () => checkSummary({ ...summary, bytes: 1_600_050 }, 2),
    'two may be in the middle of an answer',
  );
  t.throws(() => checkSummary({ ...summary, errors: 1 }, 2), { message: /wrk counts 1 errors/ });
  t.throws(() => checkSummary({ ...summary, requests: 0 }, 2), { message: /no answer/ });
  t.throws(() => checkSummary({ ...summary, bytes: 1_599_990 }, 2), { message: /1599990 bytes/ });
  if (requirePeer(t, 'wrk') === undefined || requirePeer(t, 'nginx') === undefined) return;
  const backend = await startHttpBackend(workshop(t, 'wrk').folder);
  t.ok((await runWrk(backend.port, 2, 1)).units > 100);
});

/** A proxy in a process of its own which changes one byte in the middle of what the harness compares. */
const LYING_PROXY = `
  const net = require('node:net');
  const [listen, backendPort] = process.argv.slice(1).map(Number);
  net.createServer((client) => {
    const backend = net.connect(backendPort, '127.0.0.1');
    client.pipe(backend);
    let seen = 0;
    backend.on('data', (piece) => {
      if (seen <= 100e6 && seen + piece.length > 100e6) piece[100e6 - seen] ^= 1;
      seen += piece.length;
      if (!client.write(piece)) backend.pause();
    });
    client.on('drain', () => backend.resume());
    for (const socket of [client, backend]) socket.on('error', () => process.exit(3));
  }).listen(listen, '127.0.0.1');
`;

function processPeer(name: string, script: string): Peer {
  return {
    name,
    description: name,
    role: 'rival',
    probe: () => ({ found: true, versions: [] }),
    one: ({ listenPort, backendPort }) => ({
      command: process.execPath,
      args: ['-e', script, String(listenPort), String(backendPort)],
      files: {},
    }),
  };
}

const DIRECT: Peer = {
  name: 'direct',
  description: 'direct',
  role: 'control',
  probe: () => ({ found: true, versions: [] }),
};
const QUIET = { turn: () => undefined, done: () => undefined };

/** The reason why proxies cannot run in this checkout, if any. */
function cannotRunProxies(): string | undefined {
  const { status, text } = ask(process.execPath, ['-e', ''], proxyUser());
  return status === 0 ? undefined : `uid ${proxyUser()} cannot run ${process.execPath}: ${text}`;
}

t.test('a whole turn with a proxy that lies, and with one that dies', async (t) => {
  if (requirePeer(t, 'g++') === undefined) return;
  const unable = cannotRunProxies();
  if (unable !== undefined) {
    t.pass(unable, { skip: unable });
    return;
  }
  const shop = workshop(t, 'turn');
  const open = await tcpBulk.open(shop);
  const runTurn = turnsOf(open, tcpBulk.cases[0], shop.folder);
  const peers = [processPeer('liar', LYING_PROXY), processPeer('dead', 'process.exit(7)'), DIRECT];
  const [liar, dead, direct] = await runRounds(peers, 1, runTurn, QUIET);
  t.match(
    liar.failure,
    /^round 1: bulk ended with exit status 1: wrong or lost bytes after 100000000|after 99/,
  );
  t.same(liar.measurements, []);
  t.match(dead.failure, /^round 1: node ended with exit status 7/);
  t.match(direct, { failure: undefined, measurements: [{ value: undefined, throughput: Number }] });
});

t.test('idle connections that were dropped are noticed', async (t) => {
  if (requirePeer(t, 'g++') === undefined || requirePeer(t, 'nginx') === undefined) return;
  const unable = cannotRunProxies();
  if (unable !== undefined) {
    t.pass(unable, { skip: unable });
    return;
  }
  const shop = workshop(t, 'idle');
  const open = await tcpIdle.open(shop);
  const proxy = (idleMs: number) => `
    const net = require('node:net');
    const [listen, backendPort] = process.argv.slice(1).map(Number);
    net.createServer((client) => {
      const backend = net.connect(backendPort, '127.0.0.1');
      client.pipe(backend).pipe(client);
      client.setTimeout(${idleMs}, () => client.destroy());
      for (const socket of [client, backend]) socket.on('error', () => socket.destroy());
    }).listen(listen, '127.0.0.1');
  `;
  const peers = [processPeer('keeps', proxy(60_000)), processPeer('drops', proxy(200))];
  const runTurn = turnsOf(open, tcpIdle.cases[0], shop.folder);
  const [keeps, drops] = await runRounds(peers, 1, runTurn, QUIET);
  t.match(keeps, { failure: undefined, measurements: [{ value: Number }] });
  t.match(drops.failure, /closed before the answer|recv|send/);
});
