/** Calls of grpc-js whose messages are bytes, as promises. */

import {
  type CallOptions,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type StatusObject,
} from '@grpc/grpc-js';

const same = (bytes: Buffer) => bytes;

/** A call that has ended. */
export interface Answer {
  /** Undefined unless the status is OK. */
  readonly message: Buffer | undefined;
  readonly initial: Metadata;
  /** Its `metadata` are the trailers. */
  readonly status: StatusObject;
}

/** What comes with a call. */
export interface Extra {
  readonly metadata?: Metadata;
  /** Milliseconds from now. */
  readonly timeoutMs?: number;
}

/** One connection to a server. */
export class Stub {
  private readonly client: Client;

  constructor(address: string, options: ChannelOptions = {}) {
    this.client = new Client(address, credentials.createInsecure(), {
      'grpc.enable_http_proxy': 0,
      'grpc.max_receive_message_length': -1,
      ...options,
    });
  }

  close(): void {
    this.client.close();
  }

  /** One message each way. */
  unary(path: string, message: Buffer, extra: Extra = {}): Promise<Answer> {
    return new Promise((resolve) => {
      let answer: Buffer | undefined;
      let initial = new Metadata();
      const { metadata, options } = prepared(extra);
      const call = this.client.makeUnaryRequest(path, same, same, message, metadata, options, (_, value) => {
        answer = value;
      });
      call.on('metadata', (received) => {
        initial = received;
      });
      // The last event, also of a call that was answered.
      call.on('status', (status) => setImmediate(() => resolve({ message: answer, initial, status })));
    });
  }

  /** Many messages to the server, one back. `cancel` is told how to give the call up, after the messages were handed over. */
  input(path: string, messages: readonly Buffer[], cancel?: (giveUp: () => void) => void): Promise<Answer> {
    return new Promise((resolve) => {
      let answer: Buffer | undefined;
      const { metadata, options } = prepared({});
      const call = this.client.makeClientStreamRequest(path, same, same, metadata, options, (_, value) => {
        answer = value;
      });
      call.on('status', (status) =>
        setImmediate(() => resolve({ message: answer, initial: new Metadata(), status })),
      );
      for (const message of messages) call.write(message);
      if (cancel === undefined) call.end();
      else cancel(() => call.cancel());
    });
  }

  /** One message to the server, many back. */
  output(path: string, message: Buffer): Incoming {
    const { metadata, options } = prepared({});
    return new Incoming(this.client.makeServerStreamRequest(path, same, same, message, metadata, options));
  }

  /** Many messages each way. */
  duplex(path: string, extra: Extra = {}): Conversation {
    const { metadata, options } = prepared(extra);
    return new Conversation(this.client.makeBidiStreamRequest(path, same, same, metadata, options));
  }
}

function prepared({ metadata = new Metadata(), timeoutMs }: Extra): {
  metadata: Metadata;
  options: CallOptions;
} {
  return { metadata, options: timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs } };
}

/** Messages as they come from a server. */
export class Incoming {
  /** Resolves at the end of the call, however it ended. */
  readonly status: Promise<StatusObject>;
  readonly initial: Promise<Metadata>;
  private readonly waiting: ((message: Buffer | undefined) => void)[] = [];
  private readonly messages: Buffer[] = [];
  private ended = false;

  constructor(call: ClientReadableStream<Buffer> | ClientDuplexStream<Buffer, Buffer>) {
    this.status = new Promise((resolve) => call.on('status', resolve));
    this.initial = new Promise((resolve) => call.on('metadata', resolve));
    call.on('data', (message: Buffer) => {
      const receiver = this.waiting.shift();
      if (receiver === undefined) this.messages.push(message);
      else receiver(message);
    });
    const end = () => {
      this.ended = true;
      for (const receiver of this.waiting.splice(0)) receiver(undefined);
    };
    // The status says what was wrong.
    call.on('end', end).on('error', end);
  }

  /** The next message; undefined at the end. */
  next(): Promise<Buffer | undefined> {
    const message = this.messages.shift();
    if (message !== undefined || this.ended) return Promise.resolve(message);
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

/** Messages both ways. */
export class Conversation extends Incoming {
  private readonly call: ClientDuplexStream<Buffer, Buffer>;

  constructor(call: ClientDuplexStream<Buffer, Buffer>) {
    super(call);
    this.call = call;
  }

  send(message: Buffer): void {
    this.call.write(message);
  }

  end(): void {
    this.call.end();
  }

  cancel(): void {
    this.call.cancel();
  }
}
