/** Engines of several threads, and how they end: a peer is never led to believe that truncated data is whole. */

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import type { SocketAddress } from '../../proxy/core/address.ts';
import { Engine } from '../../proxy/native/engine.ts';
import { closeListener, listenerPort, openListener } from '../../proxy/native/listener.ts';
import { at, startEngine, TestEngine, until } from '../support/engine.ts';
import { dial, type Peer, type PeerServer, serve } from '../support/engine-peers.ts';
import type { EngineWorkerData, EngineWorkerEnding } from '../support/engine-worker.ts';

const SCRIPT = new URL('../support/engine-worker.ts', import.meta.url);

/** A worker with an engine, and what became of it. */
class EngineThread {
  readonly thread: Worker;
  readonly messages: string[] = [];
  exitCode: number | undefined;
  error: Error | undefined;

  constructor(data: EngineWorkerData) {
    this.thread = new Worker(SCRIPT, { workerData: data });
    this.thread.on('message', (message: string) => this.messages.push(message));
    this.thread.on('error', (error: Error) => {
      this.error = error;
    });
    this.thread.on('exit', (code) => {
      this.exitCode = code;
    });
  }

  count(message: string): number {
    return this.messages.filter((each) => each === message).length;
  }

  end(how: EngineWorkerEnding): void {
    this.thread.postMessage(how);
  }
}

interface Threads {
  readonly addresses: readonly SocketAddress[];
  readonly threads: readonly EngineThread[];
}

/** Starts `count` workers, each with a listener of its own, which relay to `origin`. */
async function startThreads(t: Test, origin: PeerServer, count: number): Promise<Threads> {
  const addresses: SocketAddress[] = [];
  const threads: EngineThread[] = [];
  for (let i = 0; i < count; i++) {
    const descriptor = openListener(at('127.0.0.1:0'));
    const thread = new EngineThread({ descriptor, origin: origin.address.toString() });
    t.teardown(async () => {
      await thread.thread.terminate();
      closeListener(descriptor);
    });
    threads.push(thread);
    addresses.push(at('127.0.0.1:0').withPort(listenerPort(descriptor)));
  }
  await until(() => threads.every((thread) => thread.count('ready') === 1), 'the workers listen');
  return { addresses, threads };
}

/** Under the sanitizers one round of every ending behind the first tells as much as nine. */
const CYCLES = process.env.FERRULE_SANITIZER === undefined ? 30 : 6;

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

t.test('several engines at once, each with connections of its own', async (t) => {
  const origin = await serve(t, (peer) => {
    peer.socket.pipe(peer.socket);
  });
  const { addresses, threads } = await startThreads(t, origin, 3);
  const clients = await Promise.all(
    Array.from({ length: 30 }, (_, index) => dial(t, addresses[index % addresses.length])),
  );
  await Promise.all(
    clients.map(async (client, index) => {
      client.expect(index);
      await client.stream(index, 1_000_000);
      client.socket.end();
    }),
  );
  await until(() => clients.every((client) => client.closed), 'all echoed');
  t.ok(clients.every((client) => client.intact && client.receivedBytes === 1_000_000 && !client.error));
  t.strictSame(
    threads.map((thread) => thread.count('relaying')),
    [10, 10, 10],
  );
});

/** Ways for a worker to end in the middle of relays, and what its parent is told. */
const ENDINGS: Record<
  string,
  { end: (threads: Threads, t: Test) => Promise<void>; error: RegExp | undefined }
> = {
  'terminate()': {
    end: async ({ threads }) => void (await threads[0].thread.terminate()),
    error: undefined,
  },
  'an exception outside handlers': {
    end: async ({ threads }) => threads[0].end('throw'),
    error: /thrown in the worker/,
  },
  'an exception inside a handler': {
    end: async ({ threads, addresses }, t) => {
      threads[0].end('handler');
      await until(() => threads[0].count('armed') === 1, 'armed');
      await dial(t, addresses[0]);
    },
    error: /thrown inside a handler/,
  },
  'process.exit()': { end: async ({ threads }) => threads[0].end('exit'), error: undefined },
  'stop() and nothing left to do': { end: async ({ threads }) => threads[0].end('stop'), error: undefined },
};

/** Clients in the middle of an upload, a download, and an idle relay whose client has ended its side. */
async function underWay(t: Test, { addresses }: Threads, origin: PeerServer): Promise<Peer[]> {
  const first = origin.peers.length;
  const clients: Peer[] = [];
  for (let i = 0; i < 3; i++) {
    clients.push(await dial(t, addresses[0]));
    await origin.peer(first + i);
  }
  const [uploads, downloads, idle] = clients;
  const [up, down] = origin.peers.slice(first);
  void uploads.stream(1, 10_000_000_000);
  void down.stream(2, 10_000_000_000);
  idle.socket.write('incomplete');
  await until(() => up.receivedBytes > 5_000_000 && downloads.receivedBytes > 5_000_000, 'bulk flows');
  await until(() => origin.peers[first + 2].text === 'incomplete', 'bytes of the third');
  return [...clients, ...origin.peers.slice(first, first + 3)];
}

for (const [name, { end, error }] of Object.entries(ENDINGS)) {
  t.test(`a worker that ends by ${name}: every peer sees a reset`, async (t) => {
    const origin = await serve(t);
    const all = await startThreads(t, origin, 2);
    const peers = await underWay(t, all, origin);
    const other = (await underWay(t, { ...all, addresses: [all.addresses[1]] }, origin))[0];
    await end(all, t);
    await until(() => all.threads[0].exitCode !== undefined, 'the end of the thread');
    await until(() => peers.every((peer) => peer.closed), 'the end of every connection');
    t.strictSame(
      peers.map((peer) => peer.ended),
      peers.map(() => false),
      'no end that looks orderly',
    );
    t.ok(
      peers.every((peer) => peer.error === 'ECONNRESET' || peer.error === 'EPIPE'),
      `${peers.map((peer) => peer.error)}`,
    );
    if (error === undefined) t.equal(all.threads[0].error, undefined);
    else t.match(all.threads[0].error?.message, error);
    t.equal(all.threads[1].exitCode, undefined, 'the other worker lives');
    const before = other.socket.bytesWritten;
    await until(() => other.socket.bytesWritten > before, 'and its relays flow');
    t.equal(other.error, undefined);
  });
}

t.test(`${CYCLES} workers started and ended leave no descriptor behind`, async (t) => {
  const origin = await serve(t);
  const descriptor = openListener(at('127.0.0.1:0'));
  t.teardown(() => closeListener(descriptor));
  const address = at('127.0.0.1:0').withPort(listenerPort(descriptor));
  const endings: (EngineWorkerEnding | 'terminate')[] = ['terminate', 'exit', 'stop'];
  let settled = 0;
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const thread = new EngineThread({ descriptor, origin: origin.address.toString() });
    await until(() => thread.count('ready') === 1, 'ready');
    const client = await dial(t, address);
    await until(() => thread.count('relaying') === 1, 'relaying');
    const ending = endings[cycle % endings.length];
    if (ending === 'terminate') await thread.thread.terminate();
    else thread.end(ending);
    await until(() => thread.exitCode !== undefined && client.closed, `cycle ${cycle} ended`);
    await until(() => origin.peers.every((peer) => peer.closed), 'both ends');
    t.equal(client.error, 'ECONNRESET', `cycle ${cycle}`);
    // The first ones open what the process keeps.
    if (cycle === 2) settled = openDescriptors();
  }
  await until(() => openDescriptors() <= settled, `no more than ${settled} descriptors`);
  t.ok(openDescriptors() <= settled, 'flat');
});

t.test('one engine a thread: a second is refused, another after stop() is not', async (t) => {
  const first = new TestEngine();
  t.throws(() => new TestEngine(), { message: /this thread has an engine already/ });
  const address = first.listen();
  const client = await dial(t, address);
  await until(() => first.accepts.length === 1, 'the first still works');
  await first.stop();
  await until(() => client.closed, 'its connections are reset');
  t.equal(client.error, 'ECONNRESET');
  t.doesNotThrow(() => first.engine.stop(), 'stopping twice');
  t.doesNotThrow(() => first.engine.reset(1), 'operations after the end are nothing');
  t.throws(() => first.engine.connect(address, false), { message: /not running/ });
  for (let i = 0; i < 20; i++) {
    const next = startEngine(t);
    const again = next.listen();
    const peer = await dial(t, again);
    await until(() => next.accepts.length === 1, `engine ${i} accepts`);
    next.engine.close(next.accepts[0].id);
    await until(() => peer.ended, 'and serves');
    await next.stop();
  }
  t.throws(() => new Engine(first, new Float64Array(3)), { message: /room for the engine's figures/ });
  const afterwards = new TestEngine();
  t.ok(afterwards, 'a refused start leaves the thread free');
  await afterwards.stop();
});

t.test('out of descriptors: accepting pauses without a spin and goes on by itself', async (t) => {
  const script = fileURLToPath(new URL('../support/engine-exhausted.ts', import.meta.url));
  const clientCount = 150;
  // Node raises its soft limit to the hard one at its start: only sh(1), which sets both, can limit it.
  const limited = 'unset NODE_OPTIONS; ulimit -n 100 && exec env LD_PRELOAD="$FERRULE_SANITIZER" "$@"';
  const child = spawn('/bin/sh', ['-c', limited, 'sh', process.execPath, script, String(clientCount)]);
  let output = '';
  child.stdout.on('data', (bytes) => (output += bytes));
  child.stderr.on('data', (bytes) => (output += bytes));
  t.teardown(() => child.kill('SIGKILL'));
  await until(() => output.includes('\n') || child.exitCode !== null, 'the child listens');
  const port = Number(/^port (\d+)$/m.exec(output)?.[1]);
  t.ok(port > 0, output);
  const clients = await Promise.all(
    Array.from({ length: clientCount }, () => dial(t, at(`127.0.0.1:${port}`))),
  );
  for (const client of clients) client.socket.on('end', () => client.socket.end());
  await until(() => child.exitCode !== null, 'the child is done', 60_000);
  t.equal(child.exitCode, 0, output);
  t.equal(output, `port ${port}\npaused\nat rest\nresumed\nserved\n`);
  t.ok(
    clients.every((client) => client.text === 'served' && client.error === undefined),
    'nobody is lost',
  );
});
