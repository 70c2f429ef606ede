/**
 * The client of the gRPC interoperability tests on grpc-js: `node grpc-client.ts IP:PORT` prints what came of each case as JSON. The
 * cases are those of gRPC's interop-test-descriptions.md; the last ones are ours.
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, status } from '@grpc/grpc-js';
import { type Answer, type Extra, Stub } from './grpc-calls.ts';
import {
  type AskedAnswer,
  ECHOED,
  METHODS,
  numberIn,
  payloadMessage,
  payloadOf,
  readPayload,
  simpleRequest,
  streamingRequest,
} from './grpc-messages.ts';

/** What came of a case; `wrong` is empty when it went as it must. */
export interface GrpcOutcome {
  readonly name: string;
  readonly wrong: string;
}

const EMPTY: Buffer = Buffer.alloc(0);
/** Payloads that the interoperability tests prescribe, of requests and answers. */
const LARGE = { request: 271_828, answer: 314_159 };
const REQUESTS = [27_182, 8, 1_828, 45_904];
const ANSWERS = [31_415, 9, 2_653, 58_979];
const MESSAGE = 'test status message';
const SPECIAL_MESSAGE = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
/** What a server may take to hear of a cancellation. */
const TOLD_MS = 10_000;
/** Far beyond what a call takes here; short enough to be told from the proxies' own limits. */
const DEADLINE_MS = 20_000;

type Case = (stub: Stub) => Promise<void>;

const asked = (sizes: readonly number[], payload = EMPTY): AskedAnswer => ({ sizes, payload });

function expectOk({ status: { code, details }, message }: Answer): Buffer {
  assert.equal(code, status.OK, details);
  assert.ok(message !== undefined, 'a message');
  return message;
}

async function expectUnary(stub: Stub, size: number, payload: Buffer, extra: Extra = {}): Promise<Answer> {
  const answer = await stub.unary(METHODS.unaryCall, simpleRequest(asked([size], payload)), extra);
  assert.ok(readPayload(expectOk(answer)).equals(payloadOf(size)), `the payload of ${size} bytes`);
  return answer;
}

async function emptyUnary(stub: Stub): Promise<void> {
  assert.equal(expectOk(await stub.unary(METHODS.emptyCall, EMPTY)).length, 0);
}

async function largeUnary(stub: Stub): Promise<void> {
  await expectUnary(stub, LARGE.answer, payloadOf(LARGE.request));
}

async function clientStreaming(stub: Stub): Promise<void> {
  const messages = REQUESTS.map((size) => payloadMessage(payloadOf(size)));
  assert.equal(numberIn(expectOk(await stub.input(METHODS.streamingInput, messages))), 74_922);
}

async function serverStreaming(stub: Stub): Promise<void> {
  const answer = stub.output(METHODS.streamingOutput, streamingRequest(asked(ANSWERS)));
  for (const size of ANSWERS) {
    assert.ok(readPayload((await answer.next())!).equals(payloadOf(size)), `the payload of ${size} bytes`);
  }
  assert.equal(await answer.next(), undefined);
  assert.equal((await answer.status).code, status.OK);
}

async function pingPong(stub: Stub): Promise<void> {
  const talk = stub.duplex(METHODS.fullDuplex);
  for (const [turn, size] of ANSWERS.entries()) {
    talk.send(streamingRequest(asked([size], payloadOf(REQUESTS[turn]))));
    assert.ok(readPayload((await talk.next())!).equals(payloadOf(size)), `the payload of ${size} bytes`);
  }
  talk.end();
  assert.equal(await talk.next(), undefined);
  assert.equal((await talk.status).code, status.OK);
}

async function emptyStream(stub: Stub): Promise<void> {
  const talk = stub.duplex(METHODS.fullDuplex);
  talk.end();
  assert.equal(await talk.next(), undefined);
  assert.equal((await talk.status).code, status.OK);
}

async function customMetadata(stub: Stub): Promise<void> {
  const metadata = new Metadata();
  const binary = Buffer.from([0xab, 0xab, 0xab]);
  metadata.add(ECHOED.initial, 'test_initial_metadata_value');
  metadata.add(ECHOED.trailing, binary);
  const expectEcho = (initial: Metadata, trailing: Metadata) => {
    assert.deepEqual(initial.get(ECHOED.initial), ['test_initial_metadata_value']);
    assert.deepEqual(trailing.get(ECHOED.trailing), [binary]);
  };
  const answer = await expectUnary(stub, LARGE.answer, payloadOf(LARGE.request), { metadata });
  expectEcho(answer.initial, answer.status.metadata);
  const talk = stub.duplex(METHODS.fullDuplex, { metadata });
  talk.send(streamingRequest(asked([LARGE.answer], payloadOf(LARGE.request))));
  assert.ok(readPayload((await talk.next())!).equals(payloadOf(LARGE.answer)));
  talk.end();
  assert.equal(await talk.next(), undefined);
  expectEcho(await talk.initial, (await talk.status).metadata);
}

/** In a unary call and in a stream. */
async function expectStatus(stub: Stub, message: string): Promise<void> {
  const asked: AskedAnswer = { sizes: [], status: { code: status.UNKNOWN, message } };
  const { status: ended } = await stub.unary(METHODS.unaryCall, simpleRequest(asked));
  assert.deepEqual([ended.code, ended.details], [status.UNKNOWN, message]);
  const talk = stub.duplex(METHODS.fullDuplex);
  talk.send(streamingRequest(asked));
  talk.end();
  const { code, details } = await talk.status;
  assert.deepEqual([code, details], [status.UNKNOWN, message]);
}

async function unimplemented(stub: Stub, path: string): Promise<void> {
  assert.equal((await stub.unary(path, EMPTY)).status.code, status.UNIMPLEMENTED);
  // The connection is as good as before.
  await emptyUnary(stub);
}

async function cancelAfterBegin(stub: Stub): Promise<void> {
  const { status: ended } = await stub.input(METHODS.streamingInput, [], (giveUp) => giveUp());
  assert.equal(ended.code, status.CANCELLED);
  await emptyUnary(stub);
}

/** Runs what makes a call with this metadata end early, and waits until the server has heard of it, once. */
async function expectServerTold(stub: Stub, leave: (metadata: Metadata) => Promise<void>): Promise<void> {
  const metadata = new Metadata();
  metadata.add(ECHOED.initial, randomUUID());
  const told = async () =>
    numberIn(expectOk(await stub.unary(METHODS.cancellations, EMPTY, { metadata: metadata.clone() })));
  await leave(metadata);
  const deadline = Date.now() + TOLD_MS;
  while ((await told()) === 0) {
    assert.ok(Date.now() < deadline, 'the server was not told that the call is over');
    await sleep(20);
  }
  assert.equal(await told(), 1);
}

async function cancelAfterFirstResponse(stub: Stub): Promise<void> {
  await expectServerTold(stub, async (metadata) => {
    const talk = stub.duplex(METHODS.fullDuplex, { metadata });
    talk.send(streamingRequest(asked([ANSWERS[0]], payloadOf(REQUESTS[0]))));
    assert.ok(readPayload((await talk.next())!).equals(payloadOf(ANSWERS[0])));
    talk.cancel();
    assert.equal((await talk.status).code, status.CANCELLED);
  });
}

async function timeoutOnSleepingServer(stub: Stub): Promise<void> {
  const talk = stub.duplex(METHODS.fullDuplex, { timeoutMs: 1 });
  talk.send(streamingRequest(asked([], payloadOf(REQUESTS[0]))));
  assert.equal((await talk.status).code, status.DEADLINE_EXCEEDED);
  await emptyUnary(stub);
}

/** A deadline long enough for the server to be in the middle of the call. */
async function timeoutInTheMiddle(stub: Stub): Promise<void> {
  await expectServerTold(stub, async (metadata) => {
    const talk = stub.duplex(METHODS.fullDuplex, { metadata, timeoutMs: 1_000 });
    talk.send(streamingRequest(asked([9])));
    assert.ok(readPayload((await talk.next())!).equals(payloadOf(9)));
    assert.equal(await talk.next(), undefined);
    assert.equal((await talk.status).code, status.DEADLINE_EXCEEDED);
  });
}

async function deadlineTold(stub: Stub): Promise<void> {
  const left = (extra: Extra) => stub.unary(METHODS.deadline, EMPTY, extra);
  assert.equal(numberIn(expectOk(await left({}))), 0, 'no deadline');
  const ms = numberIn(expectOk(await left({ timeoutMs: DEADLINE_MS })));
  assert.ok(ms > 0 && ms <= DEADLINE_MS, `${ms} ms of ${DEADLINE_MS} left`);
}

/** Calls of several shapes and sizes over one connection at once. */
async function mixedCalls(stub: Stub): Promise<void> {
  const unary = Array.from({ length: 300 }, async (_, index) => {
    await expectUnary(stub, (index * 997) % 40_000, payloadOf((index * 641) % 20_000));
  });
  const talks = Array.from({ length: 20 }, async (_, index) => {
    const talk = stub.duplex(METHODS.fullDuplex);
    for (let turn = 0; turn < 25; turn++) {
      const size = 1 + ((index + turn * 411) % 9_000);
      talk.send(streamingRequest(asked([size, size + 1], payloadOf(size))));
      for (const expected of [size, size + 1])
        assert.ok(readPayload((await talk.next())!).equals(payloadOf(expected)), `turn ${turn} of ${index}`);
    }
    talk.end();
    assert.equal((await talk.status).code, status.OK);
  });
  await Promise.all([...unary, ...talks]);
}

const CASES: Readonly<Record<string, Case>> = {
  empty_unary: emptyUnary,
  large_unary: largeUnary,
  client_streaming: clientStreaming,
  server_streaming: serverStreaming,
  ping_pong: pingPong,
  empty_stream: emptyStream,
  custom_metadata: customMetadata,
  status_code_and_message: (stub) => expectStatus(stub, MESSAGE),
  special_status_message: (stub) => expectStatus(stub, SPECIAL_MESSAGE),
  unimplemented_method: (stub) => unimplemented(stub, METHODS.unimplemented),
  unimplemented_service: (stub) => unimplemented(stub, METHODS.unimplementedService),
  cancel_after_begin: cancelAfterBegin,
  cancel_after_first_response: cancelAfterFirstResponse,
  timeout_on_sleeping_server: timeoutOnSleepingServer,
  timeout_in_the_middle: timeoutInTheMiddle,
  deadline_told: deadlineTold,
  mixed_calls: mixedCalls,
};

if (import.meta.main) {
  const stub = new Stub(process.argv[2]);
  const outcomes: GrpcOutcome[] = [];
  for (const [name, run] of Object.entries(CASES)) {
    const wrong = await run(stub).then(
      () => '',
      (error: Error) => `${error.message}\n${error.stack}`,
    );
    outcomes.push({ name, wrong });
  }
  stub.close();
  // Calls of a case that failed may still go on.
  process.stdout.write(JSON.stringify(outcomes), () => process.exit());
}
