/** The server of the gRPC interoperability tests on grpc-js: `node grpc-server.ts IP PORT`. */

import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  type UntypedHandleCall,
} from '@grpc/grpc-js';
import {
  type AskedAnswer,
  ECHOED,
  METHODS,
  numberMessage,
  payloadMessage,
  payloadOf,
  readPayload,
  readRequest,
} from './grpc-messages.ts';

type Unary = ServerUnaryCall<Buffer, Buffer>;
type Input = ServerReadableStream<Buffer, Buffer>;
type Output = ServerWritableStream<Buffer, Buffer>;
type Duplex = ServerDuplexStream<Buffer, Buffer>;
type Reply = sendUnaryData<Buffer>;

/** Calls that ended before we had finished them, by what they call themselves. */
const cancellations = new Map<string, number>();

function emptyCall(_call: Unary, reply: Reply): void {
  reply(null, Buffer.alloc(0));
}

function unaryCall(call: Unary, reply: Reply): void {
  const { sizes, status } = readRequest(call.request, false);
  const trailing = echo(call);
  if (status === undefined) reply(null, payloadMessage(payloadOf(sizes[0] ?? 0)), trailing);
  else reply({ code: status.code, details: status.message, metadata: trailing });
}

function streamingInput(call: Input, reply: Reply): void {
  countCancellation(call);
  let total = 0;
  call.on('data', (message: Buffer) => {
    total += readPayload(message).length;
  });
  call.on('end', () => reply(null, numberMessage(total)));
}

function streamingOutput(call: Output): void {
  countCancellation(call);
  answer(call, readRequest(call.request, true), new Metadata());
  call.end();
}

function fullDuplex(call: Duplex): void {
  countCancellation(call);
  const trailing = echo(call);
  call.on('data', (message: Buffer) => answer(call, readRequest(message, true), trailing));
  call.on('end', () => call.end(trailing));
}

/** One message for each size, and the end with a status where one is asked for. */
function answer(call: Output | Duplex, { sizes, status }: AskedAnswer, trailing: Metadata): void {
  for (const size of sizes) call.write(payloadMessage(payloadOf(size)));
  if (status !== undefined)
    call.emit('error', { code: status.code, details: status.message, metadata: trailing });
}

/** Sends initial metadata back. @returns what goes back with the status */
function echo(call: Unary | Duplex): Metadata {
  const back = (key: string): Metadata => {
    const metadata = new Metadata();
    for (const value of call.metadata.get(key)) metadata.add(key, value);
    return metadata;
  };
  call.sendMetadata(back(ECHOED.initial));
  return back(ECHOED.trailing);
}

function countCancellation(call: Input | Output | Duplex): void {
  const name = nameOf(call);
  call.on('cancelled', () => cancellations.set(name, (cancellations.get(name) ?? 0) + 1));
}

function nameOf({ metadata }: { readonly metadata: Metadata }): string {
  return String(metadata.get(ECHOED.initial));
}

function deadlineLeft(call: Unary): number {
  const deadline = Number(call.getDeadline());
  return Number.isFinite(deadline) ? Math.max(Math.round(deadline - Date.now()), 0) : 0;
}

/** What grpc-js wants to know about a method; messages stay bytes. */
function method(path: string, shape: 'unary' | 'input' | 'output' | 'duplex') {
  const same = (bytes: Buffer) => bytes;
  return {
    path,
    requestStream: shape === 'input' || shape === 'duplex',
    responseStream: shape === 'output' || shape === 'duplex',
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

const SERVED: readonly (readonly [ReturnType<typeof method>, UntypedHandleCall])[] = [
  [method(METHODS.emptyCall, 'unary'), emptyCall],
  [method(METHODS.unaryCall, 'unary'), unaryCall],
  [method(METHODS.streamingInput, 'input'), streamingInput],
  [method(METHODS.streamingOutput, 'output'), streamingOutput],
  [method(METHODS.fullDuplex, 'duplex'), fullDuplex],
  [
    method(METHODS.cancellations, 'unary'),
    (call: Unary, reply: Reply) => reply(null, numberMessage(cancellations.get(nameOf(call)) ?? 0)),
  ],
  [
    method(METHODS.deadline, 'unary'),
    (call: Unary, reply: Reply) => reply(null, numberMessage(deadlineLeft(call))),
  ],
];

if (import.meta.main) {
  const [host, port] = process.argv.slice(2);
  // Connections that nobody uses end soon: tests wait for the end of the proxies' own.
  const server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_connection_idle_ms': 2_000 });
  const definition = Object.fromEntries(SERVED.map(([definition]) => [definition.path, definition]));
  const handlers = Object.fromEntries(SERVED.map(([{ path }, handler]) => [path, handler]));
  server.addService(definition, handlers);
  server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error) => {
    if (error !== null) throw error;
  });
}
