/** gRPC as it is used, for as long as one likes: small messages on streams that stay, calls that are given up, pings, large metadata. Nobody is cut. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, status } from '@grpc/grpc-js';
import t from 'tap';
import { type Conversation, Stub } from '../support/grpc-calls.ts';
import {
  ECHOED,
  METHODS,
  payloadOf,
  readPayload,
  simpleRequest,
  streamingRequest,
} from '../support/grpc-messages.ts';
import { GRPC_JS } from '../support/grpc-programs.ts';
import { startProgram } from '../support/http-programs.ts';
import { watchMemory } from '../support/memory.ts';
import { startMeshed } from '../support/meshed.ts';
import type { TestProxy } from '../support/proxy.ts';

const SOAK = process.env.FERRULE_SOAK === '1';

/** Messages there and back, and how many of them before memory may not grow any more: heaps, compiled code, tables. The long form takes minutes. */
const MESSAGES = SOAK ? 1_000_000 : 6_000;
const WARM_UP_MESSAGES = SOAK ? 50_000 : 2_000;

const CLIENTS = 4;
/** Streams on each connection on which messages follow each other. */
const TALKS = 5;
/** Messages that are sent together. */
const BURST = 20;
/** Of a message, in bytes. */
const SMALL = 12;
/** Of the metadata of some calls, in bytes: half of what a head may have. */
const LARGE_METADATA = 30_000;
/** A client gives up so often, in ms: 20 calls a second. */
const GIVE_UP_MS = 50;

/** Between the sidecars: that of the first streams, one that is in use, and one that was left for it because of all that is cancelled. */
const MOST_OPEN = 3;

/** Between two looks at how far it has come, in ms. */
const LOOK_MS = 50;

/** What each proxy may grow by, however long it lasts, in bytes: what a heap takes before it is swept. */
const MAX_GROWTH = 24_000_000;

/** A connection of its own, with pings as often as grpc-js lets one. */
const OPTIONS = {
  'grpc.use_local_subchannel_pool': 1,
  'grpc.keepalive_time_ms': 200,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_metadata_size': 64 * 1024,
};

t.setTimeout(SOAK ? 1_800_000 : 120_000);

/** One application with a connection of its own. */
class Caller {
  /** Messages and calls that came to their end as they should. */
  messages = 0;
  calls = 0;
  /** What did not. */
  readonly wrong: string[] = [];
  private readonly stub: Stub;
  private readonly ended: Promise<unknown>;
  private stopping = false;

  constructor(address: string) {
    this.stub = new Stub(address, OPTIONS);
    const talks = Array.from({ length: TALKS }, () => this.talk());
    const others = [() => this.giveUp(), () => this.runOut(), () => this.sayMuch()];
    this.ended = Promise.all([...talks, ...others.map((call) => this.repeat(call))]);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.ended;
    this.stub.close();
  }

  /** Messages one at a time and many together, on one stream from the beginning to the end. */
  private async talk(): Promise<void> {
    const talk = this.stub.duplex(METHODS.fullDuplex);
    for (let turn = 0; !this.stopping && this.wrong.length === 0; turn++) {
      await this.exchange(talk, turn % 2 === 0 ? 1 : BURST);
      // Others want the machine as well.
      if (turn % 10 === 0) await sleep(1);
    }
    talk.end();
    this.expect('a stream', status.OK, (await talk.status).code);
  }

  private async exchange(talk: Conversation, count: number): Promise<void> {
    for (let n = 0; n < count; n++)
      talk.send(streamingRequest({ sizes: [SMALL], payload: payloadOf(SMALL) }));
    for (let n = 0; n < count; n++) {
      const message = await talk.next();
      if (message === undefined || !readPayload(message).equals(payloadOf(SMALL)))
        return void this.wrong.push('a message did not come back');
      this.messages++;
    }
  }

  /** A stream that is cancelled at its first message: one that is cancelled before, grpc-js 1.14 opens all the same, and never ends. */
  private async giveUp(): Promise<void> {
    const talk = this.stub.duplex(METHODS.fullDuplex);
    await this.exchange(talk, 1);
    talk.cancel();
    this.expect('a cancelled stream', status.CANCELLED, (await talk.status).code);
  }

  /** A stream whose deadline passes. */
  private async runOut(): Promise<void> {
    const talk = this.stub.duplex(METHODS.fullDuplex, { timeoutMs: GIVE_UP_MS });
    this.expect('a deadline', status.DEADLINE_EXCEEDED, (await talk.status).code);
  }

  private async sayMuch(): Promise<void> {
    const metadata = new Metadata();
    // Sent as base64, and sent back.
    metadata.set(ECHOED.trailing, randomBytes(LARGE_METADATA / 2));
    const request = simpleRequest({ sizes: [SMALL] });
    const answer = await this.stub.unary(METHODS.unaryCall, request, { metadata });
    const [back] = answer.status.metadata.get(ECHOED.trailing);
    if (String(back) !== String(metadata.get(ECHOED.trailing)[0]))
      this.wrong.push('metadata did not come back');
    this.expect(`large metadata: ${answer.status.details}`, status.OK, answer.status.code);
  }

  private async repeat(call: () => Promise<void>): Promise<void> {
    while (!this.stopping && this.wrong.length === 0) {
      await call();
      await sleep(GIVE_UP_MS);
    }
  }

  private expect(what: string, wanted: number, code: number): void {
    this.calls++;
    if (code !== wanted) this.wrong.push(`${what} ended with ${status[code]}`);
  }
}

t.test('clients of grpc-js through two sidecars with mutual TLS', async (t) => {
  const server = await startProgram(t, 'env', ({ port }) => GRPC_JS.server('127.0.0.1', port));
  const { outgoing, incoming } = await startMeshed(t, [server.address]);
  const callers = Array.from({ length: CLIENTS }, () => new Caller(String(outgoing.listeners[0])));
  await have(callers, WARM_UP_MESSAGES);
  const proxies: readonly TestProxy[] = [outgoing, ...incoming];
  const grown = watchMemory(proxies.map(({ pid }) => pid));
  await have(callers, MESSAGES);
  const growths = grown();
  const open = await outgoing.sum('tcp_open_connections', { peer: 'dst' });
  await Promise.all(callers.map((caller) => caller.stop()));

  const [messages, calls] = [
    sum(callers.map((each) => each.messages)),
    sum(callers.map((each) => each.calls)),
  ];
  t.strictSame(
    callers.flatMap(({ wrong }) => wrong),
    [],
    `${messages} messages and ${calls} calls as they should be`,
  );
  for (const growth of growths) t.ok(growth < MAX_GROWTH, `a proxy grew by ${growth} bytes`);
  for (const proxy of proxies)
    t.equal(await proxy.sum('ferrule_http2_connection_errors_total'), 0, 'none is cut');
  t.ok(open <= MOST_OPEN, `${open} connections between the sidecars`);
  t.equal(await outgoing.sum('tcp_open_total', { peer: 'src' }), CLIENTS, 'each kept its connection');
});

/** Waits until so many messages have come back, or one has not. */
async function have(callers: readonly Caller[], messages: number): Promise<void> {
  const isThere = () => sum(callers.map((each) => each.messages)) >= messages;
  while (!isThere() && callers.every(({ wrong }) => wrong.length === 0)) await sleep(LOOK_MS);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
